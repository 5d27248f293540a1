"""Training files: where their records are, what is wrong with them, and how their languages are mixed."""

import json
import os
import pickle
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maya_core.errors import DataError
from maya_core.learning.conversation_files import BALANCED, NATURAL, ConversationFiles, data_files
from maya_core.learning.data import ConversationCollator, Sample, Steps, load_steps, sample_index
from maya_core.learning.data_languages import UNKNOWN, file_language, language_label
from maya_core.learning.record_index import BOM, LineScanner, ListScanner, RecordFile, build_index
from maya_core.learning.records import conversation, defects
from maya_core.model.prompt import Message
from tests.tiny import tiny_session


def record(number=0, *, question="<image>\nWhat is it?", answer="A dog.", image="dog.png", **fields):
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    shown = {"image": image} if image is not None else {}
    return {"id": f"{number:05d}", **shown, "conversations": turns, **fields}


def text_record(number=0, **fields):
    return record(number, question="Why?", image=None, **fields)


def write(file: Path, records, **options) -> Path:
    if file.suffix == ".jsonl":
        file.write_text("".join(json.dumps(one, **options) + "\n" for one in records), "utf-8")
    else:
        file.write_text(json.dumps(records, **options), "utf-8")
    return file


def opened(file: Path, **options) -> RecordFile:
    return RecordFile(file, cache=file.parent / "cache", **options)


def all_records(file: RecordFile):
    return [file[number] for number in range(len(file))]


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("dog.png", "cat.png"):
        Image.new("RGB", (8, 8)).save(folder / name)
    return folder


# --- where records are ---

AWKWARD = st.text(st.sampled_from('"\\[]{},:\n aé\u0000\u2028कु😀'), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | AWKWARD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(AWKWARD, inner, max_size=3),
    max_leaves=8,
)
SPELLINGS = st.fixed_dictionaries(
    {"ensure_ascii": st.booleans(), "indent": st.sampled_from([None, 0, 1, "\t"])},
)


def slices(text: bytes, scanner, chunk: int, first: int):
    """What stands between the cuts, for a whole text fed in chunks."""
    cuts = [first]
    for start in range(0, len(text), chunk):
        if not scanner.closed:
            cuts += (scanner.feed(text[start : start + chunk]) + start).tolist()
    return [text[start + 1 : stop] for start, stop in pairwise(cuts)]


@settings(deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=5), SPELLINGS, st.integers(1, 70))
def test_the_scanner_parts_a_list_as_json_does(values, spelling, chunk):
    text = json.dumps(values, **spelling).encode()
    scanner = ListScanner()
    assert [json.loads(one) for one in slices(text + b"\n", scanner, chunk, 0)] == values
    assert scanner.closed


@pytest.mark.parametrize("backslashes", range(6))
def test_a_chunk_may_end_anywhere(backslashes):
    values = [{"a": "\\" * backslashes + '"],[{' + "\\" * backslashes}, '"', {"b": ["\\", {}]}, 3]
    text = json.dumps(values).encode()
    for chunk in range(1, len(text) + 1):
        assert [json.loads(one) for one in slices(text, ListScanner(), chunk, 0)] == values


def test_long_runs_of_backslashes_over_word_and_chunk_borders():
    values = [f"{'x' * lead}{chr(92) * run}{chr(34)},[" for lead in range(60, 68) for run in (1, 2, 63, 64, 65, 300)]
    text = json.dumps(values).encode()
    for chunk in (64, 100, len(text)):
        assert [json.loads(one) for one in slices(text, ListScanner(), chunk, 0)] == values


@settings(deadline=None, max_examples=30)
@given(st.lists(st.dictionaries(AWKWARD, AWKWARD, min_size=1), min_size=1, max_size=4), st.integers(1, 40))
def test_the_scanner_parts_lines(values, chunk):
    text = b"".join(json.dumps(value).encode() + b"\n" for value in values)
    assert [json.loads(one) for one in slices(text, LineScanner(), chunk, -1)] == values


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize("start", [b"", BOM])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
@pytest.mark.parametrize("final", [True, False])
def test_byte_order_mark_line_ends_and_no_last_line_end(tmp_path, suffix, start, newline, final):
    records = [record(number, answer="एक कुत्ता।") for number in range(3)]
    text = write(tmp_path / f"data{suffix}", records, **({"indent": 1} if suffix == ".json" else {})).read_bytes()
    text = text.strip().replace(b"\n", newline) + (newline if final else b"")
    (tmp_path / f"data{suffix}").write_bytes(start + text)
    for chunk in (7, 1 << 18):
        file = RecordFile(tmp_path / f"data{suffix}", cache=tmp_path / str(chunk), chunk_bytes=chunk)
        assert all_records(file) == records
        assert file.damage is None


def test_blank_lines_are_no_records(tmp_path):
    lines = ["", json.dumps(record(1)), "  \r", "", json.dumps(record(2)), "", ""]
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join(lines))
    assert all_records(opened(file)) == [record(1), record(2)]
    assert opened(file).damage is None


@pytest.mark.parametrize("text", ["", " \n", "[]", "[ \n ]\n"])
def test_files_without_records(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    file = opened(tmp_path / "a.json")
    assert len(file) == 0
    assert file.damage is None
    with pytest.raises(DataError, match="a.json has no record that can be trained on") as caught:
        ConversationFiles(tmp_path / "a.json", tmp_path, cache=tmp_path / "cache")
    assert caught.value.kind == "no-records"


WHOLE = json.dumps([record(n) for n in range(3)]).encode()
LINES = b"".join(json.dumps(record(n)).encode() + b"\n" for n in range(3))


@pytest.mark.parametrize(
    ("name", "text", "kept", "sentence"),
    [
        ("a.json", WHOLE[:-40], 2, "record 3, from byte .* has no end"),
        ("a.json", WHOLE[:-1], 2, "or the list itself has no end"),
        ("a.json", WHOLE + bytes(9), 3, "NUL bytes follow the end of the list"),
        ("a.json", WHOLE + b"\n" + WHOLE, 3, "something follows the end of the list"),
        ("a.jsonl", LINES[:-40], 2, "last line, record 3 .*, is cut off"),
        ("a.jsonl", LINES + b'{"id', 3, "last line, record 4 .*, is cut off"),
        ("a.jsonl", LINES + bytes(4096), 3, "last line, record 4 .*, ends in NUL bytes"),
        ("a.jsonl", LINES[:-40] + bytes(64), 2, "last line, record 3 .*, ends in NUL bytes"),
        ("a.jsonl", LINES + b"[" * 100_000, 3, "is cut off"),
    ],
)
def test_a_file_that_is_not_whole_is_named(tmp_path, name, text, kept, sentence):
    (tmp_path / name).write_bytes(text)
    file = opened(tmp_path / name)
    assert all_records(file) == [record(n) for n in range(kept)]
    assert re.search(sentence, str(file.damage))
    assert str(file.damage).startswith(name)
    assert file.damage.kind == "torn"
    assert str(opened(tmp_path / name).damage) == str(file.damage)  # from the cache
    with pytest.raises(DataError, match=sentence):
        ConversationFiles(tmp_path / name, tmp_path, cache=tmp_path / "cache")


@pytest.mark.parametrize("bad", [b'{"a": 1', b"{'a': 1}", b'{"a": "\xff"}', b'"text"', b"7", b"[" * 100_000, b"\0\0"])
def test_a_record_that_is_no_object_is_named_when_asked_for(tmp_path, bad):
    (tmp_path / "a.jsonl").write_bytes(LINES + bad + b"\n" + LINES)
    file = opened(tmp_path / "a.jsonl")
    assert (len(file), file[2], file[4]) == (7, record(2), record(0))
    with pytest.raises(DataError, match=r"a.jsonl, record 4: it is not .*JSON") as caught:
        file[3]
    assert caught.value.kind == "not-json"
    with pytest.raises(IndexError):
        file[7]


def test_elements_that_are_no_objects_keep_their_place_in_a_list(tmp_path):
    (tmp_path / "a.json").write_text(f'[{json.dumps(record(0))}, 7, "a, b", null,, {json.dumps(record(1))}]')
    file = opened(tmp_path / "a.json")
    assert (len(file), file[0], file[5]) == (6, record(0), record(1))
    for number in range(1, 5):
        with pytest.raises(DataError, match=f"record {number + 1}"):
            file[number]


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"a.json cannot be read") as caught:
        opened(tmp_path / "a.json")
    assert caught.value.kind == "file"


# --- the cache ---


def test_an_index_is_made_once(tmp_path):
    file = write(tmp_path / "a.json", [record(n) for n in range(9)])
    heard = []
    first = opened(file, chunk_bytes=100, on_progress=lambda done, size: heard.append((done, size)))
    assert heard[-1] == (file.stat().st_size,) * 2
    assert len(heard) > 5
    heard.clear()
    again = opened(file, on_progress=lambda done, size: heard.append(done))
    assert heard == []
    assert isinstance(again.index.cuts.base.base, np.memmap)
    assert all_records(first) == all_records(again) == [record(n) for n in range(9)]


def test_a_changed_file_is_indexed_anew(tmp_path):
    file = write(tmp_path / "a.json", [record(n) for n in range(9)])
    opened(file)
    write(file, [record(n) for n in range(4)])
    assert len(opened(file)) == 4
    moved = json.dumps([7, record(1), record(2), 8])
    file.write_text(moved.ljust(file.stat().st_size))  # the same size
    os.utime(file, ns=(1, 1))
    assert opened(file)[1] == record(1)
    assert len(list((tmp_path / "cache").iterdir())) == 1  # the old ones went


@pytest.mark.parametrize("harm", [lambda data: data[:-8], lambda data: b"", lambda data: bytes(len(data))])
def test_a_damaged_cache_is_made_anew(tmp_path, harm):
    file = write(tmp_path / "a.json", [record(n) for n in range(9)])
    opened(file)
    (kept,) = (tmp_path / "cache").iterdir()
    good = kept.read_bytes()
    kept.write_bytes(harm(good))
    assert all_records(opened(file)) == [record(n) for n in range(9)]
    assert kept.read_bytes() == good


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    file = write(tmp_path / "a.json", [record(n) for n in range(9)])
    (tmp_path / "cache").write_text("a file, not a folder")
    assert len(pickle.loads(pickle.dumps(opened(file)))) == 9
    (tmp_path / "cache").unlink()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert all_records(opened(file)) == [record(n) for n in range(9)]
    assert list((tmp_path / "cache").iterdir()) == []  # nothing half-written stays


def test_a_file_that_changes_under_us_is_refused(tmp_path):
    file = write(tmp_path / "a.json", [record(0)])
    before = opened(file)
    pickled = pickle.dumps(opened(file))
    write(file, [record(1), record(2)])
    for use in (lambda: before[0], lambda: pickle.loads(pickled)):
        with pytest.raises(DataError, match="was changed while it was in use") as caught:
            use()
        assert caught.value.kind == "changed"


def test_a_pickle_holds_no_data(tmp_path):
    file = opened(write(tmp_path / "a.json", [record(n) for n in range(2000)]))
    assert file[7] == record(7)  # mapped
    pickled = pickle.dumps(file)
    assert len(pickled) < 1000
    assert all_records(pickle.loads(pickled)) == all_records(file)


# --- one record ---


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("<image>\nWhat is it?", "What is it?"),
        ("What is it?\n<image>", "What is it?"),
        ("<image>What is it?", "What is it?"),
        ("  <image>  What\n  is <it>?  ", "What\n  is <it>?"),
        ("<image>\n", ""),
    ],
)
def test_the_marker_goes_and_the_words_stay(images, question, words):
    sample = conversation(record(question=question), images, captions=True)
    user = Message(role="user", text=words, images=(images / "dog.png",))
    assert sample == Sample(messages=(user, Message(role="assistant", text="A dog.")))


def test_text_without_a_picture_stays_as_it_is(images):
    sample = conversation(record(question=" Why? \n", answer=" So.\n", image=None), images)
    assert [message.text for message in sample.messages] == [" Why? \n", " So.\n"]
    assert sample.messages[0].images == ()


def test_each_question_shows_its_own_pictures(images):
    turns = [("user", "<image><image>\nWhich?"), ("assistant", "Both."), ("human", "And?\n<image>"), ("gpt", "No.")]
    one = {
        "image": ["dog.png", "cat.png", "dog.png"],
        "conversations": [{"from": speaker, "value": text} for speaker, text in turns],
    }
    messages = conversation(one, images).messages
    assert [message.text for message in messages] == ["Which?", "Both.", "And?", "No."]
    assert [[file.name for file in message.images] for message in messages] == [
        ["dog.png", "cat.png"],
        [],
        ["dog.png"],
        [],
    ]


def test_a_text_in_parts_is_joined_by_lines(images):
    one = record(question=["<image>", "What", "is it?"], answer=["A dog.", "Brown."])
    assert [message.text for message in conversation(one, images).messages] == ["What\nis it?", "A dog.\nBrown."]


def test_what_palo_adds_is_not_read(images):
    plain = record()
    palo = plain | {"english_conversations": [{"from": "nobody"}], "corrupt": False, "hindi_conversation": 5}
    assert conversation(palo, images) == conversation(plain, images)


HUMAN, GPT = {"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}
DEFECTS = {
    "no conversations": ({"id": 1}, ["missing-keys"]),
    "conversations of a wrong type": ({"conversations": "So."}, ["missing-keys"]),
    "no value": ({"conversations": [HUMAN, {"from": "gpt"}]}, ["missing-keys"]),
    "no speaker": ({"conversations": [{"value": "Why?"}, GPT]}, ["missing-keys"]),
    "a turn that is text": ({"conversations": ["Why?", "So."]}, ["missing-keys"]),
    "a value that is a number": ({"conversations": [HUMAN, {"from": "gpt", "value": 5}]}, ["missing-keys"]),
    "parts that are numbers": ({"conversations": [HUMAN, {"from": "gpt", "value": ["So", 5]}]}, ["missing-keys"]),
    "an image that is a number": (record(image=5), ["missing-keys"]),
    "an image without a name": (record(image=""), ["missing-keys"]),
    "empty conversation": ({"conversations": []}, ["no-conversation"]),
    "answer first": ({"conversations": [GPT, HUMAN]}, ["roles"]),
    "two questions": ({"conversations": [HUMAN, HUMAN, GPT]}, ["roles"]),
    "no answer": ({"conversations": [HUMAN, GPT, HUMAN]}, ["roles"]),
    "unknown speaker": ({"conversations": [HUMAN, {"from": "bot", "value": "So."}]}, ["roles"]),
    "empty answer": (record(answer=" \n"), ["empty-answer"]),
    "empty question": (record(question="", image=None), ["empty-question"]),
    "only a picture": (record(question="<image>\n"), ["empty-question"]),
    "half a letter": (record(answer="A \ud83d dog"), ["bad-letters"]),
    "marker without picture": (record(image=None), ["marker-without-picture"]),
    "marker without picture in a list": (record(image=[]), ["marker-without-picture"]),
    "picture without marker": (record(question="What?"), ["picture-without-marker"]),
    "two markers": (record(question="<image><image> What?"), ["marker-count"]),
    "marker in the answer": (record(answer="It is <image>."), ["marker-in-answer"]),
    "several": (record(answer="", image=["a.png", "../b.png"]), ["empty-answer", "marker-count", "picture-outside"]),
} | {
    f"picture {name!r}": (record(image=name), ["picture-outside"])
    for name in (
        "../dog.png",
        "a/../../dog.png",
        "/dog.png",
        "..\\dog.png",
        "C:dog.png",
        "\\\\host\\dog.png",
        "a\0.png",
    )
}


@pytest.mark.parametrize("name", DEFECTS)
def test_every_defect_is_named_and_the_first_one_raised(images, name):
    one, kinds = DEFECTS[name]
    assert [defect.kind for defect in defects(one)] == kinds
    with pytest.raises(DataError) as caught:
        conversation(one, images, place="hi.json, record 3")
    assert caught.value.kind == kinds[0]
    shown = f" (id {one['id']!r})" if "id" in one else ""
    assert str(caught.value).startswith(f"hi.json, record 3{shown}: ")
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    "one",
    [record(), text_record(), record(image=["dog.png"]), record(image=None, question="a < image >"), {"id": None}],
)
def test_good_records_have_no_defect(one):
    assert (list(defects(one)) == []) == ("conversations" in one)


def test_a_question_may_be_a_picture_alone_in_captions_only(images):
    assert list(defects(record(question="<image>"), captions=True)) == []
    later = record()["conversations"] + [{"from": "human", "value": " "}, GPT]
    assert [defect.kind for defect in defects(record() | {"conversations": later}, captions=True)] == ["empty-question"]


def test_a_missing_picture_is_named_and_never_replaced(images):
    with pytest.raises(
        DataError, match=r"x \(id '00004'\): its picture 'bird.png' is not in the folder images"
    ) as caught:
        conversation(record(4, image="bird.png"), images, place="x")
    assert caught.value.kind == "picture-missing"


def test_a_message_shows_no_more_than_a_name(images):
    with pytest.raises(DataError) as caught:
        conversation(record(answer="", id="x" * 10_000 + "\n\u202e"), images)
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


# --- languages ---


@pytest.mark.parametrize(
    ("name", "language"),
    [
        ("blip_laion_cc_sbu_558k_hi.json", "hi"),
        ("palo_hindi.json", "hi"),
        ("llava-Chinese-150K.jsonl", "zh"),
        ("zh_chinese.json", "zh"),
        ("zh-Hans.json", "zh"),
        ("data.ur.jsonl", "ur"),
        ("train.json", UNKNOWN),
        ("history.json", UNKNOWN),
    ],
)
def test_a_file_says_its_language_by_its_name(name, language):
    assert file_language(Path(name)) == language


def test_a_file_of_two_languages_needs_them_in_its_records(tmp_path, images):
    file = write(tmp_path / "english_hindi.json", [record(0, language="hi"), record(1, language="English")])
    data = ConversationFiles(file, images, cache=tmp_path / "cache")
    assert [data[index].language for index in range(2)] == ["hi", "en"]
    write(file, [record(0, language="hi"), record(1)])
    with pytest.raises(DataError, match=r"names 2 languages \(en, hi\)") as caught:
        ConversationFiles(file, images, cache=tmp_path / "cache")
    assert caught.value.kind == "language"


def test_labels():
    given_ = ("zh-CN", "Hindi", " UR ", "bn_BD", "ko", "")
    assert [language_label(tag) for tag in given_] == ["zh", "hi", "ur", "bn", "ko", UNKNOWN]


# --- files as a data set ---


def places(data: ConversationFiles) -> list[str]:
    """The file and number at every place of an epoch."""
    return [f"{file.path.stem} {number}" for file, number in map(data.locate, range(len(data)))]


@pytest.fixture
def folder(tmp_path):
    """English 5 + 2, of which one is corrupt; Hindi 2; French 3 within another file, by their field."""
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder / "a_en.json", [text_record(n, corrupt=n == 3) for n in range(5)])
    write(folder / "b_hindi.jsonl", [text_record(n) for n in range(2)])
    write(folder / "c_english.json", [text_record(n, **({} if n % 2 else {"language": "fr"})) for n in range(5)])
    (folder / "readme.txt").write_text("not data")
    return folder


def test_natural_has_every_record_once(tmp_path, folder):
    data = ConversationFiles(folder, tmp_path, cache=tmp_path / "cache")
    assert places(data) == [
        *("a_en 0", "a_en 1", "a_en 2", "a_en 4", "c_english 1", "c_english 3"),
        *("b_hindi 0", "b_hindi 1"),
        *("c_english 0", "c_english 2", "c_english 4"),
    ]
    assert [(span.language, span.start, span.stop) for span in data.languages] == [
        ("en", 0, 6),
        ("hi", 6, 8),
        ("fr", 8, 11),
    ]
    assert [data[index].language for index in range(11)] == [data.language(index) for index in range(11)]
    report = {language: (one.records, one.places, one.repeats, one.corrupt) for language, one in data.report().items()}
    assert report == {"en": (6, 6, 0, 1), "hi": (2, 2, 0, 0), "fr": (3, 3, 0, 0)}
    for outside in (-1, 11):
        with pytest.raises(IndexError):
            data[outside]


@pytest.mark.parametrize("sizes", [(7, 3, 1), (5, 5), (100, 99, 51, 50, 49, 2), (4,)])
@pytest.mark.parametrize("mixing", [NATURAL, 0.7, 0.3, BALANCED])
def test_mixing_is_exact(tmp_path, sizes, mixing):
    by_code = dict(zip(("en", "hi", "zh", "ru", "fr", "ar"), sizes, strict=False))
    for code, size in by_code.items():
        write(tmp_path / f"{code}.json", [text_record(n) for n in range(size)])
    data = ConversationFiles(tmp_path, tmp_path, mixing=mixing, cache=tmp_path / "cache")
    counts = Counter(places(data))
    assert len(counts) == sum(sizes)
    assert sorted(span.language for span in data.languages) == sorted(by_code)
    for span in data.languages:
        code, size = span.language, by_code[span.language]
        expected = round(sizes[0] * (size / sizes[0]) ** mixing)
        assert span.stop - span.start == expected == data.report()[code].places
        assert {NATURAL: size, BALANCED: sizes[0]}.get(mixing, expected) == expected
        times = {counts[f"{code} {n}"] for n in range(size)}
        assert times <= {expected // size, -(-expected // size)}
        assert data.report()[code].repeats == expected - size
    order = [sample_index(position, size=len(data), seed=1) for position in range(len(data))]
    assert sorted(order) == list(range(len(data)))


def test_repeats_are_spread_over_the_file(tmp_path):
    write(tmp_path / "en.json", [text_record(n) for n in range(15)])
    write(tmp_path / "hi.json", [text_record(n) for n in range(10)])
    data = ConversationFiles(tmp_path, tmp_path, mixing=BALANCED, cache=tmp_path / "cache")
    twice = [int(place.split()[1]) for place, count in Counter(places(data)).items() if count == 2]
    assert len(twice) == 5
    assert np.diff(twice).max() <= 2


@pytest.mark.parametrize("mixing", [-0.1, 1.5, float("nan")])
def test_mixing_out_of_range(tmp_path, mixing):
    with pytest.raises(ValueError, match="between 0 .balanced. and 1 .natural."):
        ConversationFiles(tmp_path, tmp_path, mixing=mixing)


@pytest.mark.parametrize("spelling", [{}, {"separators": (",", ":")}, {"indent": 2}])
@pytest.mark.parametrize("chunk", [5, 64, 1 << 18])
def test_corrupt_records_are_known_beforehand(tmp_path, spelling, chunk):
    records = [text_record(n, corrupt=n in (1, 4), answer='"corrupt": true') for n in range(5)]
    records += [text_record(5), text_record(6, nested={"corrupt": True}), text_record(7, corrupt=None)]
    file = opened(write(tmp_path / "hi.json", records, **spelling), chunk_bytes=chunk)
    assert file.index.usable.tolist() == [0, 2, 3, 5, 6, 7]
    assert file.index.corrupt.tolist() == [1, 4]
    assert file.index.facts.corrupt == {"": 2}


def test_only_flagged_records_are_parsed_beforehand(tmp_path, monkeypatch):
    records = [text_record(n, corrupt=n == 3) for n in range(8)]
    calls = []
    parse = json.loads
    monkeypatch.setattr("json.loads", lambda text: calls.append(text) or parse(text))
    with write(tmp_path / "hi.json", records).open("rb") as file:
        build_index(file)
    assert [parse(text)["id"] for text in calls] == ["00003"]


def test_a_file_of_corrupt_records_alone(tmp_path):
    write(tmp_path / "hi.json", [text_record(n, corrupt=True) for n in range(3)])
    write(tmp_path / "en.json", [text_record(0)])
    data = ConversationFiles(tmp_path, tmp_path, mixing=BALANCED, cache=tmp_path / "cache")
    report = data.report()
    assert (report["hi"].records, report["hi"].places, report["hi"].corrupt) == (0, 0, 3)
    assert len(data) == 1


def test_an_error_names_file_record_and_id(tmp_path, images):
    write(tmp_path / "hi.json", [record(0, corrupt=True), record(1), record(2, answer="")])
    data = ConversationFiles(tmp_path / "hi.json", images, cache=tmp_path / "cache")
    assert data[0].messages[0].images == (images / "dog.png",)
    with pytest.raises(DataError, match=r"^hi.json, record 3 \(id '00002'\): the answer in turn 2 is empty"):
        data[1]


def test_a_folder_without_data(tmp_path):
    (tmp_path / "readme.txt").write_text("")
    for nothing in (tmp_path, tmp_path / "none"):
        with pytest.raises(DataError, match="neither a file nor a folder with .json, .jsonl") as caught:
            data_files(nothing)
        assert caught.value.kind == "file"


def test_progress_is_told_over_all_files(tmp_path, folder):
    heard = []
    for _ in range(2):  # made, then from the cache
        ConversationFiles(folder, tmp_path, cache=tmp_path / "cache", on_progress=lambda *both: heard.append(both))
        done = [one for one, _ in heard]
        assert done == sorted(done)
        assert heard[-1] == (sum(file.stat().st_size for file in folder.glob("*.json*")),) * 2
        heard.clear()


def test_the_loop_reads_it_in_workers(tmp_path, images):
    write(tmp_path / "hi.json", [record(n, image=f"{'cat' if n % 2 else 'dog'}.png") for n in range(6)])
    data = ConversationFiles(tmp_path / "hi.json", images, cache=tmp_path / "cache")
    collator = ConversationCollator(tiny_session().processor)
    steps = Steps(dataset=data, collator=collator, batch_size=3, seed=0, most=6)
    alone, beside = (list(load_steps(steps, start=0, total=2, workers=workers)) for workers in (0, 1))
    for one, other in zip(alone, beside, strict=True):
        assert one.refused == other.refused == []
        assert one.batches[0]["pixel_values"].shape == (3, 3, 64, 64)
        assert one.batches[0]["input_ids"].equal(other.batches[0]["input_ids"])


def test_what_training_writes_training_reads(tmp_path):
    from training.emoji_vqa.export import export

    export(tmp_path, "test", 2, image_size=32)
    data = ConversationFiles(tmp_path, tmp_path / "images", cache=tmp_path / "cache")
    assert len(data) == 4
    assert all(data[index].messages[-1].role == "assistant" for index in range(4))
    assert all(data[index].messages[0].images[0].is_file() for index in range(4))
