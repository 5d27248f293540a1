"""llama.cpp behind the same session: the same tokens, read once, and chosen only where it is faster and sound.

Where it is not installed a double stands in its place, which is our own decoder behind the same few calls.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from maya_core import apart, llama
from maya_core.answering import engines
from maya_core.answering import session as sessions
from maya_core.answering.decoder import Decoder
from maya_core.answering.engines import OWN, Engine, engine_for
from maya_core.answering.llama_decoder import LlamaDecoder
from maya_core.answering.options import GenerationOptions
from maya_core.answering.session import ChatSession, load_best
from maya_core.assets import LANGUAGE_MODEL
from maya_core.errors import ModelTooLarge
from maya_core.hardware import GIB, Machine
from maya_core.llama import LlamaModel
from maya_core.model.prompt import Message
from maya_core.weights.checkpoint import load_beside, save_model
from maya_core.weights.gguf_export import export_gguf
from tests.tiny import picture, tiny_session

OPTIONS = GenerationOptions(max_new_tokens=64)
SHORT = GenerationOptions(max_new_tokens=8)
CPU = Machine(device="cpu", name="a CPU", memory=64 * GIB, cores=2)
needs_llama = pytest.mark.skipif(not llama.is_installed(), reason=f"needs {llama.PACKAGE}=={llama.VERSION}")


class OwnContext:
    """What llama.cpp's context does, done by our decoder."""

    def __init__(self, decoder: Decoder, columns: int) -> None:
        self.decoder, self.capacity, self.cache = decoder, columns, decoder.new_cache(1)
        self.seen = 0

    @property
    def length(self) -> int:
        return self.cache.length

    @length.setter
    def length(self, length: int) -> None:
        self.cache.length = length

    def grown(self, columns: int) -> "OwnContext":
        self.capacity = columns
        return self

    def read_ids(self, ids: list[int]) -> None:
        self._read(self.decoder.model.get_input_embeddings()(torch.tensor(ids)))

    def read_embeds(self, embeds: np.ndarray) -> None:
        self._read(torch.from_numpy(embeds))

    def _read(self, embeds_TE: torch.Tensor) -> None:
        self.seen += len(embeds_TE)
        start = self.cache.length
        assert start + len(embeds_TE) <= self.capacity
        positions = torch.arange(start, start + len(embeds_TE))[None]
        with torch.inference_mode():
            self.told = self.decoder(embeds_TE[None], positions, self.cache)[0]

    def scores(self) -> np.ndarray:
        return self.told.numpy().copy()


class OwnModel:
    """In the place of llama.cpp's model."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder, self.contexts = decoder, []

    def new_context(self, columns: int, *, threads: int) -> OwnContext:
        self.contexts.append(OwnContext(self.decoder, columns))
        return self.contexts[-1]


@pytest.fixture(scope="module")
def ours() -> ChatSession:
    return tiny_session(text={"hidden_size": 64, "intermediate_size": 128})


@pytest.fixture(scope="module")
def folder(ours, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("engines")
    save_model(ours.model, ours.processor, folder / "ours")
    export_gguf(folder / "ours", folder / "gguf")
    return folder / "gguf"


@pytest.fixture(params=["double", pytest.param("llama.cpp", marks=needs_llama)])
def theirs(request, ours, folder) -> ChatSession:
    model = load_beside(folder)
    read = OwnModel(Decoder(ours.model)) if request.param == "double" else LlamaModel(folder / LANGUAGE_MODEL)
    return ChatSession(model, ours.processor, LlamaDecoder(model, read))


def said(role: str, text: str, *images) -> Message:
    return Message(role=role, text=text, images=images)


RED, BLUE = picture(), picture((0, 0, 200))
CONVERSATIONS = (
    [said("user", "ماذا؟")],
    [said("user", "What is in the picture?", RED)],
    [said("user", "図は？", RED), said("assistant", "犬です。"), said("user", "And this?", BLUE, RED)],
)


@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_its_tokens_are_ours(ours, theirs, conversation):
    assert theirs.token_ids(conversation, OPTIONS) == ours.token_ids(conversation, OPTIONS)


def test_the_language_model_beside_it_has_no_weights(theirs):
    assert all(parameter.is_meta for parameter in theirs.model.language_model.parameters())
    assert theirs.model.device.type == "cpu"


def counted(session: ChatSession, monkeypatch) -> list[int]:
    """How many positions are read at each step, from now on."""
    steps: list[int] = []
    read = session.decoder.read

    def counting(ids_BT, *rest, **options):
        steps.append(ids_BT.shape[1])
        return read(ids_BT, *rest, **options)

    monkeypatch.setattr(session.decoder, "read", counting)
    session._read = None  # a new conversation
    return steps


def test_a_conversation_is_read_once_and_a_changed_question_from_where_it_changed(ours, theirs, monkeypatch):
    mine, other = (counted(session, monkeypatch) for session in (ours, theirs))
    turns = [said("user", "What is in the picture?", RED)]
    for question in ("And the colour?", "And its form, which is it, and of what?"):
        for session in (ours, theirs):
            session.token_ids(turns, SHORT)
        whole = len(ours.processor.encode(turns, answer_next=True).input_ids)
        turns = [turns[0], said("assistant", "A dog."), said("user", question)]
    assert theirs.token_ids(turns, SHORT) == ours.token_ids(turns, SHORT)
    assert other == mine
    last = len(ours.processor.encode(turns, answer_next=True).input_ids)
    read_last = [step for step in other if step > 1][-1]
    assert whole > read_last < last - 20  # the picture and the first turns were there


def test_a_long_conversation_moves_to_where_there_is_more_room(ours, theirs):
    turns = [said("user", "What is in the picture? " * 6, RED)]
    for number in range(3):
        assert theirs.token_ids(turns, SHORT) == ours.token_ids(turns, SHORT)
        turns += [said("assistant", "A dog. " * 8), said("user", f"And {number}? " * 8)]


def test_many_conversations_are_answered_one_by_one(ours, theirs):
    assert theirs.answers(CONVERSATIONS, SHORT) == [ours.answer(each, SHORT) for each in CONVERSATIONS]


@needs_llama
def test_scores_are_within_a_thousandth_of_ours(ours, folder):
    model = load_beside(folder)
    theirs = ChatSession(model, ours.processor, LlamaDecoder(model, LlamaModel(folder / LANGUAGE_MODEL)))
    prompt = ours.processor.encode(CONVERSATIONS[2], answer_next=True)
    ids_1T = prompt.input_ids[None]
    pixels = ours.processor.pixel_values(prompt.pictures)
    with torch.inference_mode():
        features = ours.model.vision_features(pixels)
        expected, found = (each.decoder.read(ids_1T, features, each.decoder.new_cache(1)) for each in (ours, theirs))
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


@needs_llama
def test_what_progress_raises_ends_the_loading(folder):
    def stop(share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LlamaModel(folder / LANGUAGE_MODEL, on_progress=stop)


# --- which, and why ---


@pytest.mark.parametrize(
    ("changes", "kernel", "installed", "sound", "why"),
    [
        ({"device": "cuda"}, False, True, True, "nvidia"),
        ({}, True, True, True, "kernel"),
        ({}, False, False, True, "absent"),
        ({}, False, True, False, "unsound"),
        ({}, False, True, True, "llama"),
        ({"device": "mps"}, False, True, True, "llama"),
    ],
)
def test_the_faster_one_answers_where_it_is_sound(folder, monkeypatch, changes, kernel, installed, sound, why):
    monkeypatch.setattr(engines, "has_kernel", lambda: kernel)
    monkeypatch.setattr(engines, "is_installed", lambda: installed)
    monkeypatch.setattr(engines, "is_sound", lambda: sound)
    found = engine_for(folder, replace(CPU, **changes))
    assert found == Engine(why=why)
    assert found.is_llama == (why == "llama")
    assert str(found).endswith(".")
    assert engine_for(folder.parent / "ours", CPU) == OWN  # not in GGUF


@pytest.mark.parametrize("does", ["os.abort()", "pass", "say([[0.0] * 64] * 2)", "say([[1.0]])", "say(1), say(2)"])
def test_a_library_that_dies_or_computes_wrongly_is_not_used(does, monkeypatch, tmp_path):
    child = tmp_path / "python"
    start = 'import os, sys; say = lambda scores: print(scores, file=open(sys.argv[-1], "a"))'
    child.write_text(f"#!/bin/sh\nexec {sys.executable} -S -c '{start}; {does}' \"$@\"\n")
    child.chmod(0o755)
    monkeypatch.setattr(apart.sys, "executable", str(child))
    assert not engines.is_sound.__wrapped__()


def test_our_own_takes_over_with_its_reason(ours, folder, monkeypatch):
    monkeypatch.setattr(engines, "has_kernel", lambda: False)
    monkeypatch.setattr(engines, "is_installed", lambda: False)
    session = load_best(folder)
    assert session.engine == Engine(why="absent")
    assert session.engine.falls_back
    assert isinstance(session.decoder, Decoder)
    assert session.token_ids(CONVERSATIONS[1], OPTIONS) == ours.token_ids(CONVERSATIONS[1], OPTIONS)


@needs_llama
def test_it_is_tried_and_answers(ours, folder, monkeypatch):
    monkeypatch.setattr(engines, "has_kernel", lambda: False)
    session = load_best(folder)
    assert session.engine == Engine(why="llama")
    assert session.token_ids(CONVERSATIONS[1], OPTIONS) == ours.token_ids(CONVERSATIONS[1], OPTIONS)


def test_a_file_that_does_not_fit_is_told_before_it_is_read(folder, monkeypatch):
    monkeypatch.setattr(sessions, "engine_for", lambda folder, machine: Engine(why="llama"))
    monkeypatch.setattr(sessions, "inspect_machine", lambda: replace(CPU, memory=2**20))
    monkeypatch.setattr(sessions, "load_beside", lambda folder: pytest.fail("weights were read"))
    with pytest.raises(ModelTooLarge, match="a CPU has 0.0"):
        load_best(folder)
