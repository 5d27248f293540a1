"""CVQA: questions about the pictures of a culture, in its language. Layout: parquet files, as on the hub."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from maya_core.errors import DataError
from training.benchmarks.base import LETTER, Answered, Benchmark, Item
from training.benchmarks.files import field, one_of
from training.benchmarks.marking import LETTERS, chosen_option, lettered

COLUMNS = ("image", "ID", "Subset", "Question", "Options", "Label", "Category")
LANGUAGES = {
    "Amharic": "am", "Arabic": "ar", "Egyptian_Arabic": "ar", "Bengali": "bn", "Breton": "br", "Bulgarian": "bg",
    "Chinese": "zh", "Filipino": "fil", "French": "fr", "Hindi": "hi", "Igbo": "ig", "Indonesian": "id", "Irish": "ga",
    "Japanese": "ja", "Javanese": "jv", "Kinyarwanda": "rw", "Korean": "ko", "Malay": "ms", "Marathi": "mr",
    "Minangkabau": "min", "Mongolian": "mn", "Norwegian": "no", "Oromo": "om", "Portuguese": "pt", "Romanian": "ro",
    "Russian": "ru", "Sinhala": "si", "Spanish": "es", "Sundanese": "su", "Swahili": "sw", "Tamil": "ta", "Telugu": "te",
    "Urdu": "ur", "English": "en",
}  # fmt: skip


class Cvqa(Benchmark):
    """Right in percent, of all and of each country."""

    name = "cvqa"

    def items(self, folder: Path) -> list[Item]:
        one_of(folder, "**/*.parquet")
        items = [_item(row, file) for file in sorted(folder.rglob("*.parquet")) for row in _rows(file)]
        known = [item for item in items if item is not None]
        if not known:
            raise DataError("No row has a label: this copy's answers are with its makers; take a split that has them.")
        return known

    def credit(self, answered: Answered) -> float:
        letter, options = answered.item.reference
        return float(chosen_option(answered.answer, options) == letter)


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow.parquet
    except ImportError:
        raise DataError("CVQA's files are parquet; pip install 'maya[evaluate]' to read them.") from None
    for batch in pyarrow.parquet.ParquetFile(file).iter_batches(columns=list(COLUMNS)):
        yield from batch.to_pylist()


def _item(row: dict[str, Any], file: Path) -> Item | None:
    subset = field(row, "Subset", file)
    name, country = ast.literal_eval(subset) if subset.startswith("(") else (subset, "")
    if name not in LANGUAGES:
        raise DataError(f"{file.name} has questions in {name!r}, which CVQA does not.")
    options = tuple(option.strip() for option in row["Options"])
    if not 0 <= row["Label"] < len(options):
        return None
    return Item(
        id=row["ID"],
        language=LANGUAGES[name],
        prompt=f"{row['Question'].strip()}\n{lettered(options)}",
        request=LETTER,
        picture=row["image"]["bytes"],
        reference=(LETTERS[row["Label"]], options),
        groups=(country,) if country else (),
    )
