"""The studies: an arm is made and examined, what was run is kept, and no sentence claims more than its interval."""

import random
import re
import shlex
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import torch

from maya_core.answering.options import GenerationOptions
from maya_core.answering.session import ChatSession
from maya_core.assets import asset_path
from maya_core.errors import MayaError
from maya_core.languages import CODES
from maya_core.weights.checkpoint import load_model, load_processor
from training import cost, stage
from training.emoji_vqa.dataset import as_messages
from training.scoring import normalise
from training.studies import __main__ as studies
from training.studies import adapters, depth
from training.studies.figures import difference, mean, rights
from training.studies.journal import RESULTS, Entry, Journal, as_long, chosen
from training.studies.making import Outcome, examined
from training.studies.published import SAMPLES, taken
from training.studies.report import as_markdown, verdict
from training.studies.spoiling import bleu, spoilt
from training.studies.study import Claim
from training.studies.world import ASKED, Examination, SeenCollator, World, neighbours

TRY = ("--scenes", "8", "--held", "6", "--seeds", "0", "--steps", "1")


def outcome(right, loss=1.0, step=0.5):
    losses = dict.fromkeys(CODES, loss)
    return Outcome(
        right=dict.fromkeys(CODES, right),
        lost=dict.fromkeys(CODES, [loss] * len(right)),
        captions=losses,
        answers=losses,
        connector=1,
        trained=1,
        seconds=60.0,
        caption_step=step,
        answer_step=step,
    )


def entry(arm, seed, right, loss=1.0, plan=None, base="a base", step=0.5):
    return Entry(
        arm=arm,
        seed=seed,
        plan=(plan or depth.STUDY.arms[arm][0]).mark,
        world="drawings",
        base=base,
        hardware="a CPU",
        commit="abc",
        outcome=outcome(right, loss, step),
    )


@pytest.fixture(scope="module", autouse=True)
def small():
    """Two names in languages of no stage are enough; and pictures are seen in float32, as a session in float32 does."""
    two = dict(list(neighbours().items())[:2])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("training.embedded.seen.has_bfloat16", lambda device: False)
        patched.setattr("training.studies.world.neighbours", lambda: two)
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World.of(asset_path("maya-tiny"), tmp_path_factory.mktemp("world"), None, None, scenes=8, held=6)


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
    assert found.value == pytest.approx(better.mean() - one.mean())
    assert mean(one).low < 0.5 < mean(one).high


def test_questions_about_one_scene_stand_or_fall_together():
    """The same answers, asked thrice, say no more than once."""
    once, thrice = entry("depth 2", 0, "1011001"), entry("depth 2", 0, "111000111111000000111")
    thrice = replace(thrice, outcome=replace(thrice.outcome, asked=3))
    assert rights([once])["depth 2"].tolist() == rights([thrice])["depth 2"].tolist()


def test_what_differs_between_seeds_alone_is_not_clear():
    """Questions that all seeds answer alike would make a narrow interval; the seeds do not."""
    lucky = np.repeat([[0.9], [0.1], [0.5]], 400, axis=1)
    plain = np.repeat([[0.4], [0.5], [0.45]], 400, axis=1)
    found = difference(lucky, plain)
    assert found.value == pytest.approx(0.05)
    assert not found.is_clear


def test_of_differences_that_are_none_one_in_twenty_is_called_one():
    """Three seeds an arm, which differ more than scenes do: without Student's t far more would be called one."""
    rng = np.random.default_rng(0)
    both = rng.normal(0, 0.05, (300, 1, 3, 1)) + rng.normal(0, 0.02, (300, 1, 1, 20))
    arms = both + rng.normal(0.5, 0.05, (300, 2, 3, 1))
    called = sum(difference(one, other).is_clear for one, other in arms)
    assert 5 <= called <= 25


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


def test_a_claim_of_a_language_in_no_stage_is_judged_by_names():
    claim = replace(CLAIM, languages=("fa",), of="transfer")
    entries = [entry(arm, seed, "1" * 10) for arm in ("depth 2", "depth 4") for seed in range(3)]
    for one, figures in zip(entries, ["1" * 20] * 3 + ["0" * 20] * 3, strict=True):
        one.outcome.transfer["fa"] = figures
    assert verdict(claim, entries).startswith("**Holds here** (+100.0")


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


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ((2.0, 1.0, 3.0), "LoRA, one rate 0.003 of 0.001, 0.003, 0.01."),
        ((2.0, 3.0, 1.0), "0.01, at the edge of what was tried."),
    ],
)
def test_the_report_tells_which_rate_was_kept_and_whether_a_better_one_may_lie_beyond(losses, said):
    plans = adapters.STUDY.arms["LoRA, one rate"]
    entries = [entry("LoRA, one rate", 0, "1", loss, plan) for loss, plan in zip(losses, plans, strict=True)]
    [line] = [
        one for one in as_markdown(adapters.STUDY, chosen(adapters.STUDY, entries), "").splitlines() if "Rates" in one
    ]
    assert line.endswith(said)


def test_figures_of_another_base_or_world_do_not_stand_beside_each_other():
    entries = [entry("depth 2", 0, "1"), entry("depth 2", 1, "1", base="another"), entry("depth 1", 0, "1")]
    assert chosen(depth.STUDY, entries) == [entries[0], entries[2]]


def test_an_arm_that_takes_five_times_as_long_gets_a_fifth_of_the_steps_in_equal_time():
    study = replace(depth.STUDY, timed=("depth 1", "depth 4", "depth 8"))
    entries = [entry(arm, 0, "1", step=step) for arm, step in (("depth 2", 0.5), ("depth 1", 0.49), ("depth 4", 2.5))]
    [[arm, plan]] = as_long(study, entries).items()
    whole = study.arms["depth 4"][0]
    assert arm == "depth 4, as long"
    assert (5 * plan.caption_steps, 5 * plan.tuning_steps) == (whole.caption_steps, whole.tuning_steps)
    timed = entry(arm, 0, "1", plan=plan)
    assert chosen(study, [*entries, timed])[-1] == timed


def test_a_study_makes_each_arm_once_and_goes_on_where_it_was_stopped(tmp_path, monkeypatch, capsys):
    short = replace(depth.STUDY, arms={arm: depth.STUDY.arms[arm] for arm in ("depth 2", "depth 1")})
    monkeypatch.setattr(studies, "STUDIES", {"depth": short})
    flags = ["studies", "depth", *TRY, "--run", str(tmp_path / "run"), "--results", str(tmp_path / "results")]
    monkeypatch.setattr("sys.argv", flags)
    studies.main()
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "depth",
        "depth",
    ]
    entries = Journal.of("depth", tmp_path / "results").read()
    assert [one.arm for one in entries] == ["depth 2", "depth 1"]
    assert entries[0].outcome.connector > entries[1].outcome.connector
    for one in entries:
        assert {*one.outcome.right} == {*CODES}
        [asked] = {len(figures) for figures in one.outcome.right.values()}
        assert asked >= 9
        assert {*one.outcome.captions} <= {*depth.SEEN}
        assert all(len(losses) * ASKED == asked for losses in one.outcome.lost.values())
        assert {code: len(figures) for code, figures in one.outcome.transfer.items()} == {"fa": 4, "mr": 4}
        assert one.outcome.answer_step > 0
    studies.main()
    assert capsys.readouterr().out == ""
    like_it = replace(short, name="like it", arms={"two": short.arms["depth 2"]})
    monkeypatch.setattr(studies, "STUDIES", {"depth": short, "like it": like_it})
    flags[1] = "like it"
    studies.main()
    [taken] = Journal.of("like it", tmp_path / "results").read()
    assert (taken.outcome, taken.arm) == (replace(entries[0].outcome, seconds=0.0), "two")


def test_published_scale_prints_commands_and_makes_nothing(monkeypatch, capsys, tmp_path):
    some = {name: studies.STUDIES[name] for name in ("unfreeze", "translation")}
    monkeypatch.setattr(studies, "STUDIES", some)
    monkeypatch.setattr("sys.argv", ["studies", "all", "--scale", "published", "--results", str(tmp_path / "none")])
    studies.main()
    lines = capsys.readouterr().out.splitlines()
    told = [line for line in lines if line.startswith("# ")]
    commands = [line for line in lines if line not in told]
    assert commands == [line for study in studies.STUDIES.values() for line in study.published]
    assert all(line.startswith("python -m training.") for line in commands)
    assert len(told) == sum(bool(re.match(r"python -m training.(pretrain|finetune) ", line)) for line in commands)
    assert not (tmp_path / "none").exists()


def test_the_published_stages_take_the_published_hours_and_smaller_ones_their_share():
    made_of = "--data D --images I"
    first = taken(f"python -m training.pretrain {made_of}")
    assert first.hours == pytest.approx(cost.HOURS["pretrain"] * cost.GPUS)
    assert taken(f"python -m training.finetune {made_of}").hours == pytest.approx(cost.HOURS["finetune"] * cost.GPUS)
    some = taken(f"python -m training.pretrain {made_of} --take 10000")
    assert some.hours / first.hours == pytest.approx(10_000 / SAMPLES["pretrain"])
    assert some.memory == first.memory
    resting = taken(f"python -m training.finetune {made_of} --learning-rates model.language_model 0")
    assert resting.memory < taken(f"python -m training.finetune {made_of} --recipe lora").memory
    assert taken("python -m training.translate run --help") is None


def test_programs_take_the_published_commands(monkeypatch):
    """One of each set of flags."""
    shapes = {}
    for study in studies.STUDIES.values():
        for command in study.published:
            _, _, module, *words = shlex.split(command)
            shapes[module, *(word for word in words if word.startswith("--"))] = words
    for (module, *flags), words in shapes.items():
        if "--help" not in flags:
            monkeypatch.setattr(stage, "run_stage", lambda options: None)
            assert import_module(module).main(words) == 0, words


def test_a_study_that_is_none_is_refused_by_name(monkeypatch):
    monkeypatch.setattr("sys.argv", ["studies", "colour"])
    with pytest.raises(MayaError, match="There is no study colour; there are languages, bengali_urdu, "):
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
    right, _ = examined(model, examination, SeenCollator(processor))
    model.config.keeps_to_script, model.config.doubts = False, None  # what is examined is the model alone
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
