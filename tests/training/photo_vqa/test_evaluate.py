"""The examination of a model, its figures, and the commands of the world of photographs."""

import json
import random
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from maya_core.languages import CODES, PRETRAINED_CODES, get_language
from maya_core.model.images import open_image
from maya_core.weights.checkpoint import save_model
from tests.tiny import tiny_session
from training.photo_vqa.__main__ import app
from training.photo_vqa.evaluate import (
    BATCH,
    LONGEST_ANSWER,
    PARTS,
    Asked,
    Scores,
    evaluate,
    examination,
    said_with_doubt,
)
from training.photo_vqa.export import TURNS, export
from training.photo_vqa.phrases import load_phrases
from training.photo_vqa.preview import answered, failed, preview
from training.photo_vqa.questions import ask
from training.photo_vqa.scenes import Scene, Seen, photographs
from training.photo_vqa.things import load_names
from training.sheets import MARGIN, SIDE, WIDTH, Line, contact_sheet

HUSKY = Scene(things=(Seen(thing="husky"),))


@pytest.fixture(scope="module")
def tested(folders):
    """As the command takes them: the photographs of the test, and of COCO's all that training does not see."""
    few = photographs(None, folders / "coco", "calibration")
    return photographs(folders / "caltech", folders / "coco", "test") + few


class Scripted:
    """Answers what it is told to, one after the other, and keeps what it was asked."""

    def __init__(self, answers):
        self.to_say = iter(answers)
        self.asked = []

    def answers(self, conversations, options):
        assert options.max_new_tokens == LONGEST_ANSWER
        assert 1 <= len(conversations) <= BATCH
        self.asked += conversations
        return [next(self.to_say) for _ in conversations]


# --- figures ---


def test_answers_are_counted_by_language_and_part_and_those_of_names_by_doubt():
    scores = Scores(wording="held", photographs=3)
    name = ask(HUSKY, "what", "en", random.Random(0))
    hindi = ask(HUSKY, "what", "hi", random.Random(0))
    said = [
        ("name", name, "A husky"),
        ("name", name, "A cat"),
        ("name", name, "I'm not sure; perhaps a dog."),
        ("name", name, "I'm not sure; perhaps a cat."),
        ("name", name, "I don't know what that is."),
        ("name", hindi, hindi.answer),
        ("unknown", name, "I don't know what that is."),
        ("unknown", name, "I'm not sure; perhaps a cat."),
        ("unknown", name, "A cat"),
        ("there", name, "I'm not sure; perhaps a cat."),
    ]
    for part, question, given in said:
        scores.add(Asked(part=part, scene=HUSKY, question=question), given)
    assert scores.share("en", "name") == 2 / 5
    assert scores.share("hi", "name") == 1
    assert scores.share(None, "name") == pytest.approx((2 / 5 + 1) / 2)
    assert scores.share("en", "unknown") == 2 / 3
    assert scores.share("en", None) == pytest.approx((2 / 5 + 2 / 3 + 0) / 3)
    assert scores.share("en", "count") is None
    assert dict(scores.named) == {
        "sure": 4, "sure, right": 2, "doubted": 3, "doubted, right": 1, "unknown": 2, "unknown, right": 0}  # fmt: skip
    assert [given for _, given in scores.failures] == [said[number][2] for number in (1, 3, 4, 8, 9)]
    told = scores.as_json()
    assert told["questions"] == 10
    assert told["asked"]["name"] == 6
    assert told["right"]["mean"]["unknown"] == 2 / 3
    assert told["right"]["ja"] == dict.fromkeys((*PARTS, "all"))
    assert json.loads(json.dumps(told)) == told
    assert scores.as_table().row_count == len(CODES) + 1


@pytest.mark.parametrize("code", CODES)
def test_doubt_is_heard_in_every_language(code):
    phrases, names = load_phrases(code), load_names(code)
    for name in names.values():
        doubted = phrases.sentence("unsure", name)
        assert said_with_doubt(doubted, code) == (True, False)
        assert said_with_doubt(doubted.rstrip(".。।۔").upper(), code) == (True, False)
        assert said_with_doubt(phrases.named(name), code) == (False, False)
        assert said_with_doubt(phrases.sentence("there", name), code) == (False, False)
    assert said_with_doubt(phrases.sentence("unknown"), code) == (False, True)
    assert said_with_doubt("", code) == (False, False)
    nothing = phrases.said["unsure"].partition("{")[0] + phrases.said["unsure"].rpartition("}")[2]
    assert said_with_doubt(nothing, code) == (False, False)


# --- the examination ---


def test_the_examination_asks_of_every_part_in_every_language(tested):
    asked = list(examination(tested, "held", n=40))
    assert asked == list(examination(tested, "held", n=40))
    assert {one.part for one in asked} == set(PARTS)
    assert {one.question.language for one in asked} == set(CODES)
    numbers = Counter(one.part for one in asked)
    for part in ("unknown", "person", "there", "absent"):
        by_picture = Counter(id(one.scene) for one in asked if one.part == part)
        assert by_picture, part
    assert numbers["there"] == numbers["absent"]
    single = [one for one in tested if len(one.things) == 1 and not one.lists_all]
    assert numbers["name"] == min(40, len(single))
    assert numbers["unknown"] == 3 * sum(not one.things and not one.lists_all for one in tested)
    for one in asked:
        assert bool(one.before) == (one.part == "follow")
        assert all(before.language == one.question.language for before in one.before)
        assert {piece.photograph for piece in one.scene.pieces} <= set(tested)
        if one.scene.drawing:
            assert one.scene.drawing.split == "test"
        said_no = one.question.answer == load_phrases(one.question.language).sentence(
            "not_there", load_names(one.question.language)[one.question.thing or "dog"]
        )
        assert one.part not in ("there", "absent") or said_no == (one.part == "absent")


def test_fewer_are_asked_where_fewer_are_wanted_and_held_back_wordings_only_where_these_are(tested):
    few, many = (list(examination(tested, "train", n=n)) for n in (4, 40))
    assert Counter(one.part for one in few)["name"] == 4
    assert len(few) < len(many)
    for wording in ("train", "held"):
        own = {
            one.question.text
            for one in examination(tested, wording, n=20)
            if one.part == "name" and one.question.language == "en"
        }
        assert own
        assert own <= set(getattr(load_phrases("en").asked["what"], wording))


def test_who_knows_everything_is_always_right(tested):
    asked = list(examination(tested, "held", n=12))
    session, told = Scripted(one.question.answer for one in asked), []
    scores = evaluate(session, tested, n=12, on_progress=told.append)
    assert len(session.asked) == sum(scores.asked.values()) == told[-1] == len(asked)
    assert told == sorted(told)
    assert scores.failures == []
    assert all(scores.share(None, part) == 1 for part in PARTS)
    for one, messages in zip(asked, session.asked, strict=True):
        assert [message.role for message in messages] == ["user", "assistant"] * len(one.before) + ["user"]
        assert [len(message.images) for message in messages] == [1] + [0] * (len(messages) - 1)
        request = f"\n{get_language(one.question.language).request}"
        for message, before in zip(messages[::2], (*one.before, one.question), strict=True):
            assert message.text in (before.text, before.text + request)
            is_latin = one.question.language in ("hi", "ur") and before.text.isascii()
            assert message.text.endswith(request) or not is_latin
        assert [message.text for message in messages[1::2]] == [before.answer for before in one.before]
        shown, own = (np.asarray(picture) for picture in (messages[0].images[0], one.scene.render()))
        assert np.array_equal(shown, own)


def test_who_knows_nothing_is_right_about_what_nobody_knows(tested):
    asked = list(examination(tested, "held", n=12))
    session = Scripted(load_phrases(one.question.language).sentence("unknown") for one in asked)
    scores = evaluate(session, tested, n=12)
    assert {part: scores.share(None, part) for part in PARTS} == {part: float(part == "unknown") for part in PARTS}
    assert set(scores.named) == {"unknown", "unknown, right"}
    assert len(scores.failures) == len(asked) - scores.named["unknown"] + sum(one.part == "name" for one in asked)


# --- sheets and files ---


def test_sheets_have_a_picture_and_ink_in_every_row(tested):
    sheet = preview(tested)
    assert (np.asarray(sheet.convert("L"))[:, 300:WIDTH] < 128).any(axis=1).sum() > 500
    assert sheet.height == 10 * preview_row_height()
    few = [one for one in tested if one.things][:3]
    session = Scripted("A dog" for _ in range(15))
    assert answered(session, few).height == 2 * preview_row_height()
    assert {messages[0].text for messages in session.asked} <= {
        wording for code in CODES for wording in load_phrases(code).asked["what"].held
    }
    asked = next(one for one in examination(tested, "held", n=12) if one.part == "follow")
    wrong = np.asarray(failed([(asked, "A cow")]).convert("L"))
    empty_beside = wrong[:, WIDTH + MARGIN :]
    assert (wrong[:, :WIDTH] < 128).any()
    assert (empty_beside == 255).all()


def test_a_long_line_stays_in_its_column():
    for code, words in (("en", "What is this, please? "), ("ur", "یہ کیا ہے، بتائیں؟ ")):
        white = Image.new("RGB", (9, 9), "white")
        sheet = np.asarray(contact_sheet([(white, [Line(code, words * 5, "…")]), (white, [])]).convert("L"))
        assert (sheet[:, SIDE + 2 * MARGIN : WIDTH - MARGIN] < 128).any()
        assert (sheet[:, : SIDE + MARGIN] == 255).all()
        assert (sheet[:, WIDTH - MARGIN :] == 255).all()


def preview_row_height():
    return SIDE + 2 * MARGIN


def test_export_is_llava_json_with_pictures(folders, tmp_path):
    train = photographs(folders / "caltech", folders / "coco", "train")
    captions, conversations = export(tmp_path, train, 30)
    records = {name: json.loads((tmp_path / f"{name}.json").read_text("utf-8")) for name in ("pretrain", "instruct")}
    assert (len(records["pretrain"]), len(records["instruct"])) == (captions, conversations)
    assert 15 < captions < 30  # not every scene has a caption: some have too many things
    assert 25 < conversations <= 30
    assert {record["language"] for record in records["pretrain"]} == set(PRETRAINED_CODES)
    assert {record["language"] for record in records["instruct"]} == set(CODES)
    for name, most in (("pretrain", 1), ("instruct", TURNS)):
        assert len({record["id"] for record in records[name]}) == len(records[name])
        for record in records[name]:
            assert min(open_image(tmp_path / "images" / record["image"]).size) >= 32
            turns = record["conversations"]
            assert 2 <= len(turns) <= 2 * most
            assert [turn["from"] for turn in turns] == ["human", "gpt"] * (len(turns) // 2)
            assert [turn["value"].count("<image>") for turn in turns] == [1] + [0] * (len(turns) - 1)
            assert turns[0]["value"].startswith("<image>\n")
    again = tmp_path / "again"
    export(again, train, 30)
    assert (again / "instruct.json").read_bytes() == (tmp_path / "instruct.json").read_bytes()


@pytest.mark.long(8)
def test_the_commands(folders, tmp_path, monkeypatch, capsys):
    """As README has them: a preview, an export, and a model's figures with sheets."""
    monkeypatch.setenv("COLUMNS", "200")
    photos = ["--caltech", str(folders / "caltech"), "--coco", str(folders / "coco")]
    app.cli(args=["preview", "--out", str(tmp_path / "new" / "preview.png"), *photos])
    with Image.open(tmp_path / "new" / "preview.png") as sheet:
        assert sheet.width == 2 * WIDTH
    app.cli(args=["export", "--out", str(tmp_path / "data"), "--n", "5", *photos])
    assert len(list((tmp_path / "data" / "images").iterdir())) == 5
    assert "conversations in" in capsys.readouterr().out
    session = tiny_session()
    save_model(session.model, session.processor, tmp_path / "model")
    files = {
        name: tmp_path / name / f"out.{'json' if name == 'json' else 'png'}" for name in ("json", "sheet", "failures")
    }
    flags = [part for name, file in files.items() for part in (f"--{name}", str(file))]
    app.cli(args=["evaluate", *photos, "--model", str(tmp_path / "model"), "--n", "4", *flags])
    told = json.loads(files["json"].read_text())
    assert told["questions"] == sum(told["asked"].values()) > 100
    assert told["wording"] == "held"
    out = capsys.readouterr().out
    assert f"{told['photographs']} photographs, {told['questions']} questions" in out
    assert "Names: {'sure':" in out
    for name in ("sheet", "failures"):
        with Image.open(files[name]) as sheet:
            assert sheet.height >= preview_row_height()
