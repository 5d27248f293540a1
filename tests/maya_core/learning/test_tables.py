"""CSV, TSV, COCO's captions and VQAv2 become conversations."""

import errno
import json
import pickle

import pytest

from maya_core.errors import DataError, DiskFull
from maya_core.learning import tables
from maya_core.learning.conversation_files import ConversationFiles
from maya_core.learning.records import answers
from maya_core.learning.tables import parse_columns


def told(source, **options) -> list[tuple]:
    """Picture, question, answer and language of each record."""
    data = ConversationFiles(source, source.parent, cache=source.parent.parent / "cache", **options)
    found = []
    for place in range(len(data)):
        file, number = data.locate(place)
        record = file[number]
        found.append((record.get("image"), record["conversations"][0]["value"], answers(record), data.language(place)))
    return found


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.mark.parametrize(("name", "between"), [("a.csv", ","), ("a.csv", ";"), ("a.tsv", "\t")])
def test_a_table_by_the_names_of_its_columns(folder, name, between):
    rows = [["Image", "question", "answer", "lang"], ["1.png", "Qu'est-ce ?", 'Un "chien"\nbrun', "French"]]
    written = "\n".join(between.join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows)
    (folder / name).write_text("\ufeff" + written, "utf-8")
    expected = [("1.png", "<image>\nQu'est-ce ?", 'Un "chien"\nbrun', "fr")]
    assert told(folder / name) == expected
    assert told(folder) == expected  # a folder of them


def test_columns_may_be_named(folder):
    (folder / "hi.csv").write_text("foto,wer,was\n1.png,ignored,कुत्ता\n,,leer\n", "utf-8")
    with pytest.raises(DataError, match="hi.csv has the columns foto, wer, was; say which are which by --columns"):
        told(folder / "hi.csv")
    columns = parse_columns(["image=foto", "answer=was"])
    first, second = told(folder / "hi.csv", columns=columns)
    assert first == ("1.png", "<image>\nचित्र का वर्णन करो।", "कुत्ता", "hi")
    assert second[0] is None
    with pytest.raises(DataError, match="has no column 'Was'; it has foto, wer, was"):
        told(folder / "hi.csv", columns={"answer": "Was"})
    for wrong in ("picture=foto", "image=", "image"):
        with pytest.raises(ValueError, match="image=NAME, question=NAME"):
            parse_columns([wrong])


def test_the_answer_given_most_often_is_learnt(folder):
    rows = [
        {
            "image": "1.png",
            "question": "What?",
            "answers": [{"answer": "a dog"}, {"answer": "dog"}, {"answer": "a dog"}],
        },
        {"image": "1.png", "question": "How many?", "answers": [2, 2, 3]},
        {"image": "1.png", "question": "Where?", "answers": ["here"]},
    ]
    (folder / "a.json").write_text(json.dumps(rows))
    assert [answer for _, _, answer, _ in told(folder / "a.json")] == ["a dog", "2", "here"]


def test_a_row_that_has_more_cells_than_the_table_is_told_by_its_line(folder):
    (folder / "a.csv").write_text(
        'sep=;\nimage;question;answer\n1.png;"What; is it?";A dog.\n1.png;What; is it?;A dog.\n'
    )
    with pytest.raises(DataError, match=r"a.csv, line 4: .* \(more cells than columns\); put .* ';' .* in quotes"):
        told(folder / "a.csv")
    (folder / "b.tsv").write_text('image\tquestion\tanswer\n1.png\t"What?\tA dog.\n1.png\tWhere?\tHere.\n')
    with pytest.raises(DataError, match=r"b.tsv, line 2: .* and write its own quotes twice"):
        told(folder / "b.tsv")


def test_a_table_in_another_encoding_is_told(folder):
    (folder / "a.csv").write_bytes("image,question,answer\n1.png,é,é\n".encode("latin-1"))
    with pytest.raises(DataError, match="it is not in UTF-8; save it so") as caught:
        told(folder / "a.csv")
    assert caught.value.kind == "encoding"
    assert not list((folder.parent / "cache").glob("*/*.jsonl"))


@pytest.mark.parametrize("start", ["info", "images", "annotations"])
def test_coco_captions(folder, start):
    content = {
        "info": {"year": 2017},
        "images": [{"id": 7, "file_name": "000000000007.jpg"}],
        "annotations": [{"image_id": 7, "id": 1, "caption": "A dog. "}, {"image_id": 7, "id": 2, "caption": "Brown."}],
    }
    (folder / "captions_val2017.json").write_text(json.dumps({start: content[start]} | content))
    asked = "<image>\nDescribe the picture."
    found = told(folder / "captions_val2017.json")
    assert found == [("000000000007.jpg", asked, text, "und") for text in ("A dog.", "Brown.")]
    content["annotations"] = [{"image_id": 7, "bbox": [1, 2, 3, 4]}]
    (folder / "instances_val2017.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="has neither captions of COCO nor questions of VQAv2"):
        told(folder / "instances_val2017.json")


def test_vqa_questions_find_their_answers(folder):
    questions = [
        {"image_id": 9, "question": "What?", "question_id": 90},
        {"image_id": 9, "question": "Where?", "question_id": 91},
    ]
    annotations = [
        {"question_id": one["question_id"], "image_id": 9, "answers": [{"answer": "no"}], "multiple_choice_answer": answer}
        for one, answer in zip(questions, ("a dog", "here"), strict=True)
    ]  # fmt: skip
    file = folder / "v2_questions.json"
    file.write_text(json.dumps({"info": {}, "data_subtype": "val2014", "questions": questions}))
    with pytest.raises(DataError, match="no file beside it has their annotations"):
        told(file)
    (folder / "v2_annotations.json").write_text(json.dumps({"info": {}, "annotations": annotations}))
    image = "COCO_val2014_000000000009.jpg"
    expected = [(image, "<image>\nWhat?", "a dog", "und"), (image, "<image>\nWhere?", "here", "und")]
    assert told(file) == told(folder) == expected


def test_lines_that_begin_with_pictures_are_conversations(folder):
    turns = [{"role": "user", "content": "<image>What?"}, {"role": "assistant", "content": "A dog."}]
    (folder / "a.json").write_text(json.dumps({"images": ["dog.png"], "messages": turns}) + "\n")
    (folder / "dog.png").touch()
    data = ConversationFiles(folder / "a.json", folder, cache=folder.parent / "cache")
    assert data[0].messages[0].images == (folder / "dog.png",)


def test_a_cache_that_cannot_be_written_is_told(folder, monkeypatch):
    file, cache = folder / "en.csv", folder.parent / "cache"
    file.write_text("image,question,answer\n1.png,What?,A dog.\n")
    cache.touch()
    with pytest.raises(DataError, match=r"What is made of en.csv cannot be kept in .*cache.* \(.*Error\)"):
        told(file)
    cache.unlink()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tables, "_rows", full)
    with pytest.raises(DiskFull, match=r"What is made of en.csv cannot be kept in .* \(the disk is full\); make room"):
        told(file)
    assert not [*cache.glob("*/*")]


# --- rows of JSON ---


def rows(file, *made):
    file.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in made), "utf-8")
    return file


def test_rows_of_json_are_conversations_in_the_language_that_they_say(folder):
    file = rows(
        folder / "a.jsonl",
        {"image": "1.png", "question": "What?", "answer": "A dog.", "lang": "en"},
        {"image": None, "question": "Why?", "answer": 3, "lang": "hi"},
        {"image": ["1.png", "2.png"], "question": "<image> or <image>?", "answers": ["x"], "answer": "The first."},
        {"image": "1.png", "answer": ["a", "b", "b"], "lang": "hi"},
    )
    assert {one[2]: (one[0], one[1], one[3]) for one in told(file)} == {
        "A dog.": ("1.png", "<image>\nWhat?", "en"),
        "3": (None, "Why?", "hi"),
        "The first.": (["1.png", "2.png"], "<image> or <image>?", "und"),
        "b": ("1.png", "<image>\nDescribe the picture.", "hi"),
    }
    data = ConversationFiles(file, folder, cache=folder.parent / "cache")
    assert {code: count.records for code, count in data.report().items()} == {"und": 1, "en": 1, "hi": 2}
    copy = pickle.loads(pickle.dumps(data))
    assert copy.files[0][1]["conversations"] == data.files[0][1]["conversations"]
    assert not [*(folder.parent / "cache").glob("*/*.jsonl")]  # they are read as they are


def test_which_key_is_for_what_can_be_said(folder):
    file = rows(folder / "hi.jsonl", {"foto": "1.png", "was": "कुत्ता", "язык": "ur"}, {"foto": "1.png", "was": "کتا"})
    with pytest.raises(DataError, match="hi.jsonl has the columns foto, was, язык; say which are which by --columns"):
        told(file)
    named = {"image": "foto", "answer": "was", "language": "язык"}
    asked = "<image>\nचित्र का वर्णन करो।"
    assert {*told(file, columns=named)} == {("1.png", asked, "कुत्ता", "ur"), ("1.png", asked, "کتا", "hi")}


def test_alpacas_rows(folder):
    row = {
        "instruction": "Say it.",
        "input": "1 + 1",
        "output": "2",
        "history": [["Hello", "Hi."]],
        "system": "Be brief.",
    }
    file = rows(folder / "en.json", row)
    data = ConversationFiles(file, folder, cache=folder.parent / "cache")
    assert [(message.role, message.text) for message in data[0].messages] == [
        ("system", "Be brief."),
        ("user", "Hello"),
        ("assistant", "Hi."),
        ("user", "Say it.\n1 + 1"),
        ("assistant", "2"),
    ]


def test_one_record_of_another_form_is_told_by_its_place(folder):
    turns = [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]
    file = rows(folder / "en.jsonl", {"id": 1, "image": "1.png"}, "no JSON", {"id": 2, "conversations": turns})
    data = ConversationFiles(file, folder, cache=folder.parent / "cache")
    with pytest.raises(DataError, match="en.jsonl, record 1 .id 1.: it has no list `conversations`"):
        data[0]
