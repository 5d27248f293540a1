"""Data sets that are no lists of conversations, but have a question and its answer, or a caption, in each row.

COCO's captions, VQAv2, CSV and TSV are written as JSON Lines into the cache once, record by record in their own order, and
read from there; JSON is read as it is, and becomes conversations as it is read.
"""

import csv
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from maya_core.errors import DataError
from maya_core.learning.data_languages import file_language
from maya_core.learning.formats import CHOSEN, LABEL, NO_PICTURES, TURNS, is_other_picture, sources, turns_of
from maya_core.learning.record_index import (
    BOM,
    LANGUAGE,
    Progress,
    RecordFile,
    cache_folder,
    made_in_cache,
    no_progress,
)
from maya_core.model.prompt import IMAGE

TABLES = (".csv", ".tsv")
# What a column is for, and names by which it is known where none is given.
COLUMNS = {
    "image": ("image", "images", "picture", "photo", "file", "file_name", "filename", "image_path", "path", "img"),
    "question": ("question", "prompt", "query", "instruction", "input"),
    "answer": ("answer", "answers", "response", "completion", "output", "caption", "text", "label"),
    "language": ("language", "lang", "locale"),
    "id": ("id",),
}
# What a caption answers, in the language of its file.
_DESCRIBE = {
    "en": "Describe the picture.",
    "zh": "描述这张图片。",
    "fr": "Décris l'image.",
    "es": "Describe la imagen.",
    "ru": "Опиши картинку.",
    "hi": "चित्र का वर्णन करो।",
    "ja": "画像を説明してください。",
    "ar": "صف الصورة.",
    "bn": "ছবিটির বর্ণনা দাও।",
    "ur": "تصویر بیان کریں۔",
}
_HEAD = 65_536  # bytes in which a file says what it is
_LONGEST_FIELD = 1 << 24  # characters
_BETWEEN = ",;\t|"  # cells of a CSV file
_SAID = re.compile(r"sep=(.)\r?\n", re.I)  # what Excel writes above the columns' names
_REST = "\0"  # key of the cells that are beyond the columns
# Of Alpaca's rows: the question, what belongs to it, and what was said before.
_INSTRUCTION, _INPUT, _HISTORY = "instruction", "input", "history"
_WATCHED = ("corrupt", "system", CHOSEN, LABEL, *NO_PICTURES)  # keys that say more of a record
_FIRST = 16  # rows that tell whether a file of JSON has conversations
# How a file of COCO's or VQAv2's begins; a record of a conversation begins with none of these.
_OF_COCO = re.compile(rb'\s*\{\s*"(info|licenses|categories|annotations|questions|task_type|data_type|data_subtype|'
                      rb'license|images"\s*:\s*\[\s*\{)')  # fmt: skip


def parse_columns(written: Sequence[str]) -> dict[str, str]:
    """Columns by what they are for, from `image=FILE`. Raises ValueError."""
    pairs = dict(one.partition("=")[::2] for one in written)
    if strange := [use for use, name in pairs.items() if use not in COLUMNS or not name]:
        raise ValueError(f"A column is said by {'=NAME, '.join(COLUMNS)}=NAME, not by {strange[0]!r}.")
    return pairs


def as_conversations(path: Path, *, columns: Mapping[str, str], cache: Path | None = None) -> Path | None:
    """The file of conversations that `path` is, or that was made of it; None for VQAv2's answers whose questions lie beside.

    columns: of a CSV or TSV file, by what they are for (COLUMNS). Raises DataError where it has none of what is needed.
    """
    is_table = path.suffix.lower() in TABLES
    if not is_table and not _is_coco(path):
        return path
    if not is_table and _questions_beside(path):
        return None
    status = path.stat()
    seen = f"{path.absolute()} {status.st_size} {status.st_mtime_ns} {sorted(columns.items())}"
    folder = (cache or cache_folder()) / hashlib.sha256(seen.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    made = folder / f"{path.name}.jsonl"
    if not made.is_file():
        with made_in_cache(made, path) as fresh, fresh.open("w", encoding="utf-8") as file:
            for record in _rows(path, columns) if is_table else _coco(path):
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
    return made


def turned(
    images: Sequence[Any], question: Any, answer: Any, *, before: Sequence[Sequence[str]] = (), **more: Any
) -> dict[str, Any]:
    """A record of one question about pictures, and its answer. Where no question says that it shows them, the first does.

    before: questions and answers that go before.
    """
    said = [*(text for pair in before for text in pair), question, answer]
    if images and isinstance(said[0], str) and not any(IMAGE in str(text) for text in said[::2]):
        said[0] = f"{IMAGE * len(images)}\n{said[0]}"
    turns = [{"from": "gpt" if place % 2 else "human", "value": text} for place, text in enumerate(said)]
    shown = {"image": images[0] if len(images) == 1 else list(images)} if images else {}
    return {**{name: value for name, value in more.items() if value not in (None, "")}, **shown, "conversations": turns}


def conversation_of(path: Path, row: Mapping[str, Any], named: Mapping[str, str]) -> dict[str, Any]:
    """A row as a conversation. named: which column is for what. Of several answers to a question, as VQA's, the one that was
    given most often. What tells of pictures elsewhere, or of none, stays with it."""
    cells: dict[str, Any] = {use: row.get(column) for use, column in named.items()}
    question, answer, image = (cells.pop(use, None) for use in ("question", "answer", "image"))
    answers = [_as_text(one) for one in answer] if isinstance(answer, list) else [_as_text(answer)]
    if answers and all(isinstance(one, str) for one in answers):
        [(answer, _)] = Counter(answers).most_common(1)
    if question and named["question"] == _INSTRUCTION:
        more, before = row.get(_INPUT), row.get(_HISTORY)
        question = f"{question}\n{more}" if more and isinstance(more, str) else question
        cells["before"] = before if isinstance(before, list) and all(map(_is_pair, before)) else ()
    more_told = [key for key in row if (key in _WATCHED or is_other_picture(key)) and key not in named.values()]
    cells |= {key: row[key] for key in more_told if row[key] not in (None, "")}
    shown = [] if image in (None, "") else sources(image)
    return turned(shown, question or described(path), "" if answer is None else answer, **cells)


def _as_text(answer: Any) -> Any:
    """An answer's words, also of VizWiz's object; what has none stays, to be refused."""
    if isinstance(answer, Mapping):
        answer = answer.get("answer", answer)
    is_number = isinstance(answer, int | float) and not isinstance(answer, bool)
    is_absent = isinstance(answer, float) and math.isnan(answer)  # as pandas writes it
    return "" if is_absent else str(answer) if is_number else answer


def _is_pair(one: Any) -> bool:
    return isinstance(one, list) and len(one) == 2 and all(isinstance(text, str) for text in one)


# --- JSON ---


class RowFile(RecordFile):
    """The records of a file of JSON whose objects are rows."""

    def __init__(
        self,
        path: Path,
        named: Mapping[str, str],
        *,
        cache: Path | None = None,
        on_progress: Progress = no_progress,
    ) -> None:
        """named: which key is for what."""
        self.named = dict(named)
        super().__init__(path, cache=cache, language=named.get("language", LANGUAGE), on_progress=on_progress)

    def __getitem__(self, number: int) -> dict[str, Any]:
        row = super().__getitem__(number)
        return row if turns_of(row) is not None else conversation_of(self.path, row, self.named)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"named": self.named}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.named = state["named"]
        super().__setstate__(state)


def open_json(
    path: Path, *, columns: Mapping[str, str], cache: Path | None = None, on_progress: Progress = no_progress
) -> RecordFile:
    """A file of conversations, or of rows; of which of the two, its first records tell.

    columns: keys of rows by what they are for. Raises DataError for rows of which that is not known.
    """
    file = RecordFile(path, cache=cache, on_progress=on_progress)
    rows = []
    for number in range(min(_FIRST, len(file))):
        try:
            rows.append(file[number])
        except DataError:  # which is told where the records are checked
            continue
    if not rows or any({*row} & {*TURNS} or turns_of(row) is not None for row in rows):
        return file
    keys = list(dict.fromkeys(key for row in rows for key in row))
    try:
        named = named_columns(path, keys, columns)
    except DataError:
        is_whole = path.suffix.lower() == ".json" and len(file) == 1
        within = [key for key in keys if _holds_records(rows[0][key])] if is_whole else []
        if not within:
            raise
        raise DataError(
            f"{path.name} is one object, whose records are in {', '.join(map(repr, within[:3]))}; save them as a list.",
            kind="missing-keys",
        ) from None
    return RowFile(path, named, cache=cache, on_progress=on_progress)


def _holds_records(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(one, dict) for one in value))


# --- CSV and TSV ---


def _rows(path: Path, columns: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(_LONGEST_FIELD)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            delimiter, lines = _delimiter(file, path)
            rows = csv.DictReader(file, delimiter=delimiter, restkey=_REST, strict=True)
            begun = lines + 1
            try:
                named = named_columns(path, rows.fieldnames or (), columns)
                begun = lines + rows.line_num + 1
                for row in rows:
                    if any(row.pop(_REST, ())):
                        raise csv.Error("more cells than columns")
                    cells = {name: cell.strip() for name, cell in row.items() if isinstance(cell, str)}
                    yield conversation_of(path, cells, named)
                    begun = lines + rows.line_num + 1
            except csv.Error as error:
                raise DataError(
                    f"{path.name}, line {begun}: this is no row of its table ({error}); put a text that has "
                    f"{delimiter!r} or a quote in quotes, and write its own quotes twice.",
                    kind="file",
                ) from None
    except UnicodeDecodeError:
        raise DataError(f"{path.name}: it is not in UTF-8; save it so.", kind="encoding") from None


def _delimiter(file: TextIO, path: Path) -> tuple[str, int]:
    """What stands between cells, and how many lines say so before the columns' names."""
    start = file.readline()
    if said := _SAID.match(start):
        return said[1], 1
    file.seek(0)
    return max(_BETWEEN, key=start.count) if path.suffix.lower() == ".csv" else "\t", 0


def named_columns(path: Path, there: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """Which column is for what. Raises DataError where that is not known."""
    if absent := [name for name in given.values() if name not in there]:
        raise DataError(f"{path.name} has no column {absent[0]!r}; it has {', '.join(there)}.", kind="missing-keys")
    by_name = {_folded(name): name for name in there}
    found = {use: by_name[name] for use, names in COLUMNS.items() for name in names[::-1] if name in by_name} | dict(
        given
    )
    if "answer" not in found or not found.keys() & {"image", "question"}:
        raise DataError(
            f"{path.name} has the columns {', '.join(there)}; say which are which by --columns image=NAME question=NAME "
            "answer=NAME.",
            kind="missing-keys",
        )
    for use, name in found.items():
        alike = [other for other in there if other == name or (use not in given and _folded(other) == _folded(name))]
        if len(alike) > 1:
            raise DataError(
                f"{path.name} has {len(alike)} columns called {name!r}; give each a name of its own.",
                kind="missing-keys",
            )
    return found


def _folded(column: str) -> str:
    return column.strip().lower()


# --- COCO's captions, and VQAv2's questions with their answers ---


def _is_coco(path: Path) -> bool:
    if path.suffix.lower() != ".json":
        return False
    return _OF_COCO.match(_head(path).removeprefix(BOM)) is not None


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        raise DataError(f"{path.name} is not valid JSON in UTF-8; get it again.", kind="not-json") from None
    return content if isinstance(content, dict) else {}


def _coco(path: Path) -> Iterator[dict[str, Any]]:
    content = _read(path)
    try:
        if "questions" in content:
            yield from _vqa(path, content)
        elif any("caption" in one for one in content.get("annotations", ())):
            names = {one["id"]: one["file_name"] for one in content["images"]}
            for one in content["annotations"]:
                yield turned([names[one["image_id"]]], described(path), one["caption"].strip(), id=one.get("id"))
        else:
            raise DataError(
                f"{path.name} has neither captions of COCO nor questions of VQAv2; write conversations.",
                kind="missing-keys",
            )
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path.name} lacks {error}, which COCO and VQAv2 have.", kind="missing-keys") from None


def _vqa(path: Path, content: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    answered = next((answers for file in _others(path) if (answers := _answers(file, content)) is not None), None)
    if answered is None:
        raise DataError(
            f"{path.name} has questions, and no file beside it has their annotations; put it there.", kind="file"
        )
    subtype = content.get("data_subtype", "")
    for one in content["questions"]:
        image = f"COCO_{subtype}_{one['image_id']:012d}.jpg"
        if one["question_id"] not in answered:
            raise DataError(
                f"{path.name} has question {one['question_id']}, and its annotations have not; get both of one split.",
                kind="missing-keys",
            )
        yield turned([image], one["question"], answered[one["question_id"]], id=one["question_id"])


def _answers(path: Path, questions: Mapping[str, Any]) -> dict[Any, str] | None:
    """Of VQAv2's annotations, if a file holds those of these questions."""
    content = _read(path)
    annotations = content.get("annotations")
    if not annotations or "question_id" not in annotations[0]:
        return None
    answers = {one["question_id"]: one["multiple_choice_answer"] for one in annotations}
    return answers if questions["questions"][0]["question_id"] in answers else None


def _others(path: Path) -> list[Path]:
    return [file for file in sorted(path.parent.glob("*.json")) if file != path and _is_coco(file)]


def _questions_beside(path: Path) -> bool:
    """Whether a file holds VQAv2's annotations, and another their questions."""
    head = _head(path)
    is_annotations = b'"question_id"' in head and b'"answers"' in head
    return is_annotations and any(b'"questions"' in _head(other) for other in _others(path))


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)


def described(path: Path) -> str:
    """What a caption answers, in the language that its file's name says."""
    return _DESCRIBE.get(file_language(path), _DESCRIBE["en"])
