"""What is wrong with a run: `python -m training.diagnose RUN` looks for three failures that are easily overlooked.

A prompt format that is applied unevenly over languages; a language that stage 1 does not cover; a loss that no longer falls,
with its likely cause. Each is found by figures, which are told with it.
"""

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Annotated, Any, Literal

import tyro

from maya_core.assets import asset_path
from maya_core.errors import CheckpointNotFound, DataError, MayaError
from maya_core.languages import CODES
from maya_core.learning.conversation_files import ConversationFiles, DataSource
from maya_core.learning.data import Sample
from maya_core.learning.metrics import METRICS, read_records
from maya_core.learning.tables import parse_columns
from maya_core.weights.destination import RECIPE
from maya_core.weights.files import read_json
from maya_core.weights.runs import is_run, start_of
from training.command import STOPPED, ended

MARKS = re.compile(
    r"(?:^|\s)(?:USER|ASSISTANT|HUMAN|GPT|SYSTEM|Human|Assistant)\s*:|\[/?INST\]|<\|?[A-Za-z_]{2,}\|?>|###"
)
UNEVEN = 0.3  # a share of a language's records that is so far from the median language's
LOOKED_AT = 200  # records of each language
FEWEST = 8  # records of a language, and of a run, from which anything can be told
THIN = 0.25  # of the median language's records
OPENING = 12  # characters at the start of a question or an answer
# A loss rests where its slope over the second half would lower it by less than this share in as many steps again, and it is
# still above what is nothing.
RESTS, NOTHING = 0.02, 0.05
ENDED = 0.1  # share of the peak's rate below which a schedule teaches hardly anything
LOUD, SILENT = 8.0, 0.125  # of the words' length: that of what the connector gives
SHAKEN = 1.15  # times its lowest: a loss that has risen again

Kind = Literal["format", "coverage", "plateau"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was found. languages: where, if it is of some alone. cause: of a plateau. said: a sentence with its figures."""

    kind: Kind
    said: str
    languages: tuple[str, ...] = ()
    cause: str = ""


# --- the prompt's format ---


def uneven_format(samples: Iterable[Sample]) -> Iterator[Finding]:
    """Where what surrounds the words is otherwise in one language than in most: role marks that were typed into texts,
    questions that are not there, answers of another kind of line, an opening that all share, more turns, no picture."""
    by_language: dict[str, list[Mapping[str, bool]]] = defaultdict(list)
    openings: dict[str, Counter[str]] = defaultdict(Counter)
    for sample in samples:
        if sample.language and len(by_language[sample.language]) < LOOKED_AT:
            by_language[sample.language].append(_traits(sample))
            openings[sample.language].update({_opening(sample)})
    by_language = {code: of for code, of in by_language.items() if len(of) >= FEWEST}
    if len(by_language) < 2:
        return
    shares = {
        trait: {code: fmean(traits[trait] for traits in of) for code, of in by_language.items()} for trait in _TRAITS
    }
    shares["answers open alike"] = {
        code: openings[code].most_common(1)[0][1] / len(of) for code, of in by_language.items()
    }
    for trait, of in shares.items():
        usual = median(of.values())
        for code, share in of.items():
            if abs(share - usual) > UNEVEN:
                yield Finding(
                    kind="format",
                    languages=(code,),
                    said=f"The prompt's format is not the same in every language: {trait} in {share:.0%} of {code}, and in "
                    f"{usual:.0%} of the median language.",
                )


_TRAITS = (
    "role marks are typed into the text",
    "the question is empty",
    "the answer ends with a line end",
    "there are several turns",
    "there is a system turn",
    "there is no picture",
)


def _traits(sample: Sample) -> Mapping[str, bool]:
    asked = [message for message in sample.messages if message.role == "user"]
    answers = [message.text for message in sample.messages if message.role == "assistant"]
    found = (
        any(MARKS.search(message.text) for message in sample.messages),
        not any(message.text.strip() for message in asked),
        any(answer.endswith("\n") for answer in answers),
        len(asked) > 1,
        any(message.role == "system" for message in sample.messages),
        not any(message.images for message in sample.messages),
    )
    return dict(zip(_TRAITS, found, strict=True))


def _opening(sample: Sample) -> str:
    return next(message.text for message in sample.messages if message.role == "assistant")[:OPENING]


# --- coverage ---


def uncovered(counts: Mapping[str, int], learnt: Iterable[str], wanted: Iterable[str]) -> Iterator[Finding]:
    """Languages of which stage 1 has nothing, or little beside the others. counts: records of each, where they are known.
    learnt: that occur in its losses. wanted: that are asked of it."""
    learnt = {*learnt, *(code for code, number in counts.items() if number)}
    absent = tuple(code for code in wanted if code not in learnt)
    if absent and learnt:
        yield Finding(
            kind="coverage",
            languages=absent,
            said=f"Stage 1 has nothing in {', '.join(absent)}: what the connector gives was never told apart in words of "
            "these. Give it captions in them, or look at their answers by themselves.",
        )
    usual = median(counts.values()) if counts else 0
    for code, number in counts.items():
        if 0 < number < THIN * usual:
            yield Finding(
                kind="coverage",
                languages=(code,),
                said=f"Stage 1 has {number:,} records in {code}, and {usual:,.0f} in the median language.",
            )


# --- a loss that rests ---


def plateau(records: Sequence[Mapping[str, Any]], loudness: float | None = None) -> Iterator[Finding]:
    """Where the loss does not fall any more while there is much of it left. loudness: length of what the connector gives,
    beside the words' own; None where it is not known."""
    told = [record for record in records if record["loss"] is not None]
    half = told[len(told) // 2 :]
    if len(told) < FEWEST:
        return
    losses = [record["loss"] for record in told]
    halved = len(half) // 2
    early, late = (fmean(record["loss"] for record in part) for part in (half[:halved], half[halved:]))
    lowest = min(losses)
    rises = late > SHAKEN * lowest and late > early * (1 - RESTS)
    if late < NOTHING or not (rises or early - late < RESTS * early):
        return
    cause, why = _cause(half, rises, loudness)
    yield Finding(
        kind="plateau",
        cause=cause,
        said=f"The loss rests: {early:.3f} in the third quarter of the run, {late:.3f} in the last. Likely cause: {why}",
    )


def _cause(half: Sequence[Mapping[str, Any]], rises: bool, loudness: float | None) -> tuple[str, str]:
    rates = [record["learning_rate"] for record in half]
    skipped = half[-1].get("skipped", 0)
    if loudness is not None and not SILENT <= loudness <= LOUD:
        how = "loud" if loudness > 1 else "quiet"
        return "connector's scale", (
            f"the connector's scale: what it gives is {loudness:.3g} times as long as words are, too {how} beside them. "
            "Begin it anew with smaller or larger weights, or raise its rate."
        )
    if skipped or rises:
        left_out = f", and {skipped} steps were left out" if skipped else ""
        return "rate too high", (f"the rate is too high: the loss has risen again from its lowest{left_out}. Halve it.")
    if fmean(rates) < ENDED:
        return "rate schedule", (
            f"the rate's schedule: in the second half it was {fmean(rates):.1%} of its peak on average. Give the run more "
            "steps, or fewer of them to the end of the schedule."
        )
    return "unknown", (
        f"none of those that are known here: the rate was {fmean(rates):.0%} of its peak on average. A higher rate, more of "
        "the model that trains, or other data may tell."
    )


# --- a run ---


def loudness_of(run: Path) -> float | None:
    """Length of the connector's vectors for three pictures, beside that of the words; None where no weights are kept."""
    import torch

    from maya_core.model.images import open_image
    from maya_core.weights.checkpoint import load_model, load_processor

    try:
        model, processor = load_model(run, dtype=torch.float32), load_processor(run)
    except CheckpointNotFound:
        return None
    pictures = [open_image(asset_path("examples") / f"{number}.png") for number in (1, 2, 3)]
    with torch.inference_mode():
        given_INE = model.connector(model.vision_features(processor.pixel_values(pictures)))
        words_VE = model.get_input_embeddings().weight
        assert isinstance(words_VE, torch.Tensor)
        return float(given_INE.norm(dim=-1).mean() / words_VE.norm(dim=-1).mean())


@dataclass(frozen=True, kw_only=True)
class DiagnoseOptions:
    """Look for what is wrong with a run: an uneven prompt format, languages without captions, a loss that rests. Exit status
    1 where something was found, 2 where there is nothing to look at."""

    run: Annotated[
        tyro.conf.Positional[Path], tyro.conf.arg(help="folder of the run, or of its result, which names the data too")
    ]
    stage_1: Annotated[
        Path | None,
        tyro.conf.arg(help="result of stage 1, whose records tell its languages; what the run began from else"),
    ] = None


def diagnose(options: DiagnoseOptions) -> Sequence[Finding]:
    """All that is found. Raises MayaError where there is no run, or its data cannot be read."""
    result = _result_of(options.run)
    recipe = _recipe_in(result)
    run = result / recipe["run"] if recipe else options.run
    records = read_records(run / METRICS)
    if not records:
        raise MayaError(f"There is no {METRICS} with records in {run.name}; give the folder of a run or of its result.")
    learnt = [code for code in CODES if any(code in record["loss_by_language"] for record in records)]
    findings = list(uneven_format(_samples(recipe))) if recipe else []
    if options.stage_1 is None and recipe.get("captions"):
        findings += uncovered(_counts(recipe), learnt, CODES)
    else:
        before = options.stage_1 or _began_from(run)
        first = _recipe_in(before) if before else {}
        findings += uncovered(_counts(first), (), learnt) if first.get("captions") else []
    is_resting = list(plateau(records))
    return findings + (list(plateau(records, loudness_of(run))) if is_resting else [])


def _result_of(folder: Path) -> Path:
    """The folder itself, or that beside it which its run made."""
    return folder if not folder.name.endswith(".run") else folder.with_name(folder.name.removesuffix(".run"))


def _recipe_in(folder: Path) -> dict[str, Any]:
    """As a stage of training wrote it down; nothing where none did."""
    file = folder / RECIPE
    return read_json(file) if file.is_file() else {}


def _counts(recipe: Mapping[str, Any]) -> Mapping[str, int]:
    records = recipe.get("figures", {}).get("records", {})
    return {code: number for code, number in records.items() if code in CODES}


def _began_from(run: Path) -> Path | None:
    base = start_of(run).base if is_run(run) else None
    return Path(base) if base else None


def _samples(recipe: Mapping[str, Any]) -> Iterator[Sample]:
    """Some conversations of all parts of the data; none where it is not there any more."""
    sources = [DataSource.parse(written) for written in recipe["data"]]
    if not all(source.path.exists() for source in sources):
        return
    data = ConversationFiles(
        sources,
        Path(recipe["images"]),
        captions=recipe["captions"],
        add_markers=recipe["add_markers"],
        columns=parse_columns(recipe["columns"]),
    )
    for index in range(0, len(data), max(1, len(data) // (LOOKED_AT * len(CODES)))):
        with suppress(DataError):  # which `training.validate` tells of
            yield data[index]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""

    def run() -> int:
        findings = diagnose(tyro.cli(DiagnoseOptions, args=arguments, prog="python -m training.diagnose"))
        for finding in findings:
            print(f"{finding.kind}: {finding.said}")
        if not findings:
            print(
                "None of the three was found: an uneven prompt format, a language without captions, a loss that rests."
            )
        return 1 if findings else 0

    return ended(run, STOPPED)


if __name__ == "__main__":
    sys.exit(main())
