"""Data sets that are no lists of conversations: COCO's captions, VQAv2, CSV and TSV. They are written as JSON Lines into the
cache once, record by record in their own order, and read from there.
"""

import csv
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from maya_core.errors import DataError
from maya_core.learning.data_languages import file_language
from maya_core.learning.record_index import BOM, cache_folder
from maya_core.model.prompt import IMAGE

TABLES = (".csv", ".tsv")
# What a column is for, and names by which it is known where none is given.
COLUMNS = {
    "image": ("image", "picture", "photo", "file", "file_name", "filename", "image_path", "path", "img"),
    "question": ("question", "prompt", "query", "instruction"),
    "answer": ("answer", "response", "caption", "text", "label"),
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
        folder.mkdir(parents=True, exist_ok=True)
        fresh = made.with_suffix(f".{os.getpid()}")
        try:
            with fresh.open("w", encoding="utf-8") as file:
                for record in _rows(path, columns) if is_table else _coco(path):
                    file.write(json.dumps(record, ensure_ascii=False) + "\n")
            os.replace(fresh, made)
        finally:
            fresh.unlink(missing_ok=True)
    return made


def turned(images: Sequence[Any], question: str, answer: str, **more: Any) -> dict[str, Any]:
    """A record of one question about pictures, and its answer."""
    shown = {"image": images[0] if len(images) == 1 else list(images)} if images else {}
    asked = f"{IMAGE * len(images)}\n{question}" if images else question
    turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": answer}]
    return {**{name: value for name, value in more.items() if value not in (None, "")}, **shown, "conversations": turns}


# --- CSV and TSV ---


def _rows(path: Path, columns: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(_LONGEST_FIELD)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            start = file.readline()
            file.seek(0)
            between = max(",;\t", key=start.count) if path.suffix.lower() == ".csv" else "\t"
            rows = csv.DictReader(file, delimiter=between)
            named = named_columns(path, rows.fieldnames or (), columns)
            for row in rows:
                cells = {use: (row.get(column) or "").strip() for use, column in named.items()}
                question = cells.pop("question", "") or described(path)
                image = cells.pop("image", "")
                yield turned([image] if image else [], question, cells.pop("answer"), **cells)
    except UnicodeDecodeError:
        raise DataError(f"{path.name}: it is not in UTF-8; save it so.", kind="encoding") from None
    except csv.Error as error:
        raise DataError(f"{path.name} cannot be read as a table ({error}).", kind="file") from None


def named_columns(path: Path, there: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """Which column is for what. Raises DataError where that is not known."""
    if absent := [name for name in given.values() if name not in there]:
        raise DataError(f"{path.name} has no column {absent[0]!r}; it has {', '.join(there)}.", kind="missing-keys")
    by_name = {name.strip().lower(): name for name in there}
    found = {use: by_name[name] for use, names in COLUMNS.items() for name in names[::-1] if name in by_name} | dict(
        given
    )
    if "answer" not in found or not found.keys() & {"image", "question"}:
        raise DataError(
            f"{path.name} has the columns {', '.join(there)}; say which are which by --columns image=NAME question=NAME "
            "answer=NAME.",
            kind="missing-keys",
        )
    return found


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
