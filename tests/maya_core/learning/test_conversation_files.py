"""Several files as one data set: weights, a part that is taken or held out, and how two data sets are told apart."""

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from maya_core.errors import DataError
from maya_core.learning.conversation_files import BALANCED, ConversationFiles, DataSource
from maya_core.learning.data_languages import UNKNOWN, file_language, language_label
from tests.maya_core.learning.test_records import record, text_record, write


def opened(folder: Path, *names: str, **options) -> ConversationFiles:
    sources = [DataSource.parse(str(folder / name)) for name in names]
    return ConversationFiles(sources, folder, cache=folder.parent / "cache", **options)


def ids(data: ConversationFiles) -> list[str]:
    return [f"{file.path.stem} {file[number]['id']}" for file, number in map(data.locate, range(len(data)))]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for code, size in {"en": 40, "hi": 10, "ur": 2}.items():
        write(folder / f"{code}.json", [text_record(n) for n in range(size)])
    write(folder / "mixed.jsonl", [text_record(n, language=("hi", "Hindi", "fr")[n % 3]) for n in range(9)])
    return folder


@pytest.mark.parametrize(
    ("written", "path", "weight"),
    [
        ("a.json", "a.json", 1.0),
        ("a.json:0.3", "a.json", 0.3),
        ("C:\\data\\a.json", "C:\\data\\a.json", 1.0),
        ("C:\\a.json:2", "C:\\a.json", 2.0),
    ],
)
def test_a_weight_stands_behind_the_name(written, path, weight):
    assert DataSource.parse(written) == DataSource(Path(path), weight)


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf"])
def test_a_weight_that_cannot_be(weight):
    with pytest.raises(ValueError, match=f"The weight of a.json is {weight}"):
        DataSource.parse(f"a.json:{weight}")


def test_weights_say_how_often_records_stand_in_an_epoch(folder):
    data = opened(folder, "en.json", "hi.json:0.5", "ur.json:3")
    counts = Counter(name.split()[0] for name in ids(data))
    assert counts == {"en": 40, "hi": 5, "ur": 6}
    assert max(Counter(ids(data)).values()) == 3
    balanced = opened(folder, "en.json", "hi.json", mixing=BALANCED)  # each file is mixed by itself
    assert len(balanced) == 50


def test_a_language_of_two_names_in_a_file_is_one(folder):
    data = opened(folder, "mixed.jsonl")
    assert {code: count.records for code, count in data.report().items()} == {"hi": 6, "fr": 3}
    assert sorted(ids(data)) == [f"mixed {n:05d}" for n in range(9)]


def test_what_is_taken_is_balanced_and_comes_from_the_seed(folder):
    def taken(number: int, seed: int) -> ConversationFiles:
        data = opened(folder, "en.json", "hi.json", "ur.json", "mixed.jsonl")
        data.take(number, seed=seed)
        return data

    data = taken(20, 1)
    assert {code: count.records for code, count in data.report().items()} == {"en": 8, "hi": 7, "ur": 2, "fr": 3}
    assert len(set(ids(data))) == 20
    assert ids(taken(20, 1)) == ids(data) != ids(taken(20, 2))
    assert len(taken(1000, 1)) == 61
    assert len(taken(3, 1)) == 3


def test_what_is_held_out_is_not_trained_on(folder):
    data = opened(folder, "en.json", "ur.json", "mixed.jsonl:2")
    whole = set(ids(data))
    held = data.split(0.1, seed=3)
    assert {code: count.records for code, count in held.report().items()} == {"en": 4, "ur": 1, "hi": 1, "fr": 1}
    assert len(ids(held)) == len(set(ids(held))) == 7
    assert set(ids(data)) == whole - set(ids(held))


def test_records_are_left_out(folder):
    data = opened(folder, "en.json", "hi.json")
    data.leave_out({0: range(40), 1: [3]})
    assert set(ids(data)) == {f"hi {n:05d}" for n in range(10) if n != 3}
    assert data.records(1).tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    with pytest.raises(DataError, match="en.json, hi.json has no record"):
        data.leave_out({0: range(40), 1: range(10)})


def test_data_sets_are_told_apart_by_content(tmp_path):
    def mark(folder: str, *, answer: str = "A dog.", colour: int = 0, name: str = "en.json", weight: str = "") -> str:
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        write(place / name, [record(answer=answer)])
        Image.new("RGB", (8, 8), (colour, 0, 0)).save(place / "dog.png")
        return opened(place, name + weight).fingerprint()

    same = mark("a")
    assert mark("b") == same
    assert len({same, mark("a", answer="A cat."), mark("a", colour=9), mark("a", weight=":2")}) == 4


@pytest.mark.parametrize(
    ("name", "code"),
    [
        *(("Bengali", "bn"), ("bengali", "bn"), ("Bangla", "bn"), ("ben", "bn"), ("bn-BD", "bn"), ("বাংলা", "bn")),
        *(("zho", "zh"), ("chi", "zh"), ("zh_Hans_CN", "zh"), ("中文", "zh"), ("Chinese (Simplified)", "zh")),
        *(("français", "fr"), ("fra", "fr"), ("हिंदी", "hi"), ("हिन्दी", "hi"), ("اردو", "ur"), ("Simplified Chinese", "zh")),
        *(("German", "de"), ("de-AT", "de"), ("tlh", "tlh"), ("English and Hindi", "english and hindi")),
    ],
)  # fmt: skip
def test_a_language_by_each_of_its_names(name, code):
    assert language_label(name) == code


@pytest.mark.parametrize(
    ("name", "code"),
    [
        *(("bengali.json", "bn"), ("palo_bengali.jsonl", "bn"), ("blip_558k_Bengali.json", "bn"), ("বাংলা.json", "bn")),
        *(("data-jpn.json", "ja"), ("llava_instruct_150k_zh.json", "zh"), ("हिन्दी.json", "hi"), ("train_german.json", "de")),
        *(("to_do_no_it_is.json", UNKNOWN), ("swahili.jsonl", "sw"), ("roots.json", UNKNOWN)),
    ],
)  # fmt: skip
def test_a_file_by_each_name_of_its_language(name, code):
    assert file_language(Path(name)) == code
