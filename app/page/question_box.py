"""Where a question is put together; and below it what the last answer took, and the camera.

What is in the box changes in the browser alone, at once: the server's word would come over what was typed meanwhile.
"""

import gradio as gr

from app.history import Entry
from app.i18n import Say, format_seconds, format_whole
from app.page.head import ADD_PHOTO
from app.page.services import Services
from app.page.words import Words

LONGEST_TEXT = (
    10**9
)  # gradio would make a file of what is longer; whether it is too long for a question, is told when asked
IDLE = {"submit_btn": True, "stop_btn": False}  # the question box while no answer is made
BUSY = {"submit_btn": False, "stop_btn": True}


class QuestionBox:
    """The question box, statistics and the camera. asked: what was sent, on its way to the server. returned: what comes
    back from there because of trouble. Both are boxes, so that gradio looks after their pictures as after the box's."""

    def __init__(self, services: Services, words: Words) -> None:
        self.services = services
        self.question = words.add(
            gr.MultimodalTextbox(
                elem_id="maya-question",
                show_label=False,
                file_count="multiple",
                sources=["upload"],
                max_plain_text_length=LONGEST_TEXT,
                autofocus=True,
                stop_btn=False,
            ),
            lambda say, _: {"placeholder": say("Add a picture and type a question"), "label": say("Question")},
        )
        self.asked, self.returned = (gr.MultimodalTextbox(visible="hidden", file_count="multiple") for _ in range(2))
        with gr.Row(elem_id="maya-foot"):
            self.statistics = gr.Markdown(elem_id="maya-statistics")
            with words.add(
                gr.Accordion(open=False, elem_id="maya-camera"), lambda say, _: {"label": say("Take a picture")}
            ):
                self.camera = gr.Image(
                    sources=["webcam"], type="filepath", show_label=False, height=240, buttons=[], format="png"
                )

    def wire(self) -> None:
        both = [self.question, self.camera]
        self.camera.change(None, both, both, js=ADD_PHOTO)

    def figures(self, answer: Entry | None, code: str) -> str:
        """What an answer took, for the statistics; empty before its first token."""
        if answer is None or not answer.tokens:
            return ""
        native = self.services.kept.load().native_digits
        seconds = max(answer.seconds, 0.01)
        return Say(code).number(
            "{count} token, {rate} a second, {seconds}",
            "{count} tokens, {rate} a second, {seconds}",
            answer.tokens,
            count=format_whole(answer.tokens, code, native_digits=native),
            rate=format_whole(round(answer.tokens / seconds), code, native_digits=native),
            seconds=format_seconds(seconds, code, native_digits=native),
        )
