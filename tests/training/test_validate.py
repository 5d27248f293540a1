"""The check before a run: every defect is listed by kind with its place, and the exit status says whether to train."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from maya_core.learning.conversation_files import ConversationFiles
from tests.maya_core.learning.test_records import DEFECTS, record, text_record, write
from tests.tiny import tiny_session
from training import checks, validate

ROOT = Path(__file__).parents[2]


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    Image.new("RGB", (8, 8)).save(folder / "dog.png")
    return folder


@pytest.fixture
def check(tmp_path, capsys, monkeypatch):
    """Runs the command: its exit status, its findings as JSON, its output."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(data, *flags):
        out = tmp_path / "findings.json"
        status = validate.main([str(data), "--cache", str(tmp_path / "cache"), "--json", str(out), *map(str, flags)])
        return status, json.loads(out.read_text("utf-8")), capsys.readouterr().out

    return run


def kinds(findings):
    return {kind: found["count"] for kind, found in findings["kinds"].items()}


def test_good_data_can_be_trained_on(tmp_path, images, check):
    write(tmp_path / "hi.json", [record(n, answer="यह एक भूरा कुत्ता है।") for n in range(600)])
    write(tmp_path / "en.jsonl", [text_record(n) for n in range(3)])
    status, findings, out = check(tmp_path, "--images", images)
    assert status == 0
    assert findings == {
        "records": 603,
        "unusable": 0,
        "damaged_files": 0,
        "kinds": {},
        "languages": {
            "en": {"records": 3, "unusable": 0, "corrupt": 0},
            "hi": {"records": 600, "unusable": 0, "corrupt": 0},
        },
    }
    assert "All 603 records can be trained on." in out
    assert "Defects" not in out


@pytest.mark.parametrize("name", DEFECTS)
def test_every_defect_of_a_record_is_listed(tmp_path, check, name):
    one, expected = DEFECTS[name]
    file = write(tmp_path / "en.json", [text_record(10), one, text_record(12)])
    status, findings, out = check(file)
    assert status == 1
    assert kinds(findings) == dict.fromkeys(expected, 1)
    assert (findings["records"], findings["unusable"]) == (3, 1)
    shown = f" (id {one['id']!r})" if "id" in one else ""
    assert all(findings["kinds"][kind]["places"] == [f"en.json:2{shown}"] for kind in expected)
    assert all(kind in out for kind in expected)
    assert "Not to be trained on: 1 of 3 records; mend them" in out


def test_what_is_no_record_is_listed(tmp_path, check):
    (tmp_path / "hi.jsonl").write_text(f'{json.dumps(text_record(0))}\n{{"id"\n7\n{json.dumps(text_record(1))}\n')
    status, findings, _ = check(tmp_path / "hi.jsonl")
    assert status == 1
    assert kinds(findings) == {"not-json": 2}
    assert findings["kinds"]["not-json"]["places"] == ["hi.jsonl:2", "hi.jsonl:3"]
    assert findings["languages"]["hi"] == {"records": 4, "unusable": 2, "corrupt": 0}


@pytest.mark.parametrize("end", [b'{"id": 5', bytes(10)])
def test_a_file_that_is_not_whole_is_listed(tmp_path, check, end):
    write(tmp_path / "hi.jsonl", [text_record(n) for n in range(3)])
    with (tmp_path / "hi.jsonl").open("ab") as file:
        file.write(end)
    status, findings, out = check(tmp_path)
    assert status == 1
    assert kinds(findings) == {"torn": 1}
    assert findings["kinds"]["torn"]["places"][0].startswith("hi.jsonl: its last line, record 4 from byte")
    assert (findings["records"], findings["unusable"], findings["damaged_files"]) == (3, 0, 1)
    assert "0 of 3 records and 1 damaged files; mend them" in out


def test_pictures_are_checked_by_their_headers(tmp_path, images, check):
    Image.new("RGB", (300, 2)).save(images / "strip.png")
    Image.new("L", (7000, 6000)).save(images / "large.png")
    Image.effect_noise((64, 64), 50).save(images / "broken.png")
    (images / "broken.png").write_bytes((images / "broken.png").read_bytes()[:1000])
    (images / "text.png").write_text("no picture")
    (images / "heavy.png").write_bytes(bytes(21 * 1024**2))
    names = ("dog", "bird", "strip", "large", "broken", "text", "heavy", "bird")
    file = write(tmp_path / "en.json", [record(n, image=f"{name}.png") for n, name in enumerate(names)])
    status, findings, _ = check(file, "--images", images, "--no-decode")
    assert status == 1
    places = {kind: found["places"] for kind, found in findings["kinds"].items()}
    assert places == {
        "picture-missing": ["en.json:2 (id '00001')", "en.json:8 (id '00007')"],
        "picture-too-large": [f"en.json:{n} (id '{n - 1:05d}')" for n in (3, 4, 7)],
        "picture-unreadable": ["en.json:6 (id '00005')"],
    }
    _, findings, _ = check(file, "--images", images)
    assert findings["kinds"]["picture-unreadable"]["places"] == [f"en.json:{n} (id '{n - 1:05d}')" for n in (5, 6)]
    assert check(file)[0] == 0  # without the folder they are not looked at


def test_a_picture_is_looked_at_once_and_a_bad_one_in_each_run(tmp_path, images, check, monkeypatch):
    seen = []
    look = checks.open_image
    monkeypatch.setattr(checks, "open_image", lambda file: seen.append(file.name) or look(file))
    (images / "bad.png").write_text("")
    for code in ("en", "fr"):
        write(tmp_path / f"{code}.json", [record(n, image=name) for n, name in enumerate(["dog.png", "bad.png"])])
    _, findings, _ = check(tmp_path, "--images", images)
    assert seen == ["dog.png", "bad.png"]
    assert kinds(findings) == {"picture-unreadable": 2}
    check(tmp_path, "--images", images)
    assert seen == ["dog.png", "bad.png", "bad.png"]  # what is good is known from run to run
    Image.new("RGB", (9, 9)).save(images / "dog.png")
    check(tmp_path, "--images", images)
    assert seen[3:] == ["dog.png", "bad.png"]


def test_a_picture_outside_the_folder_is_not_opened(tmp_path, images, check):
    (tmp_path / "secret.png").write_bytes((images / "dog.png").read_bytes())
    file = write(tmp_path / "en.json", [record(0, image="../secret.png")])
    assert kinds(check(file, "--images", images)[1]) == {"picture-outside": 1}


def test_the_same_id_twice_is_listed_within_one_language_of_a_file(tmp_path, check):
    write(tmp_path / "en.json", [text_record(n % 4) for n in range(9)] + [text_record() | {"id": 7}] * 2)
    write(tmp_path / "fr.json", [text_record(0), text_record(0, language="es"), text_record(1, corrupt=True)])
    write(tmp_path / "ru.json", [{"conversations": text_record(0)["conversations"]}] * 2)
    status, findings, _ = check(tmp_path)
    assert findings["kinds"]["duplicate-id"] == {
        "count": 6,
        "places": [
            *(f"en.json:{n + 5} (id '{n:05d}')" for n in range(4)),
            "en.json:9 (id '00000')",
            "en.json:11 (id 7)",
        ],
        "sentence": "another record of its language has the same id.",
    }
    assert status == 0  # they can be trained on


def test_an_answer_in_another_script_is_listed(tmp_path, check):
    answers = {
        "hi": ["A dog on a chair.", "यह कुत्ता है।", "NOKIA 3310", "B", "यह NOKIA 3310 telephone है"],
        "ja": ["A dog on a chair.", "這是一隻狗坐在紅色的椅子上", "これは犬です。"],
        "ar": ["Собака на красном стуле.", "هذا كلب بني على كرسي"],
        "en": ["यह एक भूरा कुत्ता है और कुर्सी", "A dog."],
    }
    for code, texts in answers.items():
        write(tmp_path / f"{code}.json", [text_record(n, answer=text) for n, text in enumerate(texts)])
    write(tmp_path / "data.json", [text_record(0, answer="A dog on a chair.")])
    status, findings, _ = check(tmp_path)
    assert findings["kinds"]["wrong-language"]["count"] == 4
    assert {place.split(":")[0] for place in findings["kinds"]["wrong-language"]["places"]} == {
        "ar.json",
        "en.json",
        "hi.json",
        "ja.json",
    }
    assert findings["languages"]["und"]["records"] == 1
    assert status == 0


def test_the_field_wins_over_the_name(tmp_path, check):
    write(tmp_path / "hi.json", [text_record(0, language="English", answer="A dog on a chair."), text_record(1)])
    _, findings, _ = check(tmp_path)
    assert {code: tally["records"] for code, tally in findings["languages"].items()} == {"en": 1, "hi": 1}
    assert kinds(findings) == {}


def test_a_name_of_two_languages_is_listed_where_it_matters(tmp_path, check):
    file = write(tmp_path / "en_hi.json", [text_record(0, language="hi")])
    assert check(file)[0] == 0
    write(file, [text_record(0, language="hi"), text_record(1)])
    status, findings, _ = check(file)
    assert (status, kinds(findings)) == (1, {"language": 1})


def test_corrupt_records_are_counted_and_not_held_against_the_data(tmp_path, check):
    file = write(tmp_path / "hi.json", [text_record(0), record(1, answer="", corrupt=True), text_record(2)])
    status, findings, out = check(file)
    assert status == 0
    assert kinds(findings) == {"corrupt": 1}
    assert findings["languages"]["hi"] == {"records": 3, "unusable": 0, "corrupt": 1}
    assert "All 2 records can be trained on; 1 that are marked corrupt are left out." in out
    report = ConversationFiles(file, tmp_path, cache=tmp_path / "cache").report()["hi"]
    assert (report.records, report.corrupt) == (2, 1)
    write(file, [record(1, corrupt=True)])
    status, _, out = check(file)
    assert (status, "There is no record to train on" in out) == (1, True)


def test_captions_need_no_question(tmp_path, check):
    file = write(tmp_path / "hi.json", [record(0, question="<image>")])
    assert kinds(check(file)[1]) == {"empty-question": 1}
    assert check(file, "--captions")[0] == 0


def test_true_lengths_by_the_model(tmp_path, check, monkeypatch):
    processor = tiny_session().processor
    monkeypatch.setattr("maya_core.weights.checkpoint.load_processor", lambda model: processor)
    words = "dog " * 1000
    file = write(tmp_path / "en.json", [record(0), record(1, answer=words), record(2, question=f"<image>{words}")])
    status, findings, _ = check(file, "--model", "some/model")
    assert status == 1
    assert findings["kinds"]["too-long"] == {
        "count": 2,
        "places": ["en.json:2 (id '00001')", "en.json:3 (id '00002')"],
        "sentence": findings["kinds"]["too-long"]["sentence"],
    }
    assert "more than the model's 512" in findings["kinds"]["too-long"]["sentence"]
    _, findings, _ = check(file, "--model", "some/model", "--captions")
    assert findings["kinds"]["too-long"]["places"] == ["en.json:2 (id '00001')"]  # a caption's question is not written


def test_nothing_to_check(tmp_path, capsys):
    assert validate.main([str(tmp_path / "none.json")]) == 2
    said = "none.json is neither a file nor a folder with .json, .jsonl, .csv, .tsv, .parquet or .arrow files.\n"
    said = "none.json is neither a file nor a folder with .json, .jsonl, .csv, .tsv, .parquet or .arrow files.\n"
    assert capsys.readouterr().err == said


def test_findings_that_cannot_be_written_are_told(tmp_path, capsys):
    file = write(tmp_path / "en.json", [text_record(0)])
    (tmp_path / "notes").touch()
    for flag in ("--json", "--write-clean"):
        assert validate.main([str(file), flag, str(tmp_path / "notes" / "found.json")]) == 2
        [said] = capsys.readouterr().err.splitlines()
        assert "found.json could not be written (" in said
    assert validate.main([str(file), "--json", str(tmp_path / "new" / "found.json")]) == 0


def test_it_starts_without_torch():
    code = "import sys, training.validate; print([name for name in ('torch', 'transformers') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_an_answer_that_is_cut_is_told_and_does_not_stop(tmp_path, check, monkeypatch):
    monkeypatch.setattr("maya_core.weights.checkpoint.load_processor", lambda model: tiny_session().processor)
    file = write(tmp_path / "en.json", [text_record(0), text_record(1, answer="dog " * 60)])
    status, findings, _ = check(file, "--model", "some/model", "--max-length", "40")
    assert status == 0
    assert findings["kinds"]["answer-cut"]["places"] == ["en.json:2 (id '00001')"]
    assert "first 40 tokens" in findings["kinds"]["answer-cut"]["sentence"]
    assert kinds(check(file, "--model", "some/model")[1]) == {}


def test_the_good_records_are_written(tmp_path, images, check):
    write(
        tmp_path / "a_hindi.json",
        [record(0, answer="कुत्ता।"), record(1, image="none.png"), text_record(2, corrupt=True)],
    )
    write(tmp_path / "b.jsonl", [text_record(3, language="fr"), record(4, question="What?")])
    status, _, _ = check(tmp_path, "--images", images, "--write-clean", tmp_path / "clean.jsonl")
    assert status == 1
    clean = [json.loads(line) for line in (tmp_path / "clean.jsonl").read_text("utf-8").splitlines()]
    assert [(one["id"], one["language"]) for one in clean] == [("00000", "hi"), ("00003", "fr")]
    assert check(tmp_path / "clean.jsonl", "--images", images)[0] == 0


def test_many_pictures_are_decoded_by_several_processes(tmp_path, images, check, monkeypatch):
    monkeypatch.setattr(checks, "FEW", 2)
    Image.effect_noise((64, 64), 50).save(images / "cut.png")
    (images / "cut.png").write_bytes((images / "cut.png").read_bytes()[:1000])
    Image.new("RGB", (8, 8)).save(images / "cat.png")
    names = ("dog.png", "cut.png", "cat.png")
    file = write(tmp_path / "en.json", [record(n, image=name) for n, name in enumerate(names)])
    assert kinds(check(file, "--images", images)[1]) == {"picture-unreadable": 1}
