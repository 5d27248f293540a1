"""Three failures that are easily overlooked, each made in a small run, and found there and not in one that is well."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from maya_core.languages import CODES
from maya_core.learning.data import Sample
from maya_core.model.prompt import Message
from maya_core.weights.checkpoint import save_model
from tests.tiny import tiny_session, write_records
from training import finetune, pretrain
from training.diagnose import DiagnoseOptions, diagnose, main, plateau, uncovered, uneven_format

LANGUAGES = ("en", "es", "hi", "ja")
SAID = {
    "en": ("What is this?", "{} is seen"),
    "es": ("¿Qué es esto?", "{} se ve"),
    "hi": ("यह क्या है?", "{} दिखता है"),
    "ja": ("これは何？", "{}です"),
}


def conversations(**otherwise):
    """Ten in each of four languages; otherwise: by language, what question and answer become."""
    for code in LANGUAGES:
        for number in range(10):
            question, answer = SAID[code][0], SAID[code][1].format(number)
            question, answer = (
                form.format(text)
                for form, text in zip(otherwise.get(code, ("{}", "{}")), (question, answer), strict=True)
            )
            turns = (Message(role="user", text=question, images=(Path("p"),)), Message(role="assistant", text=answer))
            yield Sample(messages=turns, language=code)


def records(losses, rate=lambda step: 0.5, **more):
    return [
        {"step": step, "loss": loss, "loss_by_language": {"en": loss}, "learning_rate": rate(step), "skipped": 0} | more
        for step, loss in enumerate(losses, start=1)
    ]


FALLS = [4 * 0.9**step for step in range(40)]
RESTS = [4.0, 3.0, 2.5, 2.2, 2.1] + [2.0] * 35


# --- an uneven format ---


def test_conversations_of_one_format_are_even():
    assert not list(uneven_format(conversations()))


@pytest.mark.parametrize(
    ("question", "answer", "said"),
    [
        ("USER: {} ASSISTANT:", "{}", "role marks are typed into the text in 100% of es"),
        ("", "{}", "the question is empty in 100% of es"),
        ("{}", "{}\n", "the answer ends with a line end in 100% of es"),
        ("{}", "The answer is: {}", "answers open alike in 100% of es"),
    ],
)
def test_a_language_whose_prompts_are_made_otherwise_is_named(question, answer, said):
    [finding] = uneven_format(conversations(es=(question, answer)))
    assert (finding.kind, finding.languages) == ("format", ("es",))
    assert said in finding.said


# --- coverage ---


def test_languages_without_captions_and_with_few_are_named():
    counts = {"en": 100, "es": 90, "hi": 110, "ja": 20}
    absent, thin = uncovered(counts, (), (*LANGUAGES, "bn", "ur"))
    assert (absent.languages, thin.languages) == (("bn", "ur"), ("ja",))
    assert not list(uncovered(dict.fromkeys(CODES, 10), (), CODES))


# --- a loss that rests ---


@pytest.mark.parametrize(
    ("losses", "rate", "loudness", "cause"),
    [
        (RESTS, lambda step: 0.5, 50.0, "connector's scale"),
        (RESTS, lambda step: 0.5, 0.01, "connector's scale"),
        (RESTS, lambda step: 1.0 if step < 10 else 0.01, 1.0, "rate schedule"),
        ([*FALLS[:20], *(1 + 0.1 * step for step in range(20))], lambda step: 1.0, 1.0, "rate too high"),
        (RESTS, lambda step: 0.5, 1.0, "unknown"),
    ],
)
def test_a_loss_that_rests_has_its_likely_cause(losses, rate, loudness, cause):
    [finding] = plateau(records(losses, rate), loudness)
    assert (finding.kind, finding.cause) == ("plateau", cause)


@pytest.mark.parametrize("losses", [FALLS, [0.01] * 40, RESTS[:5]])
def test_a_loss_that_falls_or_is_nothing_or_has_just_begun_does_not_rest(losses):
    assert not list(plateau(records(losses)))


# --- runs ---


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures, and a tiny model: `base`."""
    folder = tmp_path_factory.mktemp("diagnosed")
    session = tiny_session()
    save_model(session.model, session.processor, folder / "base")
    write_records(folder / "ten.json", folder / "images")
    return folder


def tuned(folder, name, base, *, command, rate, mend=lambda record: record, but=()):
    """The result of a short run on eight records of each language, as `mend` makes them."""
    ten = json.loads((folder / "ten.json").read_text())
    records = [mend(json.loads(json.dumps(one))) for one in ten * 8 if one["language"] not in but]
    (folder / f"{name}.json").write_text(json.dumps(records, ensure_ascii=False))
    paths = ["--data", str(folder / f"{name}.json"), "--images", str(folder / "images"), "--out", str(folder / name)]
    short = ["--steps", "12", "--batch-size", "8", "--log-every", "1", "--workers", "0", "--frozen", "float32"]
    rates = [
        f for part in ("connector", "language_model")[: 1 + (command is finetune)] for f in (f"model.{part}", rate)
    ]
    assert command.main([*paths, "--model", str(base), *short, "--learning-rates", *rates]) == 0
    return folder / name


def marked(record):
    """With the roles typed into the text, in Spanish alone."""
    if record["language"] == "es":
        record["conversations"][0]["value"] += " ASSISTANT:"
    return record


@pytest.mark.slow  # three runs
def test_runs_that_fail_are_told_why_and_one_that_is_well_is_not(folder, capsys):
    """A connector that shouts, captions in eight languages of ten, and one language whose roles are typed."""
    well = tuned(folder, "well", folder / "base", command=finetune, rate="1e-1")
    base = folder / "loud"
    shutil.copytree(folder / "base", base)
    weights = load_file(base / "model.safetensors")
    louder = {name: tensor * (1e3 if name.startswith("connector.") else 1) for name, tensor in weights.items()}
    save_file(louder, base / "model.safetensors", metadata={"format": "pt"})
    first = tuned(folder, "captions", base, command=pretrain, rate="1e-7", but=("bn", "ur"))
    second = tuned(folder, "answers", first, command=finetune, rate="1e-1", mend=marked)
    capsys.readouterr()
    assert main([str(well)]) == 0
    assert capsys.readouterr().out.startswith("None of the three was found")
    assert main([str(first)]) == 1
    told = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in told] == ["coverage", "plateau"]
    assert "Stage 1 has nothing in bn, ur" in told[0]
    assert "Likely cause: the connector's scale" in told[1]
    findings = diagnose(DiagnoseOptions(run=second.with_name("answers.run")))
    assert [(one.kind, one.languages) for one in findings][:2] == [("format", ("es",)), ("coverage", ("bn", "ur"))]


def test_a_result_names_its_run_and_data_and_stage_1_its_languages(folder, tmp_path, capsys):
    """As a stage of training writes them down, without one."""
    ten = json.loads((folder / "ten.json").read_text())
    (tmp_path / "data.json").write_text(json.dumps([marked(one) for one in ten * 8]))
    recipe = {"run": "../result.run", "data": [str(tmp_path / "data.json")], "images": str(folder / "images")}
    recipe |= {"captions": False, "add_markers": False, "columns": []}
    counts = {"captions": True, "figures": {"records": dict.fromkeys(CODES[:8], 10)}}
    losses = dict.fromkeys(CODES, 1.0)
    for name, written in (("result", recipe), ("first", counts), ("result.run", None)):
        (tmp_path / name).mkdir()
        if written:
            (tmp_path / name / "recipe.json").write_text(json.dumps(written))
    lines = [json.dumps(one) for one in records(FALLS, loss_by_language=losses)]
    (tmp_path / "result.run" / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    assert main([str(tmp_path / "result"), "--stage-1", str(tmp_path / "first")]) == 1
    told = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in told] == ["format", "coverage"]
    assert "in 100% of es, and in 0% of the median language" in told[0]
    assert "nothing in bn, ur" in told[1]


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "There is no metrics.jsonl" in capsys.readouterr().err
