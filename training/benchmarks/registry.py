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
    from training.benchmarks.cvqa import Cvqa
    from training.benchmarks.gqa import Gqa, XGqa
    from training.benchmarks.maxm import Maxm
    from training.benchmarks.mm_vet import MmVet
    from training.benchmarks.mmbench import MmBench
    from training.benchmarks.mme import Mme
    from training.benchmarks.palo import Palo
    from training.benchmarks.pope import Pope
    from training.benchmarks.scienceqa import ScienceQa
    from training.benchmarks.vqa import TextVqa, VizWiz, VqaV2
    from training.benchmarks.xm3600 import Xm3600

    every = (
        Palo(), Pope(), Mme(), MmBench(), MmVet(), VizWiz(), Gqa(), ScienceQa(), TextVqa(), VqaV2(), XGqa(), Maxm(),
        Cvqa(), Xm3600(),
    )  # fmt: skip
    return {benchmark.name: benchmark for benchmark in every}
