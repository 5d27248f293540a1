"""The commands, from an English export to nine languages, against an endpoint on this machine."""

import json
import random
from pathlib import Path

import pytest

from maya_core.reviews import Item, Review, add_review, load_items, load_reviews
from tests.training.translate.conftest import record, records, write
from tests.training.translate.fake_endpoint import Reply, Request, fake_endpoint
from training.translate.__main__ import main
from training.translate.prompts import load_candidates
from training.translate.reference import krippendorff_alpha, settle
from training.translate.sample import readability, sample
from training.translate.scores import score

LANGUAGES = ("fr", "hi", "ja", "ur")


def careless(request: Request, reply: Reply) -> Reply:
    """The bare preamble gets a worse translation, the others differ a little."""
    prompt = request.body["messages"][0]["content"]
    generator = random.Random(prompt)
    words = (reply.text or "").split(" ")
    share = 0.6 if prompt.startswith("Translate into") else 0.2
    reply.text = " ".join(word if generator.random() > share or word.isdigit() else words[0] for word in words)
    return reply


def test_from_a_sample_to_references_to_the_best_preamble(tmp_path, capsys):
    source = write(tmp_path / "in.json", records(40))
    drawn, review, found = tmp_path / "sample.jsonl", tmp_path / "review", tmp_path / "search"
    assert main(["sample", str(source), "--out", str(drawn), "--n", "12"]) == 0
    with fake_endpoint() as server:
        at = ["--model", "fake", "--endpoint", server.url, "--concurrency", "4"]
        command = ["reference", str(drawn), "--out", str(review), *at, "--languages", *LANGUAGES]
        assert main(command) == 0
        paid = sum(server.paid.values())
        assert main(command) == 0  # nothing is done again
        assert sum(server.paid.values()) == paid
    items = load_items(review)
    assert len(items) == 12 * len(LANGUAGES)
    assert all(item.back_translation and 0 < item.similarity <= 100 for item in items)
    for reviewer in ("Asha", "Ben"):
        for item in items:
            verdict = "reject" if item.id == "s001" and reviewer == "Asha" else "accept"
            add_review(
                review, Review(item=item.id, language=item.language, reviewer=reviewer, verdict=verdict, moment=1.0)
            )
    capsys.readouterr()
    assert main(["references", str(review), "--out", str(tmp_path / "references.jsonl")]) == 0
    assert len((tmp_path / "references.jsonl").read_text("utf-8").splitlines()) == 11 * len(LANGUAGES)
    assert "alpha" in capsys.readouterr().out
    with fake_endpoint(careless) as server:
        at[3] = server.url
        assert main(["search", str(tmp_path / "references.jsonl"), "--out", str(found), *at]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line in load_candidates()] == [*load_candidates()]
    report = json.loads((found / "report.json").read_text("utf-8"))
    assert report["mean_bleu"].keys() == load_candidates().keys()
    assert min(report["mean_bleu"], key=report["mean_bleu"].get) == "bare"
    assert "ja-mecab" in report["signatures"]["ja"]
    text = (found / "report.md").read_text("utf-8")
    assert all(name in text for name in ("日本語", "हिन्दी", "اردو", "Français"))
    assert (found / "scores.png").stat().st_size > 20_000
    chosen = json.loads((found / "chosen.json").read_text("utf-8"))["preambles"]
    assert chosen.keys() == {*LANGUAGES, "*"}
    with fake_endpoint() as server:
        job = ["run", str(source), "--job", str(tmp_path / "job"), "--model", "fake", "--endpoint", server.url]
        job += ["--preamble", str(found / "chosen.json"), "--languages", "hi", "--batch", "4"]
        prices = ["--input-price", "1", "--output-price", "2"]
        capsys.readouterr()
        assert main([*job, *prices, "--dry-run"]) == 0
        told = capsys.readouterr().out
        assert server.requests == []
        assert "127.0.0.1" in told
        assert "42" in told
        assert main([*job, *prices]) == 0
        assert main(["status", str(tmp_path / "job")]) == 0
        assert main(["retry", str(tmp_path / "job")]) == 0
        assert main(["export", str(source), "--jobs", str(tmp_path / "job"), "--out", str(tmp_path / "out")]) == 0
    assert len(json.loads((tmp_path / "out" / "in.hi.json").read_text("utf-8"))) == 40


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--languages", "de"], "de is not a language"),
        (["--languages", "en"], "en is not a language"),
        (["--preamble", "nothing"], "no preamble nothing"),
        (["--shard", "3/2"], "write 1/8"),
        (["--endpoint", "http://127.0.0.1:9/v1?key=secret"], "https://host/v1"),
        (["--concurrency", "0"], "must be 1 or more"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(tmp_path, capsys, arguments, said):
    source = write(tmp_path / "in.json", records(2))
    command = ["run", str(source), "--job", str(tmp_path / "job"), "--model", "x", *arguments]
    assert main(command) == 2
    errors = capsys.readouterr().err
    assert said in errors
    assert "secret" not in errors


def test_a_source_without_records_is_told(tmp_path, capsys):
    for name, content in (("empty.json", ""), ("none.json", "[]")):
        (tmp_path / name).write_text(content)
        assert main(["run", str(tmp_path / name), "--job", str(tmp_path / "job"), "--model", "x"]) == 2
        assert capsys.readouterr().err == f"{name} holds no record; check the path.\n"


def test_the_sample_is_spread_over_lengths_and_ease(tmp_path):
    from maya_core.learning.record_index import RecordFile

    easy, hard = "The cat sat. ", "Considerable photographic documentation illustrates architectural sophistication. "
    content = [
        record(n, "<image>\nWhat is it?", f"{kind * times}{n}")
        for n, (kind, times) in enumerate([(easy, 1)] * 60 + [(hard, 1)] * 30 + [(easy, 9)] * 8 + [(hard, 9)] * 2)
    ]
    file = RecordFile(write(tmp_path / "in.json", content))
    drawn = sample(file, 24, seed=5)
    assert drawn == sample(file, 24, seed=5)
    assert len({one.text for one in drawn}) == 24
    by_stratum = {one.stratum for one in drawn}
    assert len(by_stratum) > 3
    assert sum(one.words > 20 for one in drawn) >= 4  # a tenth of the source, and a sixth of the sample
    assert readability(easy).ease > 90 > 0 > readability(hard).ease


def test_readability_is_flesch_s():
    """Three words of one syllable in a sentence: 206.835 - 1.015 * 3 - 84.6, and 0.39 * 3 + 11.8 - 15.59."""
    assert readability("The cat sat.") == (3, 119.2, -2.6)


def test_scores_are_sacrebleu_s_with_the_languages_own_words():
    references = ["猫がソファの上で静かに眠っています。", "赤いバスが古い教会の前に止まっている。"]
    scores, signature = score({"same": references, "none": ["", ""]}, references, "ja", resamples=50)
    assert scores["same"].bleu.value == pytest.approx(100)
    assert scores["same"].bleu.p is None
    assert scores["none"].bleu.value == 0
    assert scores["none"].failed == 2
    assert "tok:ja-mecab" in signature
    glued, _ = score({"a": ["यह एक बड़ा घर है।"] * 2}, ["यह एक बड़ा घर है ।"] * 2, "hi", resamples=50)
    assert glued["a"].bleu.value == pytest.approx(100)


def test_who_says_what_the_best_says_does_not_differ_from_it():
    references = ["la maison rouge est au bord de la mer", "un chien court dans le jardin", "le soir est calme"]
    worse = ["la maison est au bord de la mer", "un chat court dans le jardin", "le soir"]
    scores, _ = score({"a": references, "b": list(references), "worse": worse}, references, "fr", resamples=50)
    assert (scores["a"].bleu.p, scores["b"].bleu.p, scores["b"].chrf.p) == (None, None, None)
    assert scores["worse"].bleu.p is not None


def test_agreement_is_krippendorff_s():
    """The nominal example of his "Computing Krippendorff's alpha-reliability" (2011), of two observers, section B: 0.692."""
    one = ["accept", "accept", "edit", "edit", "edit", "edit", "edit", "edit", "edit", "edit", "reject", "reject"]
    assert krippendorff_alpha([[verdict, verdict] for verdict in one]) == 1
    assert krippendorff_alpha([["accept"], ["edit"]]) is None
    assert krippendorff_alpha([["accept", "accept"]] * 3) is None
    letters = {"a": "accept", "b": "edit", "c": "reject"}
    first, second = "aabbbccccc", "abbbbccccc"
    pairs = [[letters[one], letters[other]] for one, other in zip(first, second, strict=True)]
    # By hand: coincidences aa 2, ab and ba 1, bb 6, cc 10; margins 3, 7, 10 of 20; 1 - 19 * 2 / (2 * (21 + 30 + 70)).
    assert krippendorff_alpha(pairs) == pytest.approx(1 - 19 * 2 / 242)


def test_the_majority_decides_and_its_edit_is_taken():
    items = [
        Item(id=str(n), language="fr", source="s", translation="t", back_translation="b", similarity=1.0)
        for n in range(5)
    ]

    def said(item: int, *verdicts: str) -> list[Review]:
        return [
            Review(
                item=str(item),
                language="fr",
                reviewer=f"r{n}",
                verdict=verdict.split(":")[0],
                text=verdict[5:],
                moment=n,
            )
            for n, verdict in enumerate(verdicts)
        ]

    reviews = [
        *said(0, "accept", "accept", "reject"),
        *said(1, "edit:x", "edit:y", "edit:x"),
        *said(2, "accept", "reject"),
        *said(3, "reject", "reject", "accept"),
    ]
    settled = settle(items, reviews)["fr"]
    assert [(one.id, one.reference) for one in settled.references] == [("0", "t"), ("1", "x")]
    assert (settled.disputed, settled.rejected, settled.unreviewed, settled.reviewers) == (1, 1, 1, 3)


def test_a_crash_of_the_page_loses_no_review(tmp_path: Path):
    review = Review(item="1", language="fr", reviewer="Asha", verdict="accept", moment=1.0)
    add_review(tmp_path, review)
    file = tmp_path / "reviews" / "Asha.jsonl"
    file.write_bytes(file.read_bytes() + b'{"item": "2", "lang')
    mended = Review(item="1", language="fr", reviewer="Asha", verdict="edit", text="mieux", moment=2.0)
    add_review(tmp_path, mended)
    assert load_reviews(tmp_path) == [mended]
