"""Of a folder with several splits one is read, and which is told."""

import json

import pytest

from maya_core.errors import DataError
from maya_core.learning.splits import EVERY, HELD_OUT, TRAIN, files_in, split_of

ENDINGS = (".json", ".jsonl", ".parquet")


def read(folder, *splits):
    told = []
    files = files_in(folder, ENDINGS, splits=splits or (TRAIN,), tell=told.append)
    return [str(file.relative_to(folder)) for file in files], told


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.json", "train"),
        ("llava_Training-2.jsonl", "train"),
        ("captions_val2014.json", "validation"),
        ("dev.json", "validation"),
        ("eval-00000-of-00001.parquet", "test"),
        ("testimony.json", ""),
        ("devanagari.json", ""),
        ("trained.json", ""),
        ("hindi.json", ""),
    ],
)
def test_a_name_says_its_split(name, split):
    assert split_of(name) == split


def test_one_of_several_is_read_and_told(tmp_path):
    touch(tmp_path, "train_en.json", "train_hi.json", "test.jsonl", "dataset_info.json", "notes.txt")
    assert read(tmp_path) == (
        ["train_en.json", "train_hi.json"],
        [f"Of {tmp_path.name}, which has the splits test, train, train is read; --split names another."],
    )
    assert read(tmp_path, "test")[0] == ["test.jsonl"]
    assert read(tmp_path, *HELD_OUT)[0] == ["test.jsonl"]
    assert read(tmp_path, EVERY) == (["test.jsonl", "train_en.json", "train_hi.json"], [])
    with pytest.raises(DataError, match="has the splits test, train, and none called dev; name one by --split, or all"):
        read(tmp_path, "dev")
    touch(tmp_path, "validation.json")
    assert read(tmp_path, *HELD_OUT)[0] == ["validation.json"]
    assert read(tmp_path, "dev")[0] == ["validation.json"]


def test_files_of_no_split_are_all_read(tmp_path):
    touch(tmp_path, "en.json", "hi.json")
    assert read(tmp_path) == (["en.json", "hi.json"], [])
    touch(tmp_path, "test.json")
    with pytest.raises(DataError, match="has the splits others, test, and none called train"):
        read(tmp_path)
    assert read(tmp_path, "others")[0] == ["en.json", "hi.json"]


def test_folders_of_splits_and_shards_with_names_of_their_own(tmp_path):
    touch(tmp_path / "a", "train/en.json", "val/en.json", "pictures/1.png")
    assert read(tmp_path / "a")[0] == ["train/en.json"]
    touch(tmp_path / "b", "data/train_sft-00000-of-00001.parquet", "data/train_gen-00000-of-00001.parquet")
    assert len(read(tmp_path / "b")[0]) == 2
    assert read(tmp_path / "b", "train_gen")[0] == ["data/train_gen-00000-of-00001.parquet"]
    for name in ("train_sft", "test_sft"):
        touch(tmp_path / "c", f"{name}/data.arrow")
        state = {"_data_files": [{"filename": "data.arrow"}]}
        (tmp_path / "c" / name / "state.json").write_text(json.dumps(state))
    (tmp_path / "c" / "dataset_dict.json").write_text('{"splits": ["train_sft", "test_sft"]}')
    assert read(tmp_path / "c")[0] == ["train_sft/data.arrow"]
    assert read(tmp_path / "c", "test_sft")[0] == read(tmp_path / "c", *HELD_OUT)[0] == ["test_sft/data.arrow"]
