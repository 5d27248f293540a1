"""Check training data before a run: `python -m training.validate DATA --images DIR`.

Lists by kind every defect that would stop the run or leave a record out of it, and some that a person should look at.
"""

import base64
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from maya_core.errors import MayaError
from maya_core.learning.conversation_files import data_files, open_files
from maya_core.learning.data_languages import UNKNOWN, file_language
from maya_core.learning.record_index import Records
from maya_core.learning.splits import TRAIN
from maya_core.learning.tables import parse_columns
from maya_core.weights.durable import file_written
from training.checks import Findings, PictureChecks, RecordChecks, check_files
from training.command import STOPPED, ended


@dataclass(frozen=True, kw_only=True)
class ValidateOptions:
    """Check training data: list every defect by kind, with its first places. Exit status 1 where a record or a file
    cannot be trained on, 2 where there is nothing to check."""

    data: Annotated[
        tyro.conf.Positional[tuple[Path, ...]],
        tyro.conf.arg(help="files of records or folders of them; training/README.md lists them"),
    ]
    images: Annotated[Path | None, tyro.conf.arg(help="folder of the pictures; not looked at if not given")] = None
    decode: Annotated[bool, tyro.conf.arg(help="read pictures to the end, not only their headers")] = True
    model: Annotated[
        str | None, tyro.conf.arg(help="folder or repository of the model whose context conversations must fit")
    ] = None
    max_length: Annotated[int, tyro.conf.arg(help="tokens of a conversation that are kept, told with --model")] = 2048
    columns: Annotated[
        tuple[str, ...],
        tyro.conf.arg(help="of rows (CSV, TSV, Parquet, JSON), such as image=FILE question=Q answer=A language=L"),
    ] = ()
    split: Annotated[str, tyro.conf.arg(help="of a folder that has several, or all")] = TRAIN
    captions: Annotated[bool, tyro.conf.arg(help="questions may be nothing but a picture, as in pretraining")] = False
    add_markers: Annotated[bool, tyro.conf.arg(help="pictures that no <image> asks for go in front")] = False
    write_clean: Annotated[
        Path | None, tyro.conf.arg(help="JSON Lines file for the records that can be trained on")
    ] = None
    json: Annotated[Path | None, tyro.conf.arg(help="file for the findings, with every place")] = None
    cache: Annotated[Path | None, tyro.conf.arg(help="folder for indexes; the platform's own if not given")] = None

    def __post_init__(self) -> None:
        parse_columns(self.columns)


def validate(options: ValidateOptions, console: Console) -> Findings:
    """Index the files, check their records, and show a bar meanwhile; write those that are good where that is asked for."""
    if options.images is not None and not options.images.is_dir():
        raise MayaError(f"There is no folder {options.images}; give --images the folder that the pictures are in.")
    shown = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*shown, console=console, transient=True, disable=not console.is_terminal) as progress:
        indexing = progress.add_task("finding records, bytes", total=None)
        columns = parse_columns(options.columns)
        how: dict[str, Any] = {
            "columns": columns,
            "splits": (options.split,),
            "cache": options.cache,
            "tell": console.print,
        }
        files = open_files(
            [file for source in options.data for file in data_files(source, **how)],
            columns=columns,
            cache=options.cache,
            on_progress=lambda done, size: progress.update(indexing, completed=done, total=size),
        )
        checking = progress.add_task("checking records", total=sum(map(len, files)))
        findings = check_files(
            files,
            _checks(options),
            on_record=lambda count: progress.advance(checking, count),
            all_places=options.json is not None,
        )
    if options.write_clean:
        _write_clean(files, findings, options.write_clean)
    return findings


def _write_clean(files: Sequence[Records], findings: Findings, destination: Path) -> None:
    """The records that can be trained on as they are, with the language that their file's name says."""
    with file_written(destination) as fresh, fresh.open("w", encoding="utf-8") as opened:
        for record in _clean(files, findings):
            opened.write(json.dumps(record, ensure_ascii=False, default=_in_json) + "\n")


def _in_json(value: Any) -> str:
    """A picture as an address that holds it; a date as it is written."""
    return f"data:;base64,{base64.b64encode(value).decode()}" if isinstance(value, bytes) else str(value)


def _clean(files: Sequence[Records], findings: Findings) -> Iterator[dict[str, object]]:
    for which, file in enumerate(files):
        bad = {*findings.unusable_in[which], *file.index.corrupt.tolist()}
        language = file_language(file.path)
        for number in range(len(file)):
            if number in bad:
                continue
            record = file[number]
            yield record if language == UNKNOWN or record.get("language") else {**record, "language": language}


def _checks(options: ValidateOptions) -> RecordChecks:
    processor = None
    if options.model is not None:
        from maya_core.weights.checkpoint import load_processor

        processor = load_processor(options.model)
        processor.require_tokenizer()
    pictures = PictureChecks(options.images, decode=options.decode, cache=options.cache) if options.images else None
    return RecordChecks(
        pictures=pictures,
        processor=processor,
        max_length=options.max_length if processor else None,
        captions=options.captions,
        add_markers=options.add_markers,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""

    def run() -> int:
        options = tyro.cli(ValidateOptions, args=arguments, prog="python -m training.validate")
        return _validated(options, Console(width=int(os.environ["COLUMNS"]) if "COLUMNS" in os.environ else None))

    return ended(run, STOPPED)


def _validated(options: ValidateOptions, console: Console) -> int:
    findings = validate(options, console)
    for table in findings.tables():
        console.print(table)
    console.print(findings.advice(), soft_wrap=True)
    if options.json:
        with file_written(options.json) as fresh:
            fresh.write_text(json.dumps(findings.as_json(), indent=2, ensure_ascii=False) + "\n", "utf-8")
    return 0 if findings.can_train else 1


if __name__ == "__main__":
    sys.exit(main())
