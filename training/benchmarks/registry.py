"""The benchmarks by name."""

from collections.abc import Mapping
from typing import Literal, get_args

from training.benchmarks.base import Benchmark

BenchmarkName = Literal[
    "palo", "pope", "mme", "mmbench", "mm-vet", "vizwiz", "gqa", "scienceqa", "textvqa", "vqav2", "xgqa", "maxm", "cvqa",
    "xm3600",
]  # fmt: skip
NAMES: tuple[BenchmarkName, ...] = get_args(BenchmarkName)


def get_benchmark(name: BenchmarkName) -> Benchmark:
    """The benchmark of a name."""
    return _all()[name]


def _all() -> Mapping[str, Benchmark]:
    from training.benchmarks.tasks.cvqa import Cvqa
    from training.benchmarks.tasks.gqa import Gqa, XGqa
    from training.benchmarks.tasks.maxm import Maxm
    from training.benchmarks.tasks.mm_vet import MmVet
    from training.benchmarks.tasks.mmbench import MmBench
    from training.benchmarks.tasks.mme import Mme
    from training.benchmarks.tasks.palo import Palo
    from training.benchmarks.tasks.pope import Pope
    from training.benchmarks.tasks.scienceqa import ScienceQa
    from training.benchmarks.tasks.vqa import TextVqa, VizWiz, VqaV2
    from training.benchmarks.tasks.xm3600 import Xm3600

    every = (
        Palo(), Pope(), Mme(), MmBench(), MmVet(), VizWiz(), Gqa(), ScienceQa(), TextVqa(), VqaV2(), XGqa(), Maxm(),
        Cvqa(), Xm3600(),
    )  # fmt: skip
    return {benchmark.name: benchmark for benchmark in every}
