"""PALO's benchmark: judged in both orders, joined by id, and what fails is left out and counted."""

import json
import re
from statistics import fmean

import pytest

from maya_core.errors import DataError
from maya_core.languages import CODES, LANGUAGES, get_language
from tests.training.benchmarks.endpoint import scripted_endpoint, text_of
from training.benchmarks.asking import EvaluationError, Reply, open_store
from training.benchmarks.base import Answered, Item
from training.benchmarks.check import can_run, check
from training.benchmarks.compare import compare
from training.benchmarks.examples import write_examples
from training.benchmarks.fidelity import fidelity_counts, is_in
from training.benchmarks.remote import RemoteModel
from training.benchmarks.reviews import import_reviews
from training.benchmarks.run import evaluate, read_run, write_run
from training.benchmarks.tasks.palo import UPSTREAM, Palo, read_ratings
from training.emoji_vqa.dataset import single_questions

QUALITY = {"good": 8, "fair": 6, "poor": 4}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The examples, with three questions a language and reference answers that say how good they are."""
    folder = tmp_path_factory.mktemp("palo")
    write_examples(folder, "palo")
    for file in folder.glob("*/answers*.jsonl"):
        records = [json.loads(line) | {"text": "a fair answer"} for line in file.read_text("utf-8").splitlines()]
        write_lines(file, records)
    return folder


def write_lines(file, records):
    file.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")


class Saying:
    """A model that says the same to everything."""

    def __init__(self, text):
        self.text = text
        self.name = text
        self.fingerprint = {"says": text}

    def ask(self, requests):
        yield from ((number, Reply(text=self.text)) for number in range(len(requests)))


def shown(prompt):
    """The two answers that a judge is shown."""
    return re.search(r"\[Answer 1\]\n(.*?)\n\n\[Answer 2\]\n(.*?)\n\nRate", prompt, re.DOTALL).groups()


def judging(bias=0):
    """A judge that sees how good an answer is, but likes the first one more than it should and the second one less."""

    def script(body):
        first, second = (next(QUALITY[word] for word in QUALITY if word in one) for one in shown(text_of(body)))
        return f"{first + bias} {second - bias}\nBecause."

    return script


def run(data, tmp_path, text, script, **options):
    with scripted_endpoint(script) as server, open_store(tmp_path / "r.sqlite") as store:
        judge = RemoteModel(server.url, "judge")
        done = evaluate(Palo(), data, Saying(text), store, judge=judge, **options)
        return done, server


@pytest.mark.parametrize("bias", [0, 1, 2])
@pytest.mark.parametrize(("answer", "fair"), [("fair", 100), ("good", 100 * 8 / 6), ("poor", 100 * 4 / 6)])
def test_judging_in_both_orders_removes_a_liking_for_the_first(data, tmp_path, bias, answer, fair):
    done, _ = run(data, tmp_path, f"a {answer} answer", judging(bias), languages=["en", "hi"])
    for language in ("en", "hi"):
        figures = done.languages[language].figures
        assert figures["all"].value == pytest.approx(fair)
        upstream = 100 * (QUALITY[answer] - bias) / (QUALITY["fair"] + bias)
        assert figures[UPSTREAM].value == pytest.approx(upstream)
        assert (upstream == pytest.approx(fair)) is (bias == 0)


def test_every_language_is_asked_and_judged_twice(data, tmp_path):
    done, server = run(data, tmp_path, "a good answer", judging())
    assert list(done.languages) == list(CODES)
    assert all(one.counts == {"asked": 3, "unanswered": 0, "unjudged": 0} for one in done.languages.values())
    assert len(server.requests) == len({text_of(body) for body in server.requests}) == 60
    figures = done.languages["ur"].figures
    assert set(figures) == {"all", "complex", "conv", "detail", UPSTREAM, "language fidelity"}
    assert figures["language fidelity"].value == 0
    assert done.languages["en"].figures["language fidelity"].value == 100


def test_what_cannot_be_read_is_left_out_and_counted_but_not_by_upstreams_formula(data, tmp_path):
    def script(body):
        if body is server.requests[0]:
            return "I would say eight and six."
        return judging()(body)

    with scripted_endpoint(script) as server, open_store(tmp_path / "r.sqlite") as store:
        judge = RemoteModel(server.url, "judge", concurrency=1)
        done = evaluate(Palo(), data, Saying("a good answer"), store, judge=judge, languages=["en"])
    assert done.languages["en"].counts["unjudged"] == 1
    assert done.languages["en"].figures["all"].value == pytest.approx(100 * 8 / 6)
    expected = 100 * (8 + 8 - 1) / (6 + 6 - 1)
    assert done.languages["en"].figures[UPSTREAM].value == pytest.approx(expected)


def test_a_judgement_is_not_paid_for_twice_and_a_changed_answer_is_judged_anew(data, tmp_path):
    script = judging()
    with scripted_endpoint(script) as server, open_store(tmp_path / "r.sqlite") as store:
        judge = RemoteModel(server.url, "judge")
        for text, paid in (("a good answer", 6), ("a good answer", 6), ("another good answer", 12)):
            evaluate(Palo(), data, Saying(text), store, judge=judge, languages=["en"])
            assert len(server.requests) == paid
        evaluate(Palo(), data, Saying("a good answer"), store, judge=RemoteModel(server.url, "other"), languages=["en"])
        assert len(server.requests) == 18
        other = Palo("{context} {question}\n\n[Answer 1]\n{first}\n\n[Answer 2]\n{second}\n\nRate them.")
        evaluate(other, data, Saying("a good answer"), store, judge=judge, languages=["en"])
        assert len(server.requests) == 24


def test_without_a_judge_nothing_is_asked(data, tmp_path):
    with open_store(tmp_path / "r.sqlite") as store, pytest.raises(EvaluationError, match="needs a judge"):
        evaluate(Palo(), data, Saying("a good answer"), store)


def test_files_are_joined_by_id_whatever_their_order(data, tmp_path):
    write_examples(tmp_path, "palo")
    before = Palo().items(tmp_path)
    for file in tmp_path.glob("*/*.jsonl"):
        if not file.name.startswith("question"):
            file.write_text("\n".join(reversed(file.read_text("utf-8").splitlines())), "utf-8")
    assert Palo().items(tmp_path) == before
    answers = tmp_path / "hindi" / "answers.jsonl"
    answers.write_text(answers.read_text("utf-8").split("\n")[0], "utf-8")
    with pytest.raises(DataError, match=r"hindi/answers\.jsonl has nothing for question"):
        Palo().items(tmp_path)


@pytest.mark.parametrize(
    ("verdict", "ratings"),
    [
        ("8 6", (8, 6)), ("<think>9 9?\nNo.</think>\n\n8 6\nBecause", (8, 6)), ("<think>8 6", None),
        ("8.5, 10\nBecause", (8.5, 10)), (" 7 7 ", (7, 7)), ("8", None), ("8 6 4", None), ("0 5", None),
        ("11 5", None), ("8/10 6/10", None), ("", None), (None, None), ("good\n8 6", None),
    ],
)  # fmt: skip
def test_ratings(verdict, ratings):
    assert read_ratings(verdict) == ratings


def test_old_reviews_give_both_formulas(tmp_path):
    reviews = [
        {"question_id": 1, "category": "llava_bench_conv", "content": "8 6\nwell", "tuple": [8.0, 6.0]},
        {"question_id": 2, "category": "llava_bench_conv", "content": "9 3\nwell", "tuple": [9.0, 3.0]},
        {"question_id": 3, "category": "llava_bench_detail", "content": "Hm.", "tuple": [-1, -1]},
    ]
    write_lines(tmp_path / "hi.jsonl", reviews)
    done = import_reviews({"hi": tmp_path / "hi.jsonl"}, model="Maya 8B", judge="gpt-4-0613")
    figures = done.languages["hi"].figures
    assert figures["all"].value == pytest.approx(100 * fmean([6, 3]) / fmean([8, 9]))
    assert figures[UPSTREAM].value == pytest.approx(100 * (6 + 3 - 1) / (8 + 9 - 1))
    assert done.languages["hi"].counts == {"asked": 3, "unanswered": 0, "unjudged": 1}
    write_lines(tmp_path / "hi.jsonl", [*reviews, reviews[0]])
    with pytest.raises(DataError, match="two judgements of question 1"):
        import_reviews({"hi": tmp_path / "hi.jsonl"}, model="Maya 8B", judge="gpt-4-0613")


def test_runs_are_compared_only_where_they_are_alike(data, tmp_path):
    good, _ = run(data, tmp_path, "a good answer", judging(), languages=["en", "ur"])
    with scripted_endpoint(judging()) as server, open_store(tmp_path / "s.sqlite") as store:
        judge = RemoteModel(server.url, "judge")
        poor = evaluate(Palo(), data, Saying("a poor answer"), store, judge=judge, languages=["en", "ur"])
        better = evaluate(Palo(), data, Saying("a good answer"), store, judge=judge, languages=["en", "ur"])
        one = evaluate(Palo(), data, Saying("a good answer"), store, judge=judge, languages=["en"], limit=1)
    with pytest.raises(EvaluationError, match="different judges"):
        list(compare(poor, good))
    with pytest.raises(EvaluationError, match="different questions"):
        list(compare(poor, one))
    write_run(poor, tmp_path / "poor.json")
    for _, units, differences in compare(read_run(tmp_path / "poor.json"), better):
        assert units == 3
        assert differences["all"].value == pytest.approx(100 * (8 - 4) / 6)
        assert differences["all"].low == pytest.approx(differences["all"].value)
        assert differences["all"].p < 0.05
    [(_, _, same), *_] = compare(better, better)
    assert (same["all"].value, same["all"].p) == (0, 1)


def test_what_is_kept_of_a_run_says_all_it_depends_on(data, tmp_path):
    done, _ = run(data, tmp_path, "a good answer", judging(), languages=["ja"], limit=2, seed=3)
    write_run(done, tmp_path / "run.json")
    kept = json.loads((tmp_path / "run.json").read_text("utf-8"))
    assert kept["model"] == {"name": "a good answer", "says": "a good answer"}
    assert kept["judge"].keys() == {"name", "model", "endpoint", "seed", "prompts"}
    assert (kept["seed"], kept["limit"], kept["requests"]) == (3, 2, True)
    assert len(kept["languages"]["ja"]["prompts"]) == 64
    assert [answer["answer"] for answer in kept["answers"]] == ["a good answer"] * 2
    assert all(verdict == "8 6\nBecause." or verdict == "6 8\nBecause." for verdict in kept["answers"][0]["verdicts"])
    again = read_run(tmp_path / "run.json")
    assert again.languages["ja"].tally == {unit: dict(counts) for unit, counts in done.languages["ja"].tally.items()}
    assert again.languages["ja"].figures == done.languages["ja"].figures
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(EvaluationError, match=r"run\.json is not the file of a run"):
        read_run(tmp_path / "run.json")


def test_validate_finds_what_is_odd_in_the_folder(tmp_path):
    write_examples(tmp_path, "palo")
    japanese = tmp_path / "japanese" / "question.jsonl"
    records = [json.loads(line) for line in japanese.read_text("utf-8").splitlines()]
    records[0]["text"] = "What is the name of the famous sushi restaurant?"
    records[2] |= {"question_id": 1, "image": records[1]["image"], "text": records[1]["text"]}
    write_lines(japanese, records)
    (tmp_path / "images" / "conv.jpg").unlink()
    (tmp_path / "urdu" / "corrected").mkdir()
    (tmp_path / "urdu" / "answers.jsonl").rename(tmp_path / "urdu" / "corrected" / "answers.jsonl")
    items, kinds = check(Palo(), tmp_path)
    assert items == 30
    assert kinds["other-language"].first == ["ja:0"]
    assert kinds["duplicate-id"].first == ["ja:1 as ja:1"]
    assert kinds["duplicate-question"].count == 1
    assert kinds["missing-picture"].count == 10
    assert "spanish/context_spanish.jsonl, where others have context.jsonl" in kinds["name-differs"].first
    assert kinds["corrected-beside-first"].first == ["urdu/corrected/answers.jsonl is used"]
    assert kinds["miscounted"].count == 30
    assert not can_run(kinds)
    (tmp_path / "urdu" / "corrected" / "answers.jsonl").write_text("{\n")
    items, kinds = check(Palo(), tmp_path)
    assert (items, kinds["unreadable"].count) == (0, 1)
    assert "answers.jsonl:1" in kinds["unreadable"].first[0]


# --- the language of answers ---


def said(language, answer):
    return Answered(item=Item(id="1", language=language, prompt=""), answer=answer)


def test_fidelity_counts_answers_that_say_something_in_the_ten():
    assert fidelity_counts([said("hi", "3"), said("sw", "ndiyo")]) == {}
    answers = [said("hi", "यह एक बिल्ली है।"), said("hi", "Cat"), said("zh", "猫"), said("ur", "یہ بلی ہے۔")]
    assert list(fidelity_counts(answers).values()) == [3, 4]


@pytest.mark.parametrize("code", CODES)
def test_what_is_said_in_a_language_is_in_it_and_in_no_other_script(code):
    """Of answers as short as "Two cats", 95 in a hundred; of those in other scripts, none."""
    answers = [question.answer for _, question in single_questions("test", 12, [code])]
    spoken = [answer for answer in answers if any(map(str.isalpha, answer))]
    assert fmean(is_in(answer, code) for answer in spoken) >= 0.95
    script = get_language(code).script
    others = [other.code for other in LANGUAGES if other.script != script and {other.code, code} != {"zh", "ja"}]
    assert not any(is_in(answer, other) for answer in spoken for other in others)


@pytest.mark.parametrize(("text", "code"), [
    ("The picture shows a busy street with many people and cars.", "en"),
    ("Sur l'image, on voit une rue animée avec des voitures.", "fr"),
    ("En la imagen se ve una calle con muchos coches.", "es"),
    ("Auf dem Bild sieht man eine belebte Straße mit vielen Autos.", "de"),
    ("تظهر الصورة شارعا مزدحما بالسيارات والناس.", "ar"),
    ("تصویر میں ایک مصروف سڑک ہے جس پر بہت سی گاڑیاں ہیں۔", "ur"),
    ("图片显示一条繁忙的街道，有许多汽车。", "zh"),
    ("この写真には、車が多い通りが写っています。", "ja"),
])  # fmt: skip
def test_a_sentence_is_in_one_language(text, code):
    assert [other for other in CODES if is_in(text, other)] == [code] * (code in CODES)
