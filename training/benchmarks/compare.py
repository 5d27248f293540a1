"""Two runs on the same questions: how much they differ, and how sure that is."""

from collections.abc import Iterator

from rich.table import Table

from maya_core.languages import CODES, get_language
from training.benchmarks.asking import EvaluationError
from training.benchmarks.bootstrap import Difference, differences
from training.benchmarks.registry import get_benchmark
from training.benchmarks.run import Run, all_figures


def compare(one: Run, other: Run, *, seed: int = 0) -> Iterator[tuple[str, int, dict[str, Difference]]]:
    """(language, units, figures of `other` less those of `one`), by paired bootstrap.

    Raises EvaluationError where they are on other questions or judged by others: then a difference says nothing.
    """
    if one.benchmark != other.benchmark:
        raise EvaluationError(f"The runs are on {one.benchmark} and {other.benchmark}; compare runs on the same.")
    if one.judge != other.judge:
        raise EvaluationError(
            "The runs have different judges, or judges that were asked differently; judge both alike."
        )
    common = [code for code in one.languages if code in other.languages]
    if not common:
        raise EvaluationError("The runs have no language in common.")
    benchmark = get_benchmark(one.benchmark)  # type: ignore[arg-type]
    for code in common:
        first, second = one.languages[code], other.languages[code]
        if first.prompts != second.prompts:
            raise EvaluationError(
                f"The runs were asked different questions in {code!r}; give both the same data and limit."
            )
        units = len(first.tally.keys() & second.tally.keys())
        yield code, units, differences(first.tally, second.tally, all_figures(benchmark), seed=seed)


def as_table(one: Run, other: Run, figure: str, *, seed: int = 0) -> Table:
    """A figure's difference in each language."""
    table = Table(title=f"{one.benchmark}, {figure}: {other.model['name']} less {one.model['name']}")
    for heading in ("", "units", "difference", "95 % interval", "p"):
        table.add_column(heading, justify="right")
    for code, units, found in compare(one, other, seed=seed):
        difference = found.get(figure)
        if difference is None or difference.value is None or difference.low is None or difference.high is None:
            continue
        name = get_language(code).native_name if code in CODES else code
        interval = f"{difference.low:+.2f} to {difference.high:+.2f}"
        table.add_row(name, str(units), f"{difference.value:+.2f}", interval, f"{difference.p:.3f}")
    return table
