"""The embedded Maya is examined on a small set in every benchmark's format, by the commands a person types."""

import csv
import json
import re
import shutil
from contextlib import suppress

import pytest
from PIL import Image

from maya_core.assets import EMBEDDED, asset_path
from maya_core.errors import DataError
from maya_core.languages import CODES
from tests.training.benchmarks.endpoint import scripted_endpoint, text_of
from training import evaluate
from training.benchmarks import __main__ as commands
from training.benchmarks import local
from training.benchmarks.base import Item
from training.benchmarks.check import can_run, check
from training.benchmarks.examples import write_examples
from training.benchmarks.registry import NAMES, get_benchmark
from training.benchmarks.run import read_run

MULTILINGUAL = ("palo", "xgqa", "maxm", "cvqa", "xm3600")
JUDGED = ("palo", "mm-vet")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The examples of all benchmarks."""
    folder = tmp_path_factory.mktemp("examples")
    for name in NAMES:
        write_examples(folder / name, name)
    return folder


@pytest.fixture(scope="module")
def embedded():
    """The embedded Maya, opened once."""
    return local.open_local(asset_path(EMBEDDED), batch=64)


@pytest.fixture
def examine(data, embedded, tmp_path, monkeypatch, capsys):
    """Runs the command on the embedded Maya: its exit status, the run, its output."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(local, "open_local", lambda path, batch: embedded)

    def run(name, *flags):
        status = evaluate.main(["--benchmark", name, "--data", str(data / name), "--out", str(tmp_path), *flags])
        file = tmp_path / f"{name}-{EMBEDDED}.json"
        return status, read_run(file) if file.is_file() else None, capsys.readouterr()

    return run


def judge(body):
    """Grades, or ratings: the longer answer is the better one."""
    prompt = text_of(body)
    answers = re.search(r"\[Answer 1\]\n(.*?)\n\n\[Answer 2\]\n(.*?)\n\nRate", prompt, re.DOTALL)
    if not answers:
        return "0.5"
    first, second = (min(10, 1 + len(answer) // 4) for answer in answers.groups())
    return f"{first} {second}"


@pytest.mark.parametrize("name", NAMES)
def test_the_embedded_model_is_examined_in_every_format(examine, name):
    with scripted_endpoint(judge) as server:
        flags = ["--judge", "judge", "--judge-endpoint", server.url] if name in JUDGED else []
        status, run, told = examine(name, "--limit", "1", *flags)
    assert status == 0, told.err
    assert list(run.languages) == (list(CODES) if name in MULTILINGUAL else ["en"])
    assert (run.judge is not None) is (name in JUDGED)
    for one in run.languages.values():
        assert one.counts["asked"] >= 1
        assert (one.counts["unanswered"], one.counts["unjudged"]) == (0, 0)
        figure = one.figures[get_benchmark(name).headline]
        if figure.value is None:  # of one question that is answered "No" there is no F1
            assert name == "pope"
        else:
            assert figure.low <= figure.value <= figure.high
    assert f"# {name}" in told.out
    assert told.out.strip().endswith(f"{name}-{EMBEDDED}.json")


def test_asked_as_it_learnt_to_be_the_embedded_model_sees_what_is_there(examine):
    status, run, told = examine("pope", "--no-request")
    assert status == 0
    assert (
        run.languages["en"].figures["all"].value > 0.8
    )  # of 24 questions about 8 drawings; a blind model reaches 0.67
    assert not run.requests
    assert "no form requested" in told.out


def test_of_all_benchmarks_one_that_cannot_be_run_does_not_keep_the_others(examine, data, tmp_path):
    folder = tmp_path / "some"
    for name in ("gqa", "pope", "mm-vet"):
        shutil.copytree(data / name, folder / name)
    (folder / "gqa" / "testdev_balanced_questions.json").unlink()
    status, _, told = examine("all", "--data", str(folder), "--limit", "1")
    assert status == 2
    assert "Left out for want of a judge: mm-vet" in told.err
    assert "gqa: There is no testdev_balanced_questions.json" in told.err
    assert told.err.endswith("1 of 2 benchmarks could not be run: gqa.\n")
    assert read_run(tmp_path / f"pope-{EMBEDDED}.json").benchmark == "pope"


def test_a_judge_that_judges_nothing_is_told_and_what_it_wrote_is_kept(examine):
    with scripted_endpoint(lambda body: "Lovely weather today!") as server:
        status, run, told = examine("mm-vet", "--limit", "1", "--judge", "J", "--judge-endpoint", server.url)
    assert status == 2
    assert "None of what J wrote about 1 answers can be read as a judgement; it is in" in told.err
    assert run.answers[0]["verdicts"] == ["Lovely weather today!"]


def test_a_run_that_is_done_again_asks_nothing(examine, embedded, monkeypatch):
    _, first, _ = examine("gqa", "--limit", "2")
    monkeypatch.setattr(local.LocalModel, "ask", lambda self, requests: iter(range(len(requests))))
    _, again, _ = examine("gqa", "--limit", "2")
    assert again.answers == first.answers


@pytest.mark.parametrize(
    ("name", "flags", "sentence"),
    [
        ("palo", [], "palo needs a judge; give --judge"),
        ("gqa", ["--limit", "0"], "--limit is 0; give at least 1."),
        ("gqa", ["--languages", "de"], "There is nothing in de; the data is in en."),
        ("gqa", ["--endpoint", "http://127.0.0.1:1/v1"], "An endpoint serves models by name; give --model"),
        ("gqa", ["--data", "nowhere"], "There is no folder nowhere; check --data."),
        ("all", ["--data", "."], "holds no benchmark's folder, which would be called pope"),
        ("gqa", ["--judge-prompt", "nowhere.txt"], "--judge-prompt is for palo; gqa has no such prompt."),
        ("palo", ["--judge-prompt", "nowhere.txt"], "There is no file nowhere.txt with a judge's prompt."),
    ],
)
def test_what_a_person_can_mend_is_said_in_a_sentence(examine, name, flags, sentence):
    status, run, told = examine(name, *flags)
    assert status == 2
    assert run is None
    assert sentence in told.err
    assert "Traceback" not in told.err


def test_each_endpoint_gets_its_own_key_and_no_file_holds_one(data, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("OPENAI_API_KEY", "canary-of-the-judge")
    monkeypatch.setenv("PEER_KEY", "canary-of-the-peer")
    with scripted_endpoint(lambda body: "A cat.") as peer, scripted_endpoint(judge) as judging:
        told = ["--benchmark", "mm-vet", "--data", str(data / "mm-vet"), "--out", str(tmp_path)]
        told += ["--endpoint", peer.url, "--model", "peer", "--judge", "judge", "--judge-endpoint", judging.url]
        assert evaluate.main([*told, "--limit", "1"]) == 0
        assert "Authorization" not in peer.headers[0]
        assert evaluate.main([*told, "--key-variable", "PEER_KEY"]) == 0
    assert peer.headers[-1]["Authorization"] == "Bearer canary-of-the-peer"
    assert {headers["Authorization"] for headers in judging.headers} == {"Bearer canary-of-the-judge"}
    assert all(b"canary" not in file.read_bytes() for file in tmp_path.iterdir())


def test_a_peer_at_an_endpoint_is_asked_the_same(data, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with scripted_endpoint(lambda body: "Yes" if "octopus" in text_of(body) else "no") as server:
        flags = ["--endpoint", server.url, "--model", "org/peer:7b", "--out", str(tmp_path)]
        assert evaluate.main(["--benchmark", "mme", "--data", str(data / "mme"), *flags]) == 0
    run = read_run(tmp_path / "mme-org-peer-7b.json")
    assert run.model["name"] == "org/peer:7b"
    assert run.languages["en"].counts == {"asked": 16, "unanswered": 0, "unjudged": 0}
    assert all("image_url" in json.dumps(body) for body in server.requests)


# --- the folders ---


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_have_no_defects(data, name):
    items, kinds = check(get_benchmark(name), data / name)
    assert items
    assert can_run(kinds), dict(kinds)


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_folder_is_said(tmp_path, name):
    _, kinds = check(get_benchmark(name), tmp_path)
    [sentence] = kinds["unreadable"].first
    assert sentence.startswith("There is no ")


@pytest.mark.parametrize("name", NAMES)
def test_files_of_another_shape_are_said(data, tmp_path, name):
    """Each text file in turn holds something else, or is cut off; nothing but a DataError is raised."""
    shutil.copytree(data / name, tmp_path / name)
    benchmark = get_benchmark(name)
    texts = [
        file for file in sorted((tmp_path / name).rglob("*")) if file.suffix in (".json", ".jsonl", ".tsv", ".txt")
    ]
    for file in texts[:6]:
        whole = file.read_bytes()
        for other in (b"[]", b"{}", b"7", b'{"a": 1}\n', b"[[1]]", b"\xff\xfe", b"null", whole[: len(whole) // 2]):
            file.write_bytes(other)
            with suppress(DataError):
                assert all(isinstance(item, Item) for item in benchmark.read(tmp_path / name))
        file.write_bytes(whole)
    assert texts or name == "cvqa"


def test_validate_says_what_to_do(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert commands.main(["validate", "gqa", str(data / "gqa")]) == 0
    assert "4 items; they can be run on." in capsys.readouterr().out
    write_examples(tmp_path, "gqa")
    for file in (tmp_path / "images").iterdir():
        file.write_bytes(b"no picture")
    findings = tmp_path / "found.json"
    assert commands.main(["validate", "gqa", str(tmp_path), "--json", str(findings)]) == 1
    assert "mend them" in capsys.readouterr().out
    assert json.loads(findings.read_text())["kinds"]["unreadable-picture"]["count"] == 4


def test_rotations_that_a_file_has_are_those_that_are_made(data, tmp_path):
    made = get_benchmark("mmbench").items(data / "mmbench")
    assert len(made) == 16
    assert len({item.unit for item in made}) == 4
    with (data / "mmbench" / "mmbench_dev.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    rotated = [row | {"index": item.id, "answer": item.reference[0], "image": row["index"] if turn else row["image"]}
               | dict(zip("ABCD", item.reference[1], strict=True))
               for row in rows for turn, item in enumerate(one for one in made if one.unit == row["index"])]  # fmt: skip
    with (tmp_path / "mmbench_dev.tsv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rotated[0]), delimiter="\t")
        writer.writeheader()
        writer.writerows(rotated)
    assert get_benchmark("mmbench").items(tmp_path) == made
    for item in made:
        letter, options = item.reference
        first = next(one for one in made if one.unit == item.unit)
        assert options["ABCD".index(letter)] == first.reference[1]["ABCD".index(first.reference[0])]


def test_a_picture_outside_the_folder_is_refused(data, tmp_path):
    (tmp_path / "coco_pope_random.json").write_text(
        '{"question_id": 1, "image": "../../secret.png", "text": "?", "label": "yes"}', "utf-8"
    )
    with pytest.raises(DataError, match="leads out of"):
        get_benchmark("pope").items(tmp_path)


# --- the report ---


def test_report_shows_runs_beside_what_was_published_and_warns_of_judges(examine, tmp_path, capsys):
    with scripted_endpoint(judge) as server:
        examine("palo", "--judge", "judge", "--judge-endpoint", server.url, "--limit", "1")
    run = tmp_path / f"palo-{EMBEDDED}.json"
    out = tmp_path / "report.md"
    figure = "upstream's formula"
    assert commands.main(["report", str(run), "--out", str(out), "--figure", figure]) == 0
    text = out.read_text("utf-8")
    assert "must not be compared" in text
    assert re.search(r"\| Maya 8B \| gpt-4-0613 \|.* 63\.7 \|.* 62\.2 \(of 8\) \| arXiv 2505.08910 \|", text)
    assert all(name in text for name in ("العربية", "اردو", "हिन्दी", "日本語"))
    with Image.open(tmp_path / "report.png") as picture:
        assert picture.size[0] == 1400
        colours = {colour for _, colour in picture.convert("RGB").getcolors(10**6)}
    assert (0, 114, 178) in colours
    capsys.readouterr()
    assert commands.main(["compare", str(run), str(run)]) == 0
    assert "+0.00" in capsys.readouterr().out


def test_old_judgements_are_read_in_by_commands(data, tmp_path):
    review = {"question_id": 1, "category": "llava_bench_conv", "content": "8 6\nwell", "tuple": [8.0, 6.0]}
    (tmp_path / "hi-maya.jsonl").write_text(json.dumps(review) + "\n")
    out = tmp_path / "old.json"
    told = ["--out", str(out), "--model", "Maya 8B", "--judge", "gpt-4-0613"]
    assert commands.main(["reviews", str(tmp_path / "hi-maya.jsonl"), *told]) == 0
    assert read_run(out).languages["hi"].figures["all"].value == pytest.approx(75)
    grades = {f"v1_{number}": {"model": ["gpt-4"], "score": [0.4, 0.6]} for number in range(4)}
    (tmp_path / "grades.json").write_text(json.dumps(grades))
    arguments = ["grades", str(tmp_path / "grades.json"), "--data", str(data / "mm-vet"), *told]
    assert commands.main([*arguments]) == 0
    assert read_run(out).languages["en"].figures["all"].value == pytest.approx(50)
