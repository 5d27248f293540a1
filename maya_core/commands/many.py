"""`maya ask --out`: questions about many pictures, each on its own, a row of a table for each."""

import errno
import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from maya_core.commands.manner import Manner
from maya_core.commands.progress import Tell
from maya_core.commands.rows import Row, RowFile
from maya_core.errors import FileMissing, MayaError

if TYPE_CHECKING:
    from maya_core.answering.session import ChatSession

BATCH = 8  # questions that are answered at once; with more, one that is long keeps more of them waiting
MOST_LETTERS = 20_000_000  # in a file of questions; a device has no end
PICTURES = (
    ".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp",
)  # fmt: skip


def pictures_of(names: Sequence[str]) -> list[str]:
    """The files that are named, in folders the pictures there and below, and those that a pattern finds."""
    found = list(dict.fromkeys(path for name in names for path in _found(name)))
    if not found:
        raise MayaError("There is no picture there; check the path.")
    return found


def _found(name: str) -> Iterator[str]:
    if os.path.isdir(name):
        yield from filter(_is_picture, map(str, sorted(Path(name).rglob("*"))))
    elif os.path.isfile(name):
        yield name
    elif glob.has_magic(name):
        yield from filter(_is_picture, sorted(glob.glob(name, recursive=True)))
    else:
        raise FileMissing(f"There is no file {name}; check the path.")


def _is_picture(file: str) -> bool:
    """By its name; a file that is named by itself may be called as it likes."""
    return Path(file).suffix.lower() in PICTURES and os.path.isfile(file)


def questions_in(file: Path) -> list[str]:
    """The lines of a file that are not empty."""
    try:
        with file.open(encoding="utf-8-sig") as text:
            read = text.read(MOST_LETTERS)
            if len(read) == MOST_LETTERS:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    except (OSError, UnicodeDecodeError):
        raise MayaError(f"{file} cannot be read; give a text file with a question on each line.") from None
    questions = [line.strip() for line in read.splitlines()]
    if not any(questions):
        raise MayaError(f"There is no question in {file}; write one on each line.")
    return list(dict.fromkeys(question for question in questions if question))


def answer_all(
    session: "ChatSession", manner: Manner, pairs: Sequence[tuple[str, str]], file: RowFile, tell: Tell
) -> int:
    """Answer each (picture, question), a row of `file` for each; how many could not be answered."""
    failed = 0
    for start in range(0, len(pairs), BATCH):
        tell(f"{start} of {len(pairs)} answered", start / len(pairs))
        rows = _answered(session, manner, pairs[start : start + BATCH])
        file.add(rows)
        failed += sum(bool(row.error) for row in rows)
    return failed


def _answered(session: "ChatSession", manner: Manner, pairs: Sequence[tuple[str, str]]) -> list[Row]:
    """A row for each, in order. One that keeps the others from being answered is found by answering each alone."""
    from maya_core.model.images import open_image

    rows, asked = {}, {}
    for pair in pairs:
        row = Row(picture=pair[0], question=pair[1])
        try:
            messages, language = manner.messages(session, row.question, [open_image(row.picture)])
            asked[pair] = messages
            rows[pair] = replace(row, language=language.code)
        except MayaError as error:
            rows[pair] = replace(row, error=str(error))
    try:
        answers = session.answers(list(asked.values()), manner.options)
        rows |= {pair: replace(rows[pair], answer=answer) for pair, answer in zip(asked, answers, strict=True)}
    except MayaError as error:
        if len(pairs) > 1:
            return [row for pair in pairs for row in _answered(session, manner, [pair])]
        rows = {pair: replace(rows[pair], error=str(error)) for pair in pairs}
    return [rows[pair] for pair in pairs]
