"""How answers are read and counted; the published figures come out of the published counts."""

import math

import pytest

from training.benchmarks.base import Answered, Item
from training.benchmarks.bootstrap import figures_of
from training.benchmarks.marking import chosen_option, says_yes, vqa_accuracy, vqa_normal, yes_or_no
from training.benchmarks.tasks.gqa import SHORT_IN_ENGLISH, Gqa, XGqa
from training.benchmarks.tasks.mm_vet import MmVet, read_grade
from training.benchmarks.tasks.mmbench import MmBench
from training.benchmarks.tasks.mme import Mme
from training.benchmarks.tasks.pope import Pope
from training.benchmarks.tasks.vqa import VizWiz
from training.benchmarks.tasks.xm3600 import Xm3600, cider, words

# What upstream's own answers to POPE count up to: true and false "yes", true and false "no"; and the F1 it reports.
POPE_COUNTS = {
    "adversarial": ((1149, 220, 1280, 351), 0.801),
    "popular": ((1149, 125, 1375, 351), 0.828),
    "random": ((1149, 78, 1332, 351), 0.843),
}


def answered(benchmark, rows):
    """Figures of (item, answer, verdicts...) rows, without their intervals."""
    tally = benchmark.tally(Answered(item=item, answer=answer, verdicts=tuple(of)) for item, answer, *of in rows)
    return {name: figure.value for name, figure in figures_of(tally, benchmark.figures, seed=0, resamples=2).items()}


def item(number=0, **fields):
    return Item(id=str(number), language="en", prompt="?", **fields)


def test_pope_of_the_published_counts_is_the_published_f1():
    rows = []
    for split, ((tp, fp, tn, fn), _) in POPE_COUNTS.items():
        for says, is_there, count in (("Yes", True, tp), ("Yes", False, fp), ("No", False, tn), ("No.", True, fn)):
            start = len(rows)
            rows += [(item(start + n, groups=(split,), reference=is_there), says) for n in range(count)]
    figures = answered(Pope(), rows)
    for split, (_, published) in POPE_COUNTS.items():
        assert round(figures[split], 3) == published
    assert figures["all"] == pytest.approx(sum(f1 for _, f1 in POPE_COUNTS.values()) / 3, abs=5e-4)


def test_mmbench_plain_accuracy_is_the_published_one():
    """71.10 of 4,377 rows can only be 3,112 of them."""
    options = ("cat", "dog")
    rows = [(item(n, reference=("A", options), unit=str(n)), "A" if n < 3112 else "B. dog") for n in range(4377)]
    assert round(answered(MmBench(), rows)["plain"], 2) == 71.10


def test_mmbench_counts_a_question_that_is_right_in_every_rotation():
    def rotation(unit, right, answer):
        return item(f"{unit}/{right}", reference=(right, ("cat", "dog")), unit=unit, groups=("what",)), answer

    rows = [rotation("1", "A", "A"), rotation("1", "B", "dog"), rotation("2", "A", "A"), rotation("2", "B", "A")]
    assert answered(MmBench(), rows) == {"all": 50.0, "plain": 75.0, "what": 50.0}


def test_mme_adds_accuracy_and_the_share_of_pictures_with_both_right():
    def pair(task, picture, first, second):
        fields = {"groups": (task,), "unit": f"{task}/{picture}"}
        yield item(f"{task}/{picture}/0", reference="yes", **fields), first
        yield item(f"{task}/{picture}/1", reference="no", **fields), second

    rows = [*pair("count", 1, "Yes", "No"), *pair("count", 2, "yes.", "Yes, it is"), *pair("OCR", 1, "No", "no")]
    figures = answered(Mme(), rows)
    assert figures["count"] == pytest.approx(75 + 50)
    assert figures["OCR"] == pytest.approx(50 + 0)
    assert figures["perception"] == pytest.approx(175)
    assert "cognition" not in figures


def test_vqa_leaves_each_person_out_in_turn():
    people = ["two"] * 3 + ["three"] * 7
    assert vqa_accuracy("2", people) == pytest.approx(0.9)
    assert vqa_accuracy("Three.", people) == 1.0
    assert vqa_accuracy("four", people) == 0.0
    assert vqa_accuracy("two", ["2"]) == 1.0
    figures = answered(VizWiz(), [(item(1, reference=people), "2"), (item(2, reference=["none"] * 10), "zero")])
    assert figures["all"] == pytest.approx(95)


@pytest.mark.parametrize(
    ("answer", "normal"),
    [
        ("The dog.", "dog"),
        ("1,000 dogs", "1000 dogs"),
        ("3.5", "3.5"),
        ("Its a dont know", "its don't know"),
        ("blue/green", "blue green"),
        ("Yes!", "yes"),
        ("ten\ncats", "10 cats"),
        ("couldnt've", "couldn't've"),
        ("t-shirt/-hat", "t shirt hat"),  # what stands beside a mark counts as it came
        ("lets see what somebodyll do", "lets see what somebody'll do"),
    ],
)
def test_vqa_normaliser(answer, normal):
    assert vqa_normal(answer) == normal


@pytest.mark.parametrize(
    ("answer", "says"), [("Yes", True), ("No, there is not. Yes", False), ("It is not", False), ("Nothing. No", True)]
)
def test_pope_reads_the_first_sentence(answer, says):
    assert says_yes(answer) is says


@pytest.mark.parametrize(("answer", "says"), [(" yes, it is", "yes"), ("No.", "no"), ("Maybe", "other"), ("", "other")])
def test_mme_reads_the_beginning(answer, says):
    assert yes_or_no(answer) == says


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"), ("(b)", None), ("(B)", "B"), ("B. a dog", "B"), ("The answer is B.", "B"), ("a dog", "B"),
        ("It is a dog.", "B"), ("A cat or a dog", None), ("E", None), ("", None), ("A dog", "B"), ("犬", None),
    ],
)  # fmt: skip
def test_an_option_is_chosen_by_letter_or_text(answer, letter):
    assert chosen_option(answer, ("a cat", "a dog", "birds")) == letter


def test_gqa_is_exact_but_for_case_and_a_full_stop():
    rows = [(item(1, reference="dog"), "Dog."), (item(2, reference="dog"), "a dog")]
    assert answered(Gqa(), rows)["all"] == 50


def test_xgqa_is_exact_but_for_case_and_punctuation_and_tells_what_vqas_normaliser_makes_of_it():
    said = ("Dog!", "T-Shirt", "A dog.", "This is a dog.", "Un perro")
    wanted = ("dog", "t-shirt", "dog", "dog", "dog")
    rows = [(item(n, reference=word), answer) for n, (word, answer) in enumerate(zip(wanted, said, strict=True))]
    figures = answered(XGqa(), rows)
    assert figures["all"] == 40
    assert figures["normalised"] == 60  # the third too
    assert SHORT_IN_ENGLISH == "Answer the question using a single word or phrase in English."


@pytest.mark.parametrize(
    ("verdict", "grade"), [("0.5", 0.5), ("Grade: 1.0", 1.0), ("1", 1.0), ("1.5", None), ("good", None), (None, None)]
)
def test_mm_vet_reads_grades(verdict, grade):
    assert read_grade(verdict) == grade


def test_mm_vet_leaves_out_what_is_not_graded():
    rows = [
        (item(1, reference="x", groups=("rec", "ocr")), "x", "0.8"),
        (item(2, reference="x", groups=("rec",)), "x", "0.4"),
        (item(3, reference="x", groups=("rec",)), "x", "I cannot say"),
    ]
    figures = answered(MmVet(), rows)
    assert (figures["all"], figures["rec"], figures["ocr"]) == pytest.approx((60, 60, 80))


def test_cider_is_ten_for_what_everybody_says_and_nothing_for_what_nobody_does():
    wanted = [[["a", "black", "cat", "sleeps"]] * 5, [["two", "dogs", "run", "fast"]] * 5]
    same, other = cider([["a", "black", "cat", "sleeps"], ["a", "red", "car", "stands"]], wanted)
    assert same == pytest.approx(10)
    assert other == 0
    [longer, _] = cider([["a", "black", "cat", "sleeps", "now"], ["x"]], wanted)
    assert 0 < longer < same


def test_cider_counts_rare_words_more():
    wanted = [[["a", "cat"]], [["a", "dog"]], [["a", "bird"]]]
    rare, _, _ = cider([["the", "cat"], [], []], wanted)
    common, _, _ = cider([["a", "thing"], [], []], wanted)
    assert rare > common == 0


def test_words_of_captions_in_every_script():
    assert words("一只黑猫。", "zh") == ["一", "只", "黑", "猫"]
    assert words("एक काली बिल्ली।", "hi") == ["एक", "काली", "बिल्ली"]
    assert words("L'eau, bleue!", "fr") == ["l", "eau", "bleue"]
    figures = answered(Xm3600(), [(item(1, reference=["a cat sits here"]), "a cat sits here")])
    assert figures["all"] == pytest.approx(1000)


def test_an_interval_holds_its_figure_and_is_the_same_again():
    rows = [(item(n, reference="dog"), "dog" if n % 3 else "cat") for n in range(300)]
    tally = Gqa().tally(Answered(item=one, answer=said) for one, said in rows)
    first, again = (figures_of(tally, Gqa().figures, seed=3)["all"] for _ in range(2))
    assert first == again
    half = 1.96 * 100 * math.sqrt(2 / 9 / 300)
    assert first.value == pytest.approx(200 / 3)
    assert (first.low, first.high) == pytest.approx((first.value - half, first.value + half), abs=1)
