"""`python -m app.review FOLDER`: opens the page on which people look through translations."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from app.__main__ import refuse, stay_private

if TYPE_CHECKING:
    import gradio as gr

COMMAND = "python -m app.review"


@dataclass(frozen=True, kw_only=True)
class ReviewOptions:
    """Look through translations that `python -m training.translate reference` made: accept, mend or reject each."""

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(help="folder with items.jsonl")]
    reviewer: Annotated[str, tyro.conf.arg(help="your name, which keeps your answers apart from those of others")] = ""
    lang: Annotated[str | None, tyro.conf.arg(help="the page's language, as en or ur; the browser's if not given")] = (
        None
    )
    port: Annotated[int, tyro.conf.arg(help="of the page, on 127.0.0.1 only; 0 takes a free one")] = 7861
    browser: Annotated[bool, tyro.conf.arg(help="open the page in the browser")] = True


def open_review(options: ReviewOptions, *, announce: Callable[[str], None]) -> "gr.Blocks":
    """The page, being served. Raises DataError, PortTaken, ValueError."""
    from app.review.page import build_review
    from app.server import WITHOUT_FIGURES, guarded, open_page
    from maya_core.languages import get_language

    os.environ.update(WITHOUT_FIGURES)
    language = get_language(options.lang).code if options.lang else None
    page = build_review(options.folder, language=language, reviewer=options.reviewer)
    open_page(
        page, port=options.port, browser=options.browser, announce=announce, command=COMMAND, app_options=guarded()
    )
    return page


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve the page until Ctrl-C."""
    options = tyro.cli(ReviewOptions, args=arguments, prog=COMMAND)
    stay_private(offline=True)  # before the libraries that it is about
    from app.server import PortTaken, until_interrupted
    from maya_core.errors import MayaError

    try:
        page = open_review(options, announce=lambda address: print(f"The review is at {address}", flush=True))
    except (MayaError, PortTaken, ValueError) as error:
        refuse(str(error))
    until_interrupted(page)


if __name__ == "__main__":
    main()
