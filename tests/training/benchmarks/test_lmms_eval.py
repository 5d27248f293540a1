"""lmms-eval finds Maya and asks it. Its own classes are doubled: as much of them as a model meets."""

import dataclasses
import importlib
import sys
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from maya_core.answering.options import GenerationOptions
from tests.tiny import picture, tiny_session
from training.benchmarks import lmms_eval_plugin

ROOT = Path(__file__).parents[3]


@dataclasses.dataclass(frozen=True)
class ModelManifest:
    model_id: str
    simple_class_path: str | None = None


class Base:
    def __init__(self):
        self.task_dict = {}


@pytest.fixture
def maya(monkeypatch):
    """Maya's class as lmms-eval would import it, opened on a tiny model."""
    modules = {
        "lmms_eval": {}, "lmms_eval.api": {}, "lmms_eval.models": {}, "lmms_eval.api.model": {"lmms": Base},
        "lmms_eval.models.registry_v2": {"ModelManifest": ModelManifest},
    }  # fmt: skip
    for name, content in modules.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    path = lmms_eval_plugin.manifest().simple_class_path
    module_name, _, class_name = path.rpartition(".")
    module = importlib.import_module(module_name)
    monkeypatch.delitem(sys.modules, module_name)
    monkeypatch.setattr(module, "load_best", lambda source: tiny_session())
    return getattr(module, class_name)


def test_the_registry_is_told_where_maya_is():
    fields = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    [(name, place)] = fields["project"]["entry-points"]["lmms_eval.models"].items()
    module, _, function = place.partition(":")
    assert (name, getattr(importlib.import_module(module), function)) == ("maya", lmms_eval_plugin.manifest)


def test_requests_are_answered_in_their_order(maya):
    model = maya(pretrained="MODEL", batch_size=2, device="cpu")
    pictures = [picture(), picture((0, 90, 0))]
    docs = [{"see": []}, {"see": pictures[:1]}, {"see": pictures}, {"see": []}, {"see": pictures[1:]}]
    model.task_dict = {"task": {"test": docs}}
    contexts = ["one?", "<image>\ntwo?", "three?", "word " * 1500, "five?"]
    settings = [
        {"max_new_tokens": 8},
        {"max_new_tokens": 8, "until": ["\n\n"]},
        {"max_new_tokens": 6, "do_sample": False, "temperature": 1.0},
        {},
        {"max_new_tokens": 8},
    ]
    requests = [
        SimpleNamespace(args=(context, settled, lambda doc: doc["see"], number, "task", "test"))
        for number, (context, settled) in enumerate(zip(contexts, settings, strict=True))
    ]
    message = model.session.processor.user_message
    alone = [
        model.session.answer(
            message(words, doc["see"]), GenerationOptions(max_new_tokens=settled.get("max_new_tokens", 1))
        )
        for words, doc, settled in zip(["one?", "two?", "three?", "four?", "five?"], docs, settings, strict=True)
    ]
    answers = model.generate_until(requests)
    assert answers[3] == ""
    assert [answers[n] for n in (0, 2, 4)] == [alone[n] for n in (0, 2, 4)]
    assert answers[1] == alone[1].split("\n\n")[0]
    with pytest.raises(NotImplementedError, match="not likelihoods"):
        model.loglikelihood(requests)
