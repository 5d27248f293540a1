"""Parquet and the Arrow files of `datasets`: the same conversations, read without reading all."""

import io
import json
import os
import pickle
import sys
from pathlib import Path

import pyarrow
import pytest
from PIL import Image
from pyarrow import ipc, parquet

from maya_core.errors import DataError
from maya_core.learning import column_files
from maya_core.learning.conversation_files import ConversationFiles, DataSource, data_files
from maya_core.learning.records import answers


def encoded(shade: int = 9) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 9, 200)).save(file, "PNG")
    return file.getvalue()


PICTURE = {"bytes": encoded(), "path": "dog.png"}
SAID = [{"role": "user", "content": "<image>What is it?"}, {"role": "assistant", "content": "A dog."}]
FORMS = {
    "question and answer": {"image": PICTURE, "question": "What is it?", "answer": "A dog."},
    "plain bytes": {"image": encoded(), "question": "What is it?", "answer": "A dog."},
    "LLaVA": {
        "image": PICTURE,
        "conversations": [
            {"from": "human", "value": "<image>\nWhat is it?", "weight": None},
            {"from": "gpt", "value": "A dog.", "weight": None},
        ],
    },
    "messages": {"images": [PICTURE], "messages": SAID},
    "parts": {
        "images": [PICTURE],
        "messages": [
            {"role": "user", "content": [{"type": "image", "text": None}, {"type": "text", "text": "What is it?"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "A dog."}]},
        ],
    },
    "texts": {"images": [PICTURE], "texts": [{"user": "<image>What is it?", "assistant": "A dog.", "source": "x"}]},
    "answers of many": {"image": PICTURE, "question": "What is it?", "answer": ["A cat.", "A dog.", "A dog."]},
}


def rows(number: int, **more) -> list[dict]:
    return [
        {"id": n, "image": {"bytes": encoded(n), "path": None}, "question": f"Why {n}?", "answer": f"So {n}."}
        | {name: values[n % len(values)] for name, values in more.items()}
        for n in range(number)
    ]


def write(path: Path, made: list[dict], *, group: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(made), path, row_group_size=group)
    return path


def write_arrow(path: Path, made: list[dict]) -> Path:
    table = pyarrow.Table.from_pylist(made)
    path.parent.mkdir(parents=True, exist_ok=True)
    with ipc.new_stream(path, table.schema) as stream:
        stream.write_table(table, max_chunksize=2)
    return path


def opened(path: Path, **options) -> ConversationFiles:
    return ConversationFiles(path, path.parent, cache=path.parent / "cache", **options)


def ids(data: ConversationFiles) -> list[int]:
    return [file[number]["id"] for file, number in map(data.locate, range(len(data)))]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_every_form_is_the_same_conversation(tmp_path, form, name):
    file = (write if name == "a.parquet" else write_arrow)(tmp_path / name, [FORMS[form]])
    [sample] = opened(file)
    user, assistant = sample.messages
    assert (user.text, assistant.text) == ("What is it?", "A dog.")
    [picture] = user.images
    assert picture.getpixel((0, 0)) == (9, 9, 200)


def test_a_file_is_opened_by_its_footer_and_a_record_by_its_group(tmp_path, monkeypatch):
    read = []
    own = parquet.ParquetFile.read_row_group
    monkeypatch.setattr(
        parquet.ParquetFile,
        "read_row_group",
        lambda self, group, **more: read.append(group) or own(self, group, **more),
    )
    table = pyarrow.Table.from_pylist(rows(5, language=["hi", "French", None]))
    as_categories = table["language"].dictionary_encode()  # as pandas writes them
    table = table.set_column(table.schema.get_field_index("language"), "language", as_categories)
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    data = opened(tmp_path / "a.parquet")
    assert not read
    assert {code: count.records for code, count in data.report().items()} == {"hi": 2, "fr": 2, "und": 1}
    assert [data.files[0][number]["id"] for number in (4, 2, 3, 0)] == [4, 2, 3, 0]
    assert read == [2, 1, 0]
    assert sorted(ids(data)) == list(range(5))
    with pytest.raises(IndexError, match="has 5 records; there is no number 5"):
        data.files[0][5]


def test_large_groups_are_written_once_to_be_mapped(tmp_path, monkeypatch):
    file = write(tmp_path / "a.parquet", rows(150, corrupt=[False, True]), group=100)
    before = [opened(file).files[0][number] for number in range(150)]
    monkeypatch.setattr(column_files, "LARGE", 1)
    data = opened(file)
    [made] = (tmp_path / "cache").glob("*.arrow")
    assert [data.files[0][number] for number in range(150)] == before
    assert (len(data), data.report()["und"].corrupt) == (75, 75)
    written = made.stat().st_mtime_ns
    opened(file)
    assert made.stat().st_mtime_ns == written


def test_columns_may_be_named(tmp_path):
    made = [{"foto": encoded(), "was": "कुत्ता", "sprache": "hi"}]
    file = write(tmp_path / "a.parquet", made)
    with pytest.raises(
        DataError, match="a.parquet has the columns foto, was, sprache; say which are which by --columns"
    ):
        opened(file)
    data = opened(file, columns={"image": "foto", "answer": "was", "language": "sprache"})
    file, number = data.locate(0)
    assert (answers(file[number]), data.language(0)) == ("कुत्ता", "hi")


def test_a_folder_that_datasets_saved(tmp_path):
    folder = tmp_path / "saved"
    for part in range(2):
        write_arrow(folder / "train" / f"data-0000{part}-of-00002.arrow", rows(3))
    write_arrow(folder / "train" / "cache-1234.arrow", rows(9))
    files = [{"filename": f"data-0000{part}-of-00002.arrow"} for part in range(2)]
    (folder / "train" / "state.json").write_text(json.dumps({"_data_files": files}))
    (folder / "train" / "dataset_info.json").write_text('{"features": {}}')
    assert len(opened(folder / "train")) == 6
    (folder / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert len(opened(folder)) == 6
    (folder / "dataset_dict.json").write_text('{"splits": ["validation", "test"]}')
    with pytest.raises(
        DataError, match="saved has the splits validation, test, and none called train; name one by --split"
    ):
        opened(folder)
    (folder / "dataset_dict.json").write_text("torn")
    with pytest.raises(DataError, match="saved/dataset_dict.json cannot be read; get the folder again"):
        opened(folder)


def test_a_folder_from_the_hub(tmp_path):
    folder = tmp_path / "hub"
    (folder / "data").mkdir(parents=True)
    (folder / "dataset_infos.json").write_text("{}")
    for name in ("train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "test-00000-of-00001.parquet"):
        write(folder / "data" / name, rows(2))
    assert [file.name[:11] for file in data_files(folder)] == ["train-00000", "train-00001"]
    assert len(data_files(folder / "data" / "test-00000-of-00001.parquet")) == 1
    (folder / "data" / "train-00000-of-00002.parquet").rename(folder / "data" / "validation-00000-of-00001.parquet")
    (folder / "data" / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(
        DataError, match="hub has the splits test, validation, and none called train; name one by --split"
    ):
        data_files(folder)


def test_parts_and_weights_are_taken_as_of_other_files(tmp_path):
    file = write(tmp_path / "a.parquet", rows(20, language=["hi", "en", "en", "en"]))
    (tmp_path / "b.jsonl").write_text(json.dumps({"id": 99, "language": "hi", "conversations": [
        {"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]}) + "\n")  # fmt: skip
    data = ConversationFiles(
        [DataSource(file, 0.5), DataSource(tmp_path / "b.jsonl")], tmp_path, cache=tmp_path / "cache"
    )
    assert len(data) == 11
    data.take(8, seed=1)
    assert {code: count.records for code, count in data.report().items()} == {"hi": 4, "en": 4}
    held = data.split(0.3, seed=1)
    assert not {*ids(held)} & {*ids(data)}
    assert len({*ids(held), *ids(data)}) <= 8


@pytest.mark.parametrize("large", [column_files.LARGE, 1])
def test_it_goes_to_other_processes(tmp_path, monkeypatch, large):
    monkeypatch.setattr(column_files, "LARGE", large)
    data = opened(write(tmp_path / "a.parquet", rows(4)))
    assert data.files[0][1]["id"] == 1
    assert ids(pickle.loads(pickle.dumps(data))) == ids(data)
    monkeypatch.setattr(os, "getpid", lambda: -1)  # as in a process that was forked off
    assert data.files[0][1]["id"] == 1
    copy = pickle.loads(pickle.dumps(data))
    write(tmp_path / "a.parquet", rows(5))
    with pytest.raises(DataError, match="a.parquet was changed while it was in use"):
        copy.files[0][0]


def test_data_sets_are_told_apart_by_content(tmp_path):
    def mark(folder: str, made: list[dict]) -> str:
        return opened(write(tmp_path / folder / "a.parquet", made)).fingerprint()

    same = mark("a", rows(3))
    assert mark("b", rows(3)) == same
    other = [{**row, "answer": row["answer"].replace("So", "No")} for row in rows(3)]
    assert len({same, mark("c", other), mark("d", rows(3)[::-1])}) == 3


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_a_file_that_is_not_whole(tmp_path, name):
    file = (write if name == "a.parquet" else write_arrow)(tmp_path / name, rows(9))
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(DataError, match=rf"{name}: it cannot be read to its end \(.*\); get it again") as caught:
        opened(file)
    assert caught.value.kind == "torn"


def test_without_pyarrow_it_says_what_to_install(tmp_path, monkeypatch):
    file = write(tmp_path / "a.parquet", rows(1))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"a.parquet is read by pyarrow, .* pip install -e '\.\[parquet\]'\."):
        opened(file)
