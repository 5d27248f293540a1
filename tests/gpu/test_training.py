"""The training benchmark's whole logic on small shapes."""

import pytest

from tests.gpu import training


@pytest.mark.slow
def test_the_benchmark_runs_at_toy_size(capsys):
    rows = training.main(["--toy"])
    assert [row.what.split(",")[0] for row in rows] == list(training.WANTED)
    assert all(row.ratio > 0 for row in rows)
    assert "supervised" in capsys.readouterr().out
