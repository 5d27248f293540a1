"""The page: layout and wiring only."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from app.chat import EMPTY, History, Typed, respond
from app.engine import Engine
from app.i18n import SOURCE, language_choices, preferred_language, translate
from maya_core.assets import asset_path

THEME = Path(__file__).parent / "theme"
EXAMPLE_QUESTIONS = (
    "What is this?",
    "How many things are in the picture?",
    "What colour is the background?",
)
ABOUT = (
    "The answers are made on this computer. Nothing that you show or type leaves it.",
    "The small model that comes with Maya knows drawings of everyday things, not photographs.",
)
IDLE = {"submit_btn": True, "stop_btn": False}
BUSY = {"submit_btn": False, "stop_btn": True}
SET_LANGUAGE = "(code) => { window.mayaSetLanguage(code); return code; }"


def build_page(engine: Engine) -> gr.Blocks:
    """The whole page, over any engine."""
    with gr.Blocks(title="Maya", analytics_enabled=False, delete_cache=(600, 600)) as page:
        with gr.Row(elem_id="maya-top"):
            title = gr.Markdown(elem_id="maya-title")
            language = gr.Dropdown(language_choices(), value=SOURCE, elem_id="maya-language", min_width=140, scale=0)
        conversation = gr.Chatbot(
            elem_id="maya-conversation",
            show_label=False,
            height="54vh",
            buttons=["copy"],
            render_markdown=True,
            allow_tags=False,
            latex_delimiters=[],
            feedback_options=None,
        )
        notice = gr.Markdown(elem_id="maya-notice")
        question = gr.MultimodalTextbox(
            elem_id="maya-question",
            show_label=False,
            file_count="single",
            sources=["upload"],
            stop_btn=False,
            max_plain_text_length=8000,
            autofocus=True,
        )
        new = gr.Button(elem_id="maya-new", size="sm")
        about = gr.Markdown(elem_id="maya-about")

        def words(code: str) -> tuple[Any, ...]:
            """Every text of the page in a language."""
            return (
                gr.update(value=f"# {translate('Ask Maya about a picture', code)}"),
                gr.update(label=translate("Language", code)),
                gr.update(examples=_examples(code)),
                gr.update(placeholder=translate("Add a picture and type a question", code)),
                gr.update(value=translate("New conversation", code)),
                gr.update(value=_about(code)),
            )

        texts = [title, language, conversation, question, new, about]

        def greet(kept: str | None, request: gr.Request) -> tuple[Any, ...]:
            code = kept or preferred_language(request.headers.get("accept-language", ""))
            first, _, *rest = words(code)
            return first, gr.update(value=code, label=translate("Language", code)), *rest

        def answer(typed: Typed, history: History, code: str) -> Iterator[tuple[Any, History, str]]:
            box, shown_history, told = typed, history, ""
            for box, shown_history, told in respond(engine, typed, history, code):
                yield gr.update(value=box, **BUSY), shown_history, told
            yield gr.update(value=box, **IDLE), shown_history, told

        def take_example(code: str, chosen: gr.SelectData) -> Typed:
            number = chosen.index if isinstance(chosen.index, int) else chosen.index[0]
            example = _examples(code)[number]
            return {"text": example["text"], "files": example["files"]}

        kept_language = gr.BrowserState(None, storage_key="maya-language")
        page.load(greet, [kept_language], texts, show_progress="hidden").then(
            None, [language], [language], js=SET_LANGUAGE
        )
        language.input(words, [language], texts, show_progress="hidden").then(
            lambda code: code, [language], [kept_language], js=SET_LANGUAGE, show_progress="hidden"
        )
        asking: dict[str, Any] = {
            "fn": answer,
            "inputs": [question, conversation, language],
            "outputs": [question, conversation, notice],
            "show_progress": "hidden",
            "concurrency_limit": 1,
        }
        submitted = question.submit(**asking)
        chosen = conversation.example_select(take_example, [language], [question], show_progress="hidden").then(
            **asking
        )
        question.stop(
            lambda: gr.update(**IDLE), outputs=[question], cancels=[submitted, chosen], show_progress="hidden"
        )
        new.click(
            lambda: ([], "", gr.update(value=EMPTY, **IDLE)),
            outputs=[conversation, notice, question],
            cancels=[submitted, chosen],
            show_progress="hidden",
        )
    return page


def _examples(code: str) -> list[dict[str, Any]]:
    pictures = sorted(asset_path("examples").glob("*.png"))
    return [
        {"text": translate(text, code), "files": [str(picture)]}
        for text, picture in zip(EXAMPLE_QUESTIONS, pictures, strict=False)
    ]


def _about(code: str) -> str:
    return " ".join(translate(sentence, code) for sentence in ABOUT)


def page_head() -> str:
    """Style and script of the page, from files; inline, because gradio rewrites what it is given as css."""
    style = (THEME / "style.css").read_text("utf-8")
    script = (THEME / "direction.js").read_text("utf-8")
    return f"<style>{style}</style><script>{script}</script>"
