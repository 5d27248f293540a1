"""A small set in the format of every benchmark, made of the project's own drawings: what a run looks like, without a
download. It says nothing about a model that has not learnt what the drawings show."""

import base64
import csv
import io
import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from maya_core.errors import DataError
from maya_core.languages import CODES
from training.benchmarks.marking import LETTERS
from training.benchmarks.registry import BenchmarkName
from training.benchmarks.tasks.palo import FOLDERS
from training.benchmarks.tasks.pope import SPLITS
from training.emoji_vqa.questions import Family, Question, ask, caption, concept_name
from training.emoji_vqa.scenes import Scene, make_scene, render
from training.emoji_vqa.vocabulary import load_vocabulary
from training.photo_vqa.phrases import load_phrases as answers_of

PICTURES = 4  # of things that stand alone, and of several things
SIDE = 256  # px
OPTIONS = 4
PEOPLE = 10  # whose answers VQA keeps
CATEGORIES: Mapping[str, Family] = {"conv": "name", "detail": "describe", "complex": "exists"}  # of PALO's questions


def write_examples(out: Path, name: BenchmarkName) -> None:
    """Write one benchmark's set into the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    _WRITERS[name](out)


# --- what is drawn and asked ---


def _scenes(number: int) -> list[Scene]:
    """Scenes with so many things each."""
    return [make_scene("test", index, size=SIDE, number=number) for index in range(PICTURES)]


def _asked(scene: Scene, family: Family, language: str = "en") -> Question:
    return ask(scene, family, language, random.Random(f"{family}/{language}/{scene.index}"))


def _is_there(scene: Scene, *, wanted: bool) -> str:
    """A question about a thing that is there, or that is not."""
    yes = answers_of("en").said["yes"]
    for attempt in range(100):
        question = ask(scene, "exists", "en", random.Random(f"exists/{scene.index}/{attempt}"))
        if (question.accepted[0] == yes) == wanted:
            return question.text
    raise AssertionError("half of these questions are about what is there")


def _options(scene: Scene, language: str) -> tuple[list[str], int]:
    """Names of things, and which of them is the scene's."""
    rng = random.Random(f"options/{scene.index}")
    others = [concept for concept in range(len(load_vocabulary())) if concept not in scene.concepts]
    concepts = [scene.concepts[0], *rng.sample(others, OPTIONS - 1)]
    rng.shuffle(concepts)
    return [concept_name(concept, language) for concept in concepts], concepts.index(scene.concepts[0])


def _save(scene: Scene, file: Path) -> str:
    """Draw a scene into a file; its name."""
    file.parent.mkdir(parents=True, exist_ok=True)
    render(scene).save(file, quality=90)
    return file.name


def _bytes(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _write_json(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", "utf-8")


def _write_lines(file: Path, records: Sequence[Mapping[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), "utf-8")


# --- the formats ---


def _palo(out: Path) -> None:
    scenes = {"conv": _scenes(1)[0], "detail": _scenes(2)[0], "complex": _scenes(3)[0]}
    images = {category: _save(scene, out / "images" / f"{category}.jpg") for category, scene in scenes.items()}
    for folder, code in FOLDERS.items():
        asked = {category: _asked(scene, CATEGORIES[category], code) for category, scene in scenes.items()}
        numbered = list(enumerate(asked.items()))
        is_english = code == "en"
        _write_lines(
            out / folder / ("questions.jsonl" if is_english else "question.jsonl"),
            [
                {"question_id": number, "image": images[category], "category": category, "text": question.text}
                for number, (category, question) in numbered
            ],
        )
        _write_lines(
            out / folder / ("answers_gpt4.jsonl" if is_english else "answers.jsonl"),
            [{"question_id": number, "text": question.answer} for number, (_, question) in numbered],
        )
        contexts = [{"image": images[category], "caption": caption(scene, code)} for category, scene in scenes.items()]
        _write_lines(out / folder / ("context_spanish.jsonl" if code == "es" else "context.jsonl"), contexts)


def _pope(out: Path) -> None:
    for split in SPLITS:
        records: list[Mapping[str, Any]] = []
        for scene in _scenes(3):
            image = _save(scene, out / "val2014" / f"{scene.index}.jpg")
            for label in ("yes", "no"):
                text = _is_there(scene, wanted=label == "yes")
                records.append({"question_id": len(records) + 1, "image": image, "text": text, "label": label})
        _write_lines(out / f"coco_pope_{split}.json", records)


def _mme(out: Path) -> None:
    for number, scene in enumerate(_scenes(3)):
        _save(scene, out / "existence" / f"{number}.jpg")
        _save(scene, out / "count" / "images" / f"{number}.jpg")
        right, wrong = len(scene.things), len(scene.things) + 2
        texts = {
            out / "existence" / f"{number}.txt": [
                f"{_is_there(scene, wanted=True)}\tYes", f"{_is_there(scene, wanted=False)}\tNo",
            ],
            out / "count" / "questions_answers_YN" / f"{number}.txt": [
                f"Are there {right} things in the picture?\tYes", f"Are there {wrong} things in the picture?\tNo",
            ],
        }  # fmt: skip
        for file, lines in texts.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("\n".join(lines) + "\n", "utf-8")


def _mmbench(out: Path) -> None:
    columns = ["index", "question", "hint", *LETTERS[:OPTIONS], "answer", "category", "image"]
    with (out / "mmbench_dev.tsv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(columns)
        for scene in _scenes(1):
            options, right = _options(scene, "en")
            image = base64.b64encode(_bytes(render(scene))).decode()
            question = _asked(scene, "name").text
            writer.writerow([scene.index, question, "", *options, LETTERS[right], "object_localization", image])


def _mm_vet(out: Path) -> None:
    questions = {}
    for scene in _scenes(1):
        question = _asked(scene, "name")
        questions[f"v1_{scene.index}"] = {
            "imagename": _save(scene, out / "images" / f"v1_{scene.index}.jpg"),
            "question": question.text,
            "answer": question.answer,
            "capability": ["rec"],
        }
    _write_json(out / "mm-vet.json", questions)


def _vizwiz(out: Path) -> None:
    records = []
    for scene in _scenes(1):
        question = _asked(scene, "name")
        answers = [{"answer": concept_name(scene.concepts[0], "en"), "answer_confidence": "yes"}] * PEOPLE
        image = _save(scene, out / "val" / f"VizWiz_val_{scene.index:08d}.jpg")
        records.append({"image": image, "question": question.text, "answers": answers, "answer_type": "other"})
    _write_json(out / "val.json", records)


def _textvqa(out: Path) -> None:
    records = []
    for scene in _scenes(1):
        _save(scene, out / "train_images" / f"{scene.index}.jpg")
        answers = [concept_name(scene.concepts[0], "en")] * PEOPLE
        question = _asked(scene, "name").text
        records.append(
            {"question_id": scene.index, "image_id": str(scene.index), "question": question, "answers": answers}
        )
    _write_json(out / "TextVQA_0.5.1_val.json", {"data": records})


def _vqav2(out: Path) -> None:
    questions, annotations = [], []
    for scene in _scenes(1):
        number = scene.index
        _save(scene, out / "val2014" / f"COCO_val2014_{number:012d}.jpg")
        answers = [{"answer": concept_name(scene.concepts[0], "en")}] * PEOPLE
        question = _asked(scene, "name").text
        questions.append({"image_id": number, "question": question, "question_id": number})
        annotations.append({"question_id": number, "answer_type": "other", "answers": answers})
    _write_json(out / "v2_OpenEnded_mscoco_val2014_questions.json", {"questions": questions})
    _write_json(out / "v2_mscoco_val2014_annotations.json", {"annotations": annotations})


def _gqa_questions(out: Path, language: str) -> dict[str, Any]:
    return {
        f"{scene.index:05d}": {
            "imageId": Path(_save(scene, out / "images" / f"n{scene.index}.jpg")).stem,
            "question": _asked(scene, "name", language).text,
            "answer": concept_name(scene.concepts[0], "en"),
            "types": {"structural": "query"},
        }
        for scene in _scenes(1)
    }


def _gqa(out: Path) -> None:
    _write_json(out / "testdev_balanced_questions.json", _gqa_questions(out, "en"))


def _xgqa(out: Path) -> None:
    for code in CODES:
        _write_json(out / f"testdev_balanced_questions_{code}.json", _gqa_questions(out, code))


def _scienceqa(out: Path) -> None:
    problems: dict[str, Any] = {}
    for scene in _scenes(1):
        options, right = _options(scene, "en")
        question = _asked(scene, "name").text
        image = _save(scene, out / "test" / str(scene.index) / "image.png")
        told = {"choices": options, "answer": right, "hint": "", "image": image, "subject": "natural science"}
        problems[str(scene.index)] = {"question": question, **told}
    hinted = {"choices": ["red", "blue"], "answer": 0, "hint": "The apple is red.", "image": None}
    problems["hinted"] = {"question": "What colour is the apple?", **hinted, "subject": "language science"}
    _write_json(out / "problems.json", problems)
    _write_json(out / "pid_splits.json", {"test": list(problems)})


def _maxm(out: Path) -> None:
    for code in CODES:
        annotations = []
        for scene in _scenes(1):
            _save(scene, out / "images" / f"{scene.index:016x}.jpg")
            question = _asked(scene, "name", code)
            answers = [question.answer, *question.accepted]
            pair = {"question_id": f"{code}-{scene.index}", "question": question.text, "answers": answers}
            annotations.append({"image_id": f"{scene.index:016x}", "qa_pairs": [pair]})
        _write_json(out / f"maxm_v1_{code}.json", {"split": code, "annotations": annotations})


def _cvqa(out: Path) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError("CVQA's files are parquet; pip install 'maya[evaluate]' to write them.") from None
    names = {folder: folder.capitalize() for folder in FOLDERS}
    rows = []
    for folder, code in FOLDERS.items():
        for scene in _scenes(1):
            options, right = _options(scene, code)
            rows.append(
                {
                    "image": {"bytes": _bytes(render(scene)), "path": None},
                    "ID": f"{code}_{scene.index}",
                    "Subset": str((names[folder], "Nowhere")),
                    "Question": _asked(scene, "name", code).text,
                    "Options": options,
                    "Label": right,
                    "Category": "Objects / materials / clothing",
                }
            )
    (out / "data").mkdir(exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), out / "data" / "test-00000-of-00001.parquet")


def _xm3600(out: Path) -> None:
    records = []
    for scene in _scenes(2):
        key = f"{scene.index:016x}"
        _save(scene, out / "images" / f"{key}.jpg")
        captions = {code: {"caption": [caption(scene, code)]} for code in CODES}
        records.append({"image/key": key, "image/locale": "en", **captions})
    _write_lines(out / "captions.jsonl", records)


_WRITERS: Mapping[BenchmarkName, Callable[[Path], None]] = {
    "palo": _palo,
    "pope": _pope,
    "mme": _mme,
    "mmbench": _mmbench,
    "mm-vet": _mm_vet,
    "vizwiz": _vizwiz,
    "gqa": _gqa,
    "scienceqa": _scienceqa,
    "textvqa": _textvqa,
    "vqav2": _vqav2,
    "xgqa": _xgqa,
    "maxm": _maxm,
    "cvqa": _cvqa,
    "xm3600": _xm3600,
}
