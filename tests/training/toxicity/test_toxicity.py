"""The toxicity filter with tiny classifiers that the test trains: what a word and a colour are enough to know."""

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.modeling_outputs import SequenceClassifierOutput

from maya_core.errors import DataError
from maya_core.learning.record_index import RecordFile
from maya_core.weights.checkpoint import save_model
from maya_core.weights.export import export_llava
from tests.tiny import tiny_session
from tests.training.translate.conftest import QUICK
from tests.training.translate.fake_endpoint import Reply, fake_endpoint
from training.endpoint import Endpoint
from training.toxicity.__main__ import main
from training.toxicity.classifiers import (
    TOXIC_LABELS,
    Guard,
    ImageClassifier,
    Labels,
    TextClassifier,
    image_classifier,
    rated,
)
from training.toxicity.findings import Finding, Findings, ToxicityError, union
from training.toxicity.scan import MOST_FAILURES, arbitrate, begin, decided, look_at_pictures, look_at_texts

WORDS = ["a", "the", "dog", "cat", "tree", "house", "runs", "sleeps", "horrible", "vile", "stupid"]
TOXIC = {"horrible", "vile", "stupid"}
RED, GREEN = (200, 30, 30), (40, 160, 60)


def train(model, inputs, labels):
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(400):
        loss = model(**inputs, labels=labels).loss
        if loss.item() < 0.02:
            return
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    raise AssertionError(loss.item())


@pytest.fixture(scope="module")
def text_model(tmp_path_factory):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("text")
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", model_max_length=512
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=512, id2label={0: "toxic", 1: "insult"}, label2id={"toxic": 0, "insult": 1},
        problem_type="multi_label_classification", initializer_range=0.3,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    texts = [f"{one} {other} {third}" for one in WORDS for other in WORDS[2:] for third in ("dog", "vile", "tree")]
    labels = torch.tensor([[float(bool(TOXIC & set(text.split()))), float("stupid" in text)] for text in texts])
    train(model, tokenizer(texts, return_tensors="pt", padding=True), labels)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def image_model(tmp_path_factory):
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

    folder = tmp_path_factory.mktemp("image")
    processor = ViTImageProcessorPil(size={"height": 16, "width": 16})
    torch.manual_seed(0)
    names = {0: "safe", 1: "unsafe"}
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=16, patch_size=8,
        id2label=names, label2id={name: number for number, name in names.items()},
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model = ViTForImageClassification(config)
    generator = np.random.default_rng(0)
    pictures = [
        Image.new("RGB", (20, 20), tuple(int(c + generator.integers(-20, 20)) for c in (RED, GREEN)[n % 2]))
        for n in range(40)
    ]
    train(model, processor(pictures, return_tensors="pt"), torch.tensor([1, 0] * 20))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


CAPTIONS = ["a dog runs", "a vile dog", "the cat sleeps", "a stupid tree", "a house", "the dog sleeps"]
COLOURS = [GREEN, GREEN, RED, RED, GREEN, GREEN]


@pytest.fixture
def data(tmp_path):
    """An English file, its pictures, and the same ids in two languages; the last picture is damaged."""
    (tmp_path / "pictures").mkdir()
    records = []
    for number, (caption, colour) in enumerate(zip(CAPTIONS, COLOURS, strict=True)):
        Image.new("RGB", (24, 18), colour).save(tmp_path / "pictures" / f"{number}.png")
        turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": caption}]
        records.append({"id": f"id{number}", "image": f"{number}.png", "conversations": turns})
    broken = tmp_path / "pictures" / "5.png"
    broken.write_bytes(broken.read_bytes()[:40])
    (tmp_path / "languages").mkdir()
    (tmp_path / "en.json").write_text(json.dumps(records))
    for language in ("en", "hi"):
        (tmp_path / "languages" / f"{language}.json").write_text(
            json.dumps(records[::-1] if language == "hi" else records)
        )
    return tmp_path


@pytest.mark.long(10)
def test_the_same_ids_leave_every_language_and_every_removal_has_its_reason(data, text_model, image_model, capsys):
    scan = ["scan", str(data / "en.json"), "--images", str(data / "pictures"), "--out", str(data / "found"),
            "--text-model", str(text_model), "--image-model", str(image_model)]  # fmt: skip
    assert main(scan) == 0
    assert "2 + 2, union 3 of 6; not known: 1" in capsys.readouterr().out
    audit = [json.loads(line) for line in (data / "found" / "audit.jsonl").read_text().splitlines()]
    assert {line["id"]: line["verdict"] for line in audit} == {
        "id1": "toxic",
        "id2": "toxic",
        "id3": "toxic",
        "id5": "unknown",
    }
    assert audit[0]["findings"]["text"]["reason"].startswith("toxic ")
    assert audit[0]["findings"]["text"]["by"] == str(text_model)
    assert audit[3]["findings"]["image"]["reason"] == "ImageUnreadable"
    remove = ["remove", str(data / "found"), "--data", str(data / "languages"), "--out", str(data / "clean")]
    assert main(remove) == 2
    assert "not known" in capsys.readouterr().err
    assert not (data / "clean").exists()
    assert main([*remove, "--unknown", "remove"]) == 0
    for language, ids in (("en", ["id0", "id4"]), ("hi", ["id4", "id0"])):
        assert [one["id"] for one in json.loads((data / "clean" / f"{language}.json").read_text())] == ids
    # Mended, the picture is looked at again, and nothing else is.
    Image.new("RGB", (24, 18), GREEN).save(data / "pictures" / "5.png")
    assert main(scan) == 0
    assert "2 + 2, union 3 of 6; not known: 0" in capsys.readouterr().out
    assert main(remove) == 0
    assert len(json.loads((data / "clean" / "hi.json").read_text())) == 3


def test_a_scan_goes_on_only_with_the_policy_that_it_was_begun_with(data, text_model, image_model, capsys):
    (data / "policy.txt").write_text("No red is allowed.")
    scan = ["scan", str(data / "en.json"), "--images", str(data / "pictures"), "--out", str(data / "found"),
            "--text-model", str(text_model), "--image-model", str(image_model)]  # fmt: skip
    assert main([*scan, "--policy", str(data / "policy.txt")]) == 0
    assert main(scan) == 2
    assert "policy" in capsys.readouterr().err
    assert main([*scan, "--policy", str(data / "nothing.txt")]) == 2
    assert "nothing.txt cannot be read" in capsys.readouterr().err


def test_a_long_text_is_toxic_where_a_piece_of_it_is(text_model):
    classifier = TextClassifier(str(text_model))
    long = "the dog sleeps " * 300
    assert [found.verdict for found in classifier([long, f"{long} {'vile ' * 200}", "the dog"])] == [
        "clean",
        "toxic",
        "clean",
    ]


def test_a_picture_is_judged_as_trained(image_model):
    classifier = image_classifier(str(image_model))
    assert isinstance(classifier, ImageClassifier)
    found = classifier([Image.new("RGB", (30, 30), colour) for colour in (RED, GREEN)])
    assert [one.verdict for one in found] == ["toxic", "clean"]


def test_a_model_without_the_labels_or_without_its_files_is_refused(text_model, tmp_path):
    with pytest.raises(ToxicityError, match="has no label of rude; it has insult, toxic"):
        TextClassifier(str(text_model), labels=["rude"])
    for load in (TextClassifier, image_classifier):
        with pytest.raises(ToxicityError, match="nothing counts as clean"):
            load(str(tmp_path))


class Scripted:
    """Says clean, and fails where it is told to."""

    name = "scripted"

    def __init__(self, fails=lambda item: False):
        self.fails, self.asked = fails, []

    def __call__(self, items):
        self.asked.append(len(items))
        if any(self.fails(item) for item in items):
            raise RuntimeError("index out of range")
        return [Finding(verdict="clean", reason="") for _ in items]


def opened(data, **parts):
    findings = Findings(data / "found")
    return findings, begin(findings, data / "en.json", {"text": "scripted", **parts})


def test_what_a_classifier_fails_on_is_unknown_and_its_neighbours_are_not(data):
    findings, file = opened(data)
    look_at_texts(findings, file, Scripted(lambda text: "cat" in text), lambda part, found: None)
    verdicts = [verdict for _, _, verdict, _ in findings.verdicts()]
    assert verdicts == ["clean", "clean", "unknown", "clean", "clean", "clean"]
    again = Scripted()
    look_at_texts(findings, file, again, lambda part, found: None)
    assert again.asked == [1]
    assert findings.counts().unknown == 0


def test_a_classifier_that_fails_on_everything_stops_the_run(tmp_path):
    turns = [{"from": "human", "value": "What is it?"}, {"from": "gpt", "value": "A dog."}]
    records = [{"id": number, "conversations": turns} for number in range(MOST_FAILURES + 20)]
    (tmp_path / "en.json").write_text(json.dumps(records))
    findings, file = opened(tmp_path)
    with pytest.raises(ToxicityError, match="failed on 25"):
        look_at_texts(findings, file, Scripted(lambda text: True), lambda part, found: None)
    assert findings.counts().unknown == len(records)


def test_a_scan_that_was_stopped_goes_on_and_only_as_it_was_begun(data):
    findings, file = opened(data)
    assert findings.counts().unknown == 6  # nothing was looked at: nothing is clean
    look_at_texts(findings, file, Scripted(), lambda part, found: None)
    findings.__exit__()
    with pytest.raises(DataError, match="text was scripted, and is now other"):
        begin(Findings(data / "found"), data / "en.json", {"text": "other"})
    findings, file = opened(data)
    again = Scripted()
    look_at_texts(findings, file, again, lambda part, found: None)
    assert again.asked == []


def test_an_arbiter_decides_on_pictures_that_were_found_toxic_and_only_on_them(data):
    findings, file = opened(data, image="guard", arbiter="judge")
    look_at_texts(findings, file, Scripted(), lambda part, found: None)
    Image.new("RGB", (24, 18), GREEN).save(data / "pictures" / "5.png")

    class Reds(Scripted):
        def __call__(self, items):
            return [
                Finding(verdict="toxic" if one.getpixel((0, 0))[0] > 100 else "clean", reason="red") for one in items
            ]

    look_at_pictures(findings, file, data / "pictures", Reds(), lambda part, found: None)
    assert findings.counts().unknown == 2  # until it has decided

    async def judge(said):
        with fake_endpoint(lambda request, reply: Reply(text=said(request))) as server:
            server.RequestHandlerClass = Judged
            endpoint = Endpoint(server.url, "judge", patience=QUICK)
            await arbitrate(findings, file, endpoint, lambda part, found: None)
            await endpoint.close()
            return len(server.requests)

    from tests.training.translate import fake_endpoint as fake

    class Judged(fake._Handler):  # what is asked is no translation
        def _read(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            request = fake.Request(body, {}, "", [body["messages"][0]["content"]], False, len(self.server.requests))
            self.server.requests.append(request)
            return request

        def _translated(self, request):
            return ""

    asked = asyncio.run(judge(lambda request: '{"remove": true}' if "cat" in request.texts[0] else "hard to say"))
    assert asked == 2
    assert (findings.counts().image, findings.counts().unknown) == (1, 1)
    asked = asyncio.run(judge(lambda request: '{"remove": false, "reason": "paint"}'))
    assert asked == 1
    counts = findings.counts()
    assert (counts.image, counts.text, counts.union, counts.unknown) == (1, 0, 1, 0)


# Toxic-BERT's labels and kind, as its config.json on the hub has them.
TOXIC_BERT = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")


@pytest.mark.parametrize(
    ("scores", "verdict", "reason"),
    [
        ((0.97, 0.03, 0.62, 0.01, 0.71, 0.02), "toxic", "toxic 0.97, insult 0.71, obscene 0.62"),
        ((0.49, 0.01, 0.05, 0.01, 0.08, 0.01), "clean", "toxic 0.49"),
        (
            (0.31, 0.01, 0.02, 0.66, 0.05, 0.01),
            "toxic",
            "threat 0.66, toxic 0.31",
        ),  # one label alone, and not the first
        ((0.97, float("nan"), 0.6, 0.0, 0.7, 0.0), "unknown", "no score"),
    ],
)
def test_toxic_berts_six_labels_are_read_each_by_itself(text_model, monkeypatch, scores, verdict, reason):
    """Six sigmoids, which do not add up to one; the pipeline gives them best first."""
    assert set(TOXIC_BERT) <= set(TOXIC_LABELS)
    classifier = TextClassifier(str(text_model))
    config = classifier._pipeline.model.config
    monkeypatch.setattr(config, "id2label", dict(enumerate(TOXIC_BERT)))
    logits = torch.logit(torch.tensor([scores], dtype=torch.float64)).float()
    monkeypatch.setattr(
        classifier._pipeline.model, "forward", lambda **_: SequenceClassifierOutput(logits=logits), raising=True
    )
    monkeypatch.setattr(classifier, "_labels", Labels(toxic=frozenset(TOXIC_BERT)))
    [found] = classifier(["a dog"])
    assert found.verdict == verdict
    assert found.reason.startswith(reason)


# What LlavaGuard writes, in the form that its card asks for: the template there ends in a comma.
UNSAFE = """{
    "rating": "Unsafe",
    "category": "O2: Violence, Harm, or Cruelty",
    "rationale": "The image shows a person \\"fighting\\" {another}, which breaks the policy."
}"""
SAFE = (
    UNSAFE.replace("Unsafe", "Safe")
    .replace('policy."', 'policy.",')
    .replace("O2: Violence, Harm, or Cruelty", "NA: None applying")
)


@pytest.fixture(scope="module")
def guard(tmp_path_factory):
    """A LLaVA of transformers, as LlavaGuard-7B-hf is one; too small to say anything."""
    folder = tmp_path_factory.mktemp("guard")
    session = tiny_session()
    save_model(session.model, session.processor, folder / "ours")
    export_llava(folder / "ours", folder / "llava")
    found = image_classifier(str(folder / "llava"))
    assert isinstance(found, Guard)
    return found


def test_a_guard_is_shown_each_picture_with_the_policy_and_its_reply_is_read(guard, monkeypatch):
    monkeypatch.setattr(guard, "_policy", guard._policy)
    replies, asked = [UNSAFE, SAFE, UNSAFE[:-40]], []
    tokenizer = guard._pipeline.tokenizer

    def generate(input_ids, pixel_values, max_new_tokens, do_sample, **_):
        asked.append((tokenizer.decode(input_ids[0]), pixel_values.shape[0], max_new_tokens, do_sample))
        said = tokenizer(replies[len(asked) - 1], add_special_tokens=False, return_tensors="pt")["input_ids"]
        return torch.cat([input_ids, said], dim=1)

    monkeypatch.setattr(guard._pipeline.model, "generate", generate)
    found = guard([Image.new("RGB", size, RED) for size in ((30, 30), (60, 20), (20, 50))])
    assert [one.verdict for one in found] == ["toxic", "clean", "unknown"]  # the last one was cut off
    assert found[0].reason.startswith('O2: Violence, Harm, or Cruelty: The image shows a person "fighting" {another}')
    assert found[1].reason.startswith("NA: None applying: ")
    replies.append(SAFE)
    guard._policy = "No red is allowed."
    assert guard([Image.new("RGB", (30, 30), RED)])[0].verdict == "clean"
    assert "No red is allowed." in asked.pop()[0]
    for prompt, pictures, longest, is_drawn in asked:
        assert "NA: None applying" in prompt
        assert (pictures, longest, is_drawn) == (1, 500, False)


def test_a_guard_that_says_nothing_to_the_point_is_no_proof(guard):
    """The prompt itself has the words of both ratings; a reply never is read from it."""
    guard._pipeline.model.generation_config.max_length = None
    [found] = guard([Image.new("RGB", (30, 30), GREEN)])
    assert found == Finding(verdict="unknown", reason="no rating")


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ('{"rating": "Unsafe", "category": "O2", "rationale": "blood"}', "toxic"),
        ('Here: {"rating": "Safe"}', "clean"),
        ('```json\n{"rating": "Safe", "category": "NA: None applying", "rationale": "ok",\n}\n```', "clean"),
        ('{"rating": "Unsafe"} {"rating": "Safe"}', "unknown"),
        ('{"rating": "Safe", "category": "NA: None applying", "rationale": "The image', "unknown"),
        ('{"rating": "perhaps"}', "unknown"),
        ('{"rating": ["Safe"]}', "unknown"),
        ("[1]", "unknown"),
        ("{torn", "unknown"),
        ("", "unknown"),
    ],
)
def test_a_guard_that_says_neither_says_nothing(said, verdict):
    assert rated(said).verdict == verdict


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ('{"remove": true}', "toxic"),
        ('{"remove": false}', "clean"),
        ('{"remove": "no"}', "unknown"),
        ("no", "unknown"),
        ("[]", "unknown"),
    ],
)
def test_an_arbiter_that_says_neither_says_nothing(said, verdict):
    assert decided(said).verdict == verdict


def test_unknown_is_never_clean():
    clean, toxic, unknown = (Finding(verdict=verdict, reason="") for verdict in ("clean", "toxic", "unknown"))
    both = ("image", "text")
    assert union({}, both) == union({}, ()) == "unknown"
    assert union({"image": clean}, both) == union({"image": clean, "text": unknown}, both) == "unknown"
    assert union({"image": unknown, "text": toxic}, both) == union({"image": toxic, "text": clean}, both) == "toxic"
    assert union({"image": clean, "text": clean}, both) == "clean"
    judged = (*both, "arbiter")
    assert union({"image": toxic, "text": clean}, judged) == "unknown"
    assert union({"image": toxic, "text": clean, "arbiter": clean}, judged) == "clean"
    assert union({"image": clean, "text": toxic, "arbiter": clean}, judged) == "toxic"
    labels = Labels(toxic=frozenset({"toxic"}))
    scores = ({"toxic": float("nan")}, {}, {"insult": 0.9}, {"toxic": 0.5}, {"TOXIC": 0.4})
    found = [labels.finding(one).verdict for one in scores]
    assert found == ["unknown", "unknown", "unknown", "toxic", "clean"]


def test_counts_have_the_papers_form(tmp_path):
    """7,111 + 892, union 7,531: so 472 are both."""
    turns = [{"from": "human", "value": "What is it?"}, {"from": "gpt", "value": "A dog."}]
    (tmp_path / "en.json").write_text(json.dumps([{"id": number, "conversations": turns} for number in range(8000)]))
    findings = Findings(tmp_path / "found")
    begin(findings, tmp_path / "en.json", {"text": "t", "image": "i"})
    toxic, clean = Finding(verdict="toxic", reason="x"), Finding(verdict="clean", reason="")
    findings.note("image", {number: toxic if number < 7111 else clean for number in range(8000)})
    findings.note("text", {number: toxic if 7531 - 892 <= number < 7531 else clean for number in range(8000)})
    counts = findings.counts()
    assert (counts.image, counts.text, counts.union, counts.both, counts.unknown) == (7111, 892, 7531, 472, 0)


def test_records_that_cannot_be_read_or_have_no_id_stop_the_removal(tmp_path):
    turns = [{"from": "human", "value": "What is it?"}, {"from": "gpt", "value": "A dog."}]
    (tmp_path / "en.json").write_text(json.dumps([{"conversations": turns}, {"id": 1, "conversations": []}]))
    (tmp_path / "languages").mkdir()
    (tmp_path / "languages" / "en.json").write_text("[]")
    with Findings(tmp_path / "found") as findings:
        begin(findings, tmp_path / "en.json", {"text": "t"})
        findings.note("text", {0: Finding(verdict="toxic", reason="x")})
        assert findings.counts().unknown == 1
    remove = ["remove", str(tmp_path / "found"), "--data", str(tmp_path / "languages")]
    assert main([*remove, "--out", str(tmp_path / "x"), "--unknown", "remove"]) == 2
    assert main(["remove", str(tmp_path / "nothing"), "--data", str(tmp_path), "--out", str(tmp_path / "x")]) == 2
    assert Path(tmp_path / "x").exists() is False
    assert len(RecordFile(tmp_path / "en.json")) == 2
