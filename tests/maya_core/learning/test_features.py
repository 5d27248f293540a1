"""Features of a resting tower on the disk: the same training, without the tower; never those of something else."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from maya_core.errors import DataError, ImageUnreadable
from maya_core.learning.data import ConversationCollator, Sample
from maya_core.learning.features import FeatureStore
from maya_core.learning.objective import AnswerObjective
from maya_core.learning.train import TrainConfig, train
from maya_core.model.prompt import Message
from tests.tiny import SENTENCES, tiny_session

CONNECTORS = {
    "mlp": {},
    "qformer": {"connector_config": {"kind": "qformer", "num_query_tokens": 4}},
    "cross_attention": {
        "connector_config": {"kind": "cross_attention", "num_query_tokens": 4, "cross_attn_every_n_layers": 1}
    },
}


class Pictures:
    """A conversation about a picture in each of the ten languages, every picture shown twice."""

    def __init__(self, folder: Path) -> None:
        self.files = [folder / f"{number}.png" for number in range(5)]
        for number, file in enumerate(self.files):
            Image.new("RGB", (40 + number, 30), (number * 40, 90, 200)).save(file)

    def __len__(self) -> int:
        return len(SENTENCES)

    def __getitem__(self, index: int) -> Sample:
        ask = Message(role="user", text=SENTENCES[index], images=(self.files[index % 5],))
        return Sample(messages=(ask, Message(role="assistant", text=SENTENCES[index])))


@pytest.fixture
def pictures(tmp_path) -> Pictures:
    return Pictures(tmp_path)


def filled(folder: Path, session, pictures, **options) -> FeatureStore:
    store = FeatureStore.of(folder, session.model, session.processor, dtype=torch.float32)
    store.fill(pictures, session.model, session.processor, **options)
    return store


def losses(session, pictures, collator, run_dir) -> list[float]:
    config = TrainConfig(
        steps=4, batch_size=5, learning_rates={"model.connector": 1e-3}, bf16=False, workers=0, log_every=1
    )
    found = []
    train(
        AnswerObjective(session.model),
        pictures,
        collator,
        config,
        run_dir,
        on_record=lambda one: found.append(one.loss),
    )
    return found


@pytest.mark.parametrize("kind", CONNECTORS)
def test_training_is_the_same_without_the_tower(kind, pictures, tmp_path, monkeypatch):
    plain, stored = tiny_session(**CONNECTORS[kind]), tiny_session(**CONNECTORS[kind])
    collator = ConversationCollator(plain.processor)
    wanted = losses(plain, pictures, collator, tmp_path / "plain")
    store = filled(tmp_path / "features", stored, pictures)
    monkeypatch.setattr(stored.model, "vision_features", lambda pixels: pytest.fail("the tower was asked"))
    assert losses(stored, pictures, replace(collator, see=store.batch), tmp_path / "stored") == pytest.approx(wanted)


def test_every_picture_is_seen_once_by_however_many(pictures, tmp_path, monkeypatch):
    session = tiny_session()
    seen = []
    real = session.model.vision_features
    monkeypatch.setattr(session.model, "vision_features", lambda pixels: seen.append(len(pixels)) or real(pixels))
    for rank in range(3):
        filled(tmp_path / "features", session, pictures, rank=rank, ranks=3)
    assert sum(seen) >= 5
    seen.clear()
    done: list[int] = []
    store = filled(tmp_path / "features", session, pictures, on_done=done.append)
    assert seen == []
    assert done == [len(pictures)]
    assert len(list(store.folder.iterdir())) == 5


def test_workers_fill_it_too(pictures, tmp_path):
    session = tiny_session()
    one = filled(tmp_path / "alone", session, pictures)
    two = filled(tmp_path / "workers", session, pictures, workers=1)
    assert torch.equal(*(store.batch(pictures.files)["vision_features"] for store in (one, two)))


def test_another_tower_or_another_shape_never_finds_the_old_ones(pictures, tmp_path):
    session = tiny_session()
    store = filled(tmp_path, session, pictures)
    processor = session.processor
    stretched = type(processor)(
        processor.config, replace(processor.preparation, aspect_ratio="stretch"), processor.tokenizer
    )
    assert FeatureStore.of(tmp_path, session.model, stretched, dtype=torch.float32) != store
    assert FeatureStore.of(tmp_path, session.model, processor, dtype=torch.bfloat16) != store
    with torch.no_grad():
        next(session.model.vision_tower.parameters()).view(-1)[0] += 1
    assert FeatureStore.of(tmp_path, session.model, processor, dtype=torch.float32) != store


def test_a_changed_picture_is_told_and_looked_at_anew(pictures, tmp_path):
    session = tiny_session()
    store = filled(tmp_path, session, pictures)
    Image.new("RGB", (50, 50), (1, 2, 3)).save(pictures.files[0])
    with pytest.raises(DataError, match="changed"):
        store.batch(pictures.files[:1])
    filled(tmp_path, session, pictures)
    pixels = session.processor.pixel_values(pictures.files[:1])
    with torch.no_grad():
        wanted = session.model.vision_features(pixels)
    assert torch.allclose(store.batch(pictures.files[:1])["vision_features"], wanted, atol=1e-5)


def test_half_a_file_is_no_features(pictures, tmp_path):
    session = tiny_session()
    store = filled(tmp_path, session, pictures)
    whole = store.batch(pictures.files[:1])["vision_features"].clone()
    place = store.place(pictures.files[0])
    place.write_bytes(place.read_bytes()[:-1])
    with pytest.raises(DataError):
        store.batch(pictures.files[:1])
    filled(tmp_path, session, pictures)
    assert torch.allclose(store.batch(pictures.files[:1])["vision_features"], whole, atol=1e-5)


def test_a_damaged_picture_is_passed_over_and_named_in_training(pictures, tmp_path):
    session = tiny_session()
    pictures.files[2].write_bytes(b"no picture")
    store = filled(tmp_path, session, pictures)
    with pytest.raises(ImageUnreadable):
        store.batch(pictures.files)


def test_too_little_room_is_told_before_the_first_picture(pictures, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    with pytest.raises(DataError, match="larger disk"):
        filled(tmp_path / "features", tiny_session(), pictures)
