"""The soak of the bulk run over HTTP, smaller than `python -m tests.speed.translation` makes it."""

from pathlib import Path

import pytest

from tests.speed.translation import Moment, slope, soak


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_many_texts_over_http_take_no_more_memory_or_files_at_the_end(tmp_path: Path) -> None:
    texts, concurrency = 2000, 32
    moments, done = soak(tmp_path, texts, ("hi",), concurrency)
    assert done.total() == texts
    assert done["done"] > 0.99 * texts  # three faults in a row reject a text
    later = moments[2:]
    assert later[-1].memory - later[0].memory < 4e6
    assert max(one.files for one in later) <= later[0].files + concurrency


def test_a_slope_is_of_ten_thousand_texts() -> None:
    moments = [
        Moment(texts=texts, seconds=1.0, computing=1.0, memory=texts * 3, files=9) for texts in (1000, 2000, 6000)
    ]
    assert slope(moments) == 30_000
