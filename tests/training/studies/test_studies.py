"""The studies: an arm is made and examined, what was run is kept, and no sentence claims more than its interval."""

import random
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from maya_core.answering.session import ChatSession
from maya_core.assets import asset_path
from maya_core.languages import CODES
from maya_core.model.config import GenerationOptions
from maya_core.weights.checkpoint import load_model, load_processor
from training.emoji_vqa.dataset import as_messages
from training.scoring import normalise
from training.studies import __main__ as studies
from training.studies import depth
from training.studies.figures import difference, rights, share
from training.studies.journal import RESULTS, Entry, Journal, chosen
from training.studies.making import Outcome, examined
from training.studies.report import verdict
from training.studies.spoiling import bleu, spoilt
from training.studies.study import Claim
from training.studies.world import Examination, SeenCollator, World

TRY = ("--scenes", "8", "--held", "6", "--seeds", "0", "--steps", "1")


def outcome(right, loss=1.0):
    figures = dict.fromkeys(CODES, right)
    losses = dict.fromkeys(CODES, loss)
    return Outcome(
        right=figures, captions=losses, answers=losses, connector=1, trained=1, seconds=60.0, seconds_per_step=0.5
    )


def entry(arm, seed, right, loss=1.0, plan=None):
    mark = (plan or depth.STUDY.arms[arm][0]).mark
    return Entry(
        arm=arm, seed=seed, plan=mark, world="drawings", hardware="a CPU", commit="abc", outcome=outcome(right, loss)
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    return World.of(asset_path("maya-tiny"), folder, None, None, scenes=8, held=6)


# --- figures ---


def test_equal_arms_differ_by_nothing_and_better_ones_clearly():
    rng = np.random.default_rng(0)
    one = (rng.random((3, 300)) < 0.5).astype(float)
    assert difference(one, one).value == 0
    assert not difference(one, one).is_clear
    better = np.maximum(one, rng.random((3, 300)) < 0.3)
    found = difference(better, one)
    assert found.is_clear
    assert found.low < found.value < found.high
    assert found.value == pytest.approx(100 * (better.mean() - one.mean()))
    assert share(one).low < 50 < share(one).high


def test_what_differs_between_seeds_alone_is_not_clear():
    """Questions that all seeds answer alike would make a narrow interval; the seeds do not."""
    lucky = np.repeat([[0.9], [0.1], [0.5]], 400, axis=1)
    plain = np.repeat([[0.4], [0.5], [0.45]], 400, axis=1)
    found = difference(lucky, plain)
    assert found.value == pytest.approx(5)
    assert not found.is_clear


# --- verdicts ---

CLAIM = Claim(text="Two layers answer more than four.", better="depth 2", worse="depth 4")


@pytest.mark.parametrize(
    ("better", "worse", "said"),
    [
        ("1" * 100, "0" * 100, r"^\*\*Holds here\*\* \(\+100.0 \("),
        ("0" * 100, "1" * 100, r"^\*\*Does not hold here\*\*: the reverse does \(-100.0 \("),
        ("10" * 50, "01" * 50, r"^\*\*Cannot be told here\*\* \(\+0.0 \("),
    ],
)
def test_a_claim_is_judged_by_its_interval(better, worse, said):
    entries = [entry(arm, seed, right) for arm, right in (("depth 2", better), ("depth 4", worse)) for seed in range(3)]
    assert re.match(said, verdict(CLAIM, entries))


def test_two_seeds_are_too_few_and_none_is_nothing():
    entries = [
        entry(arm, seed, "1" * 9 + str(int(arm == "depth 2"))) for arm in ("depth 2", "depth 4") for seed in (0, 1)
    ]
    assert verdict(CLAIM, entries).startswith("**Cannot be told yet**: fewer than three seeds")
    assert verdict(CLAIM, entries[:2]) == "**Not run yet.**"


# --- what was run ---


def test_the_journal_leaves_out_a_line_that_was_cut(tmp_path):
    journal = Journal.of("depth", tmp_path)
    journal.write(entry("depth 2", 0, "10"))
    journal.write(entry("depth 2", 1, "11"))
    whole = journal.file.read_bytes()
    journal.file.write_bytes(whole[:-40])
    assert [one.seed for one in journal.read()] == [0]


def test_of_several_plans_that_of_the_lowest_loss_counts_and_what_was_changed_does_not():
    plans = [replace(depth.STUDY.arms["depth 2"][0], caption_rate=rate) for rate in (1e-3, 1e-2)]
    study = replace(depth.STUDY, arms={"depth 2": plans})
    entries = [
        entry("depth 2", 0, "00", loss=2.0, plan=plans[0]),
        entry("depth 2", 0, "11", loss=1.0, plan=plans[1]),
        entry("depth 2", 1, "10", loss=3.0, plan=plans[1]),
        entry("depth 2", 0, "01", loss=0.1, plan=replace(plans[0], caption_steps=7)),
    ]
    assert chosen(study, entries) == entries[1:3]
    assert rights(chosen(study, entries))["depth 2"].tolist() == [[1, 1], [1, 0]]


def test_a_study_makes_each_arm_once_and_goes_on_where_it_was_stopped(tmp_path, monkeypatch, capsys):
    short = replace(depth.STUDY, arms={arm: depth.STUDY.arms[arm] for arm in ("depth 2", "depth 1")})
    monkeypatch.setattr(studies, "STUDIES", {"depth": short})
    flags = ["studies", "depth", *TRY, "--run", str(tmp_path / "run"), "--results", str(tmp_path / "results")]
    monkeypatch.setattr("sys.argv", flags)
    studies.main()
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "depth 2, seed 0",
        "depth 1, seed 0",
    ]
    entries = Journal.of("depth", tmp_path / "results").read()
    assert [one.outcome.connector > 0 for one in entries] == [True, True]
    assert entries[0].outcome.connector > entries[1].outcome.connector
    for one in entries:
        assert {*one.outcome.right} == {*CODES}
        [asked] = {len(figures) for figures in one.outcome.right.values()}
        assert asked >= 9
        assert {*one.outcome.captions} <= {*depth.SEEN}
    studies.main()
    assert capsys.readouterr().out == ""


def test_published_scale_prints_commands_and_makes_nothing(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("sys.argv", ["studies", "all", "--scale", "published", "--results", str(tmp_path / "none")])
    studies.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == sum(len(study.published) for study in studies.STUDIES.values())
    assert all(line.startswith("python -m training.") for line in lines)
    assert not (tmp_path / "none").exists()


def test_a_study_that_is_none_is_refused_by_name(monkeypatch):
    monkeypatch.setattr("sys.argv", ["studies", "colour"])
    with pytest.raises(SystemExit, match="There is no study colour; there are languages, depth, "):
        studies.main()


def test_the_report_is_what_the_journals_give(tmp_path, monkeypatch):
    """RESULTS.md is written by its command, and by nobody else."""
    results = tmp_path / "results"
    results.mkdir()
    for file in RESULTS.glob("*.jsonl"):
        (results / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(studies, "draw", lambda *_: None)
    studies.write_report(results)
    assert (tmp_path / "RESULTS.md").read_text() == (RESULTS.parent / "RESULTS.md").read_text()


# --- how it is examined ---


def test_a_question_is_right_where_greedy_decoding_writes_its_answer(world):
    base = asset_path("maya-tiny")
    model, processor = load_model(base, dtype=torch.float32), load_processor(base)
    examination = Examination(seen=world.held, languages=("en", "hi"))
    right = examined(model, examination, SeenCollator(processor))
    session, given = ChatSession(model, processor), {"en": "", "hi": ""}
    for index, questions in examination.asked:
        picture = world.held.scene(index).render()
        conversations = [as_messages(picture, [question])[:-1] for question in questions]
        answers = session.answers(conversations, GenerationOptions(max_new_tokens=40))
        for question, answer in zip(questions, answers, strict=True):
            is_same = normalise(answer, question.language) == normalise(question.answer, question.language)
            given[question.language] += "1" if is_same else "0"
    assert right == given
    assert "1" in right["en"]


# --- spoilt texts ---


def test_english_is_never_spoilt_and_others_by_their_share():
    def said(code):
        return f"{code} eins zwei drei"

    rng = random.Random(0)
    assert {spoilt(said, "en", 1.0, rng) for _ in range(20)} == {said("en")}
    assert {spoilt(said, "fr", 0.0, rng) for _ in range(20)} == {said("fr")}
    assert said("fr") not in {spoilt(said, "fr", 1.0, rng) for _ in range(50)}
    changed = sum(spoilt(said, "hi", 0.2, rng) != said("hi") for _ in range(2000))
    assert 320 < changed < 480


def test_the_more_is_spoilt_the_lower_its_bleu():
    scores = [bleu(share, "fr") for share in (0.0, 0.1, 0.4)]
    assert scores[0] == pytest.approx(100)
    assert scores[0] > scores[1] + 2 > scores[2] + 4
