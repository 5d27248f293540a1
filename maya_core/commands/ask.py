"""`maya ask`. Heavy libraries are imported late, after what can be wrong with its words has been told."""

import glob
import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from maya_core.commands.arguments import Model
from maya_core.commands.manner import Manner
from maya_core.commands.many import answer_all, pictures_of, questions_in
from maya_core.commands.opening import here, open_session
from maya_core.commands.progress import Tell, telling
from maya_core.commands.rows import RowFile
from maya_core.errors import FileMissing, MayaError

if TYPE_CHECKING:
    from maya_core.answering.language import AnswerLanguage
    from maya_core.answering.session import Delta

PIPE = "-"  # in place of a file or a question: what comes through the pipe
PARTLY = 1  # exit status where some of many questions could not be answered


def ask(
    words: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar="PICTURE... QUESTION",
            help="the pictures' files, then the question, in one of Maya's ten languages; `-` for what is piped in; with "
            '--out also folders and "patterns*.jpg"',
            help_behavior_hint="(required)",
        ),
    ],
    model: Model = None,
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    answer_in: str | None = None,
    system: str | None = None,
    json: bool = False,
    out: Path | None = None,
    questions: Path | None = None,
) -> None:
    """Ask a question about a picture or several; the answer comes in the question's language or another, word by word.

    With --out FILE each picture is asked about on its own, and each answer is a row of a table.

    Args:
        max_new_tokens: longest answer
        temperature: 0 gives the likeliest answer, more gives more varied ones
        answer_in: language of the answer, one of en, zh, fr, es, ru, hi, ja, ar, bn, ur; the question's if not given
        system: what the model is told before the question, such as how to answer
        json: one JSON object: text, language, tokens, and seconds to the first word and to the last
        out: a .csv or .jsonl file, to write a row into for each picture and question that it has no answer of yet
        questions: with --out, a text file with a question on each line, in place of the question
    """
    is_table = out is not None or questions is not None
    if is_table and json:
        raise MayaError("--json is for one question; a table is JSON where --out ends in .jsonl.")
    pairs, rows = _table(words, questions, out) if is_table else ([], None)
    pictures, text = ([], "") if is_table else _asked(words)
    manner = Manner.of(max_new_tokens=max_new_tokens, temperature=temperature, answer_in=answer_in, system=system)
    if rows is not None:
        _ask_many(pairs, rows, manner, model)
    else:
        _ask_one(pictures, text, manner, model, as_json=json)


# --- one question ---


def _asked(words: Sequence[str]) -> tuple[list[Path | bytes], str]:
    """Pictures and question, before anything heavy is loaded: a path, or the bytes that come through the pipe."""
    if len(words) < 2:
        raise MayaError("Give a picture and a question: maya ask PICTURE... QUESTION.")
    *names, question = words
    if list(words).count(PIPE) > 1:
        raise MayaError("Only one thing can come through the pipe; name the other.")
    for name in names:
        if os.path.isdir(name) or (glob.glob(name) and not os.path.exists(name)):
            raise MayaError(f"{name} is not a picture; with --out answers.csv each picture there is asked about.")
        if name != PIPE and not os.path.exists(name):  # also what a shell calls /dev/fd/63
            raise FileMissing(f"There is no file {name}; check the path.")
    if PIPE not in words:
        return [Path(name) for name in names], _sayable(question)
    from maya_core.model.images import MOST_BYTES

    most = MOST_BYTES + 1  # which a picture may not have, and far more letters than a question may
    if question == PIPE:
        question = sys.stdin.read(most).strip()
    return [sys.stdin.buffer.read(most) if name == PIPE else Path(name) for name in names], _sayable(question)


def _sayable(question: str) -> str:
    """As a model is asked. Raises PromptError where it cannot be."""
    from maya_core.model.prompt import clean_text

    return clean_text(question)


def _ask_one(
    pictures: Sequence[Path | bytes], question: str, manner: Manner, model: str | None, *, as_json: bool
) -> None:
    from maya_core.model.images import of_each, open_image

    images = of_each(open_image, pictures)
    folder = here(model)
    with ExitStack() as waiting:
        tell = waiting.enter_context(telling())
        tell("Starting")
        session = open_session(folder, tell)
        messages, language = manner.messages(session, question, images)
        _tell_notice(language)
        reading = "Reading the picture and the question"
        deltas = session.deltas(messages, manner.options, on_progress=lambda share: tell(reading, share))
        words = (delta.text for delta in deltas if delta.text)
        answer = iter([_as_json(deltas, language.code, tell)]) if as_json else words
        first = next(answer, "")
        waiting.close()
        for piece in chain([first], answer):
            print(piece, end="", flush=True)
    print()


def _tell_notice(language: "AnswerLanguage") -> None:
    if language.notice:
        print(language.notice, file=sys.stderr)


def _as_json(deltas: Iterable["Delta"], language: str, tell: Tell) -> str:
    started = time.monotonic()
    text, tokens, first = "", 0, None
    for delta in deltas:
        text, tokens = text + delta.text, delta.tokens
        tell("Writing the answer")
        if text.strip() and first is None:
            first = round(time.monotonic() - started, 3)
    seconds = round(time.monotonic() - started, 3)
    fields = {"text": text, "language": language, "tokens": tokens, "seconds_to_first_word": first, "seconds": seconds}
    return json.dumps(fields, ensure_ascii=False)


# --- many ---


def _table(words: Sequence[str], questions: Path | None, out: Path | None) -> tuple[list[tuple[str, str]], RowFile]:
    """(picture, question) of each row that is still to be written, and where to."""
    if out is None:
        raise MayaError("Questions from a file are answered into another: add --out answers.csv.")
    names, asked = (words, questions_in(questions)) if questions else (words[:-1], list(words[-1:]))
    if not names:
        raise MayaError("Give pictures and a question: maya ask PICTURES... QUESTION --out answers.csv.")
    for question in words[-1:] if questions is None else ():
        _sayable(question)
    pairs = [(picture, question) for picture in pictures_of(names) for question in asked]
    rows = RowFile(out)
    return [pair for pair in pairs if pair not in rows], rows


def _ask_many(pairs: Sequence[tuple[str, str]], rows: RowFile, manner: Manner, model: str | None) -> None:
    failed = 0
    if pairs:
        folder = here(model)
        with telling() as tell:
            tell("Starting")
            session = open_session(folder, tell)
            rows.forget_failed(pairs)
            failed = answer_all(session, manner, pairs, rows, tell)
    told = f"{len(pairs) - failed} answered in {rows.path}"
    if were_there := len(rows.done) + len(rows.failed):
        told += f", {were_there} were there"
    print(f"{told}; {failed} failed, and the column error says why." if failed else f"{told}.", file=sys.stderr)
    if failed:
        sys.exit(PARTLY)
