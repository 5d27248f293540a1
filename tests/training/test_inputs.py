"""Data as people have it: the check before a run lets through what can be learnt from, and no more; `validate` agrees."""

import pytest

from maya_core.weights.checkpoint import load_processor, save_model
from tests.tiny import tiny_session
from tests.training.inputs import INPUTS, outcome


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    session = tiny_session()
    folder = tmp_path_factory.mktemp("inputs") / "model"
    save_model(session.model, session.processor, folder)
    return folder, load_processor(folder)


@pytest.mark.parametrize("name", INPUTS)
def test_what_comes_of_it(tmp_path, model, name, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    given = INPUTS[name]
    found = outcome(given, tmp_path, *model)
    assert (found.kinds, found.can_train) == (given.kinds, bool(given.trains))
    assert (found.trains, bool(found.said)) == (given.trains, not given.trains)


def test_there_are_as_many_as_the_guide_says():
    assert len(INPUTS) >= 100
