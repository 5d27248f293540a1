"""Data as people have it, good and bad: what `training.validate` says of each, and what the check before a run does.

`python -m tests.training.inputs` prints the table.
"""

import base64
import gzip
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow
from PIL import Image
from pyarrow import ipc, parquet
from rich.console import Console
from rich.table import Table

from maya_core.errors import MayaError
from maya_core.learning.data import ConversationCollator
from maya_core.model.processor import MayaProcessor
from maya_core.weights.checkpoint import load_processor, save_model
from tests.tiny import tiny_session
from training import stage, validate
from training.options import StageOptions

Write = Callable[[Path], Path]  # writes the data into a folder, and says where


@dataclass(frozen=True, kw_only=True)
class Input:
    """trains: records that a run learns from, 0 where it is refused. kinds: of what is found."""

    write: Write
    trains: int = 1
    kinds: tuple[str, ...] = ()
    flags: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """kinds: that `validate` found. can_train: what it says. trains, said: of the check before a run."""

    kinds: tuple[str, ...]
    can_train: bool
    trains: int
    said: str


def png(width: int = 8, height: int = 8) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (9, 90, 200)).save(file, "PNG")
    return file.getvalue()


def record(question: str = "<image>\nWhat is it?", answer: str = "A dog.", image: Any = "dog.png", **more: Any) -> dict:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": 1, **({} if image is None else {"image": image}), "conversations": turns, **more}


def said(question: Any = "<image>What is it?", answer: Any = "A dog.") -> list[dict]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def lines(*records: Any, name: str = "en.jsonl", start: str = "", encoding: str = "utf-8") -> Write:
    def write(folder: Path) -> Path:
        text = "".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in records)
        (folder / name).write_text((start + text).replace("{pictures}", str(folder / "pictures")), encoding)
        return folder / name

    return write


def text(content: str, name: str, encoding: str = "utf-8") -> Write:
    def write(folder: Path) -> Path:
        (folder / name).write_text(content, encoding)
        return folder / name

    return write


def packed(name: str) -> Write:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(gzip.compress(json.dumps(record()).encode()))
        return folder / name

    return write


def columns(*rows: dict, name: str = "en.parquet", cut: bool = False) -> Write:
    def write(folder: Path) -> Path:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        table = pyarrow.Table.from_pylist(list(rows))
        if file.suffix == ".parquet":
            parquet.write_table(table, file)
        else:
            with ipc.new_stream(file, table.schema) as stream:
                stream.write_table(table)
        if cut:
            file.write_bytes(file.read_bytes()[:99])
        return file

    return write


def folder_of(*writes: Write, into: str = "data") -> Write:
    def write(folder: Path) -> Path:
        (folder / into).mkdir()
        for one in writes:
            one(folder / into)
        return folder / into

    return write


def beside(first: Write, *others: Write) -> Write:
    def write(folder: Path) -> Path:
        for one in others:
            one(folder)
        return first(folder)

    return write


def part(words: str) -> dict:
    return {"type": "text", "text": words}


ROW = {"image": {"bytes": png(), "path": "dog.png"}, "question": "What is it?", "answer": "A dog."}
ASKED = {"image": "dog.png", "question": "What is it?", "answer": "A dog."}
BASE64 = base64.b64encode(png()).decode()
VQA = {"info": {}, "data_subtype": "val2014", "questions": [{"image_id": 9, "question": "What?", "question_id": 90}]}
MORE = {"image_id": 9, "question": "Why?", "question_id": 91}
ANSWERS = {
    "info": {},
    "annotations": [{"question_id": 90, "image_id": 9, "answers": [], "multiple_choice_answer": "a dog"}],
}
COCO = {
    "info": {},
    "images": [{"id": 7, "file_name": "dog.png"}],
    "annotations": [{"image_id": 7, "id": 1, "caption": "A dog."}],
}
BOXES = {"info": {}, "images": COCO["images"], "annotations": [{"image_id": 7, "bbox": [1, 2, 3, 4]}]}
STATE = text('{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}', "state.json")

INPUTS: dict[str, Input] = {
    # --- what is learnt from ---
    "LLaVA, a JSON list": Input(write=text(json.dumps([record()]), "en.json")),
    "LLaVA, JSON Lines": Input(write=lines(record())),
    "with a byte order mark": Input(write=lines(record(), start="\ufeff")),
    "PALO, bengali.json": Input(write=text(json.dumps([record(answer="কুকুর", corrupt=False)]), "bengali.json")),
    "marked corrupt": Input(write=lines(record(), record(corrupt=True)), kinds=("corrupt",)),
    "the same id twice": Input(write=lines(record(), record()), trains=2, kinds=("duplicate-id",)),
    "an answer in another script": Input(
        write=lines(record(answer="A brown dog on a chair."), name="hi.jsonl"), kinds=("wrong-language",)
    ),
    "text alone": Input(write=lines(record("Why?", image=None))),
    "two pictures": Input(write=lines(record("<image> or <image>?", image=["dog.png", "dog.png"]))),
    "a folder of two files": Input(
        write=folder_of(lines(record()), text(json.dumps([record()]), "fr.json")), trains=2
    ),
    "LLaMA-Factory, sharegpt": Input(write=lines(record(image=None, images=["dog.png"]))),
    "LLaMA-Factory, messages and system": Input(
        write=lines({"messages": said(), "images": ["dog.png"], "system": "Be brief."})
    ),
    "OpenAI, a file": Input(
        write=lines({"messages": said([part("What?"), {"type": "image_url", "image_url": {"url": "dog.png"}}])})
    ),
    "OpenAI, data:": Input(
        write=lines(
            {
                "messages": said(
                    [
                        part("What?"),
                        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{BASE64}"}},
                    ]
                )
            }
        )
    ),
    "OpenAI, input_image and input_text": Input(
        write=lines(
            {
                "messages": said(
                    [{"type": "input_image", "image_url": "dog.png"}, {"type": "input_text", "text": "What?"}],
                    [{"type": "output_text", "text": "A dog."}],
                )
            }
        )
    ),
    "Hugging Face, pictures beside": Input(
        write=lines({"messages": said([{"type": "image"}, part("What?")], [part("A dog.")]), "images": ["dog.png"]})
    ),
    "base64": Input(write=lines(record(image=BASE64))),
    "VQAv2": Input(write=beside(text(json.dumps(VQA), "q.json"), text(json.dumps(ANSWERS), "a.json"))),
    "COCO captions": Input(write=text(json.dumps(COCO), "captions.json")),
    "CSV": Input(write=text("image,question,answer\ndog.png,What?,A dog.\n", "en.csv")),
    "CSV with semicolons, captions": Input(write=text("file_name;caption\ndog.png;A dog.\n", "en.csv")),
    "TSV": Input(write=text("image\tquestion\tanswer\ndog.png\tWhat?\tA dog.\n", "en.tsv")),
    "CSV, columns by flags": Input(
        write=text("foto,was\ndog.png,A dog.\n", "en.csv"), flags={"columns": ("image=foto", "answer=was")}
    ),
    "JSON, a row a line": Input(write=lines(ASKED, {**ASKED, "answer": 3}), trains=2),
    "JSON, a list of rows, keys by flags": Input(
        write=text(json.dumps([{"foto": "dog.png", "was": "Ein Hund."}]), "de.json"),
        flags={"columns": ("image=foto", "answer=was")},
    ),
    "Alpaca": Input(
        write=text(
            json.dumps([{"instruction": "<image>What?", "input": "", "output": "A dog.", "images": ["dog.png"]}]),
            "en.json",
        )
    ),
    "TRL, prompt and completion": Input(
        write=lines({"images": ["dog.png"], "prompt": said()[:1], "completion": said()[1:]})
    ),
    "Parquet, pictures as structs": Input(write=columns(ROW)),
    "Parquet, pictures as bytes": Input(write=columns({**ROW, "image": png()})),
    "Parquet, messages and images": Input(write=columns({"messages": said(), "images": [ROW["image"]]})),
    "Parquet, texts (The Cauldron)": Input(
        write=columns({"texts": [{"user": "What?", "assistant": "A dog."}], "images": [ROW["image"]]}),
        flags={"add_markers": True},
    ),
    "a folder that datasets saved": Input(
        write=folder_of(columns(ROW, name="data-00000-of-00001.arrow"), STATE, text("{}", "dataset_info.json"))
    ),
    "a folder from the hub": Input(
        write=folder_of(
            columns(ROW, name="data/train-00000-of-00001.parquet"),
            columns(ROW, ROW, name="data/test-00000-of-00001.parquet"),
            text("{}", "dataset_infos.json"),
        )
    ),
    "a folder of train and test": Input(
        write=folder_of(lines(record(), name="train.json"), lines(record(), record(), name="test.json"))
    ),
    "a folder of folders, train and validation": Input(
        write=folder_of(
            *(folder_of(lines(record()), into=name) for name in ("train", "validation")), text("", "notes.txt")
        )
    ),
    "speakers by other names": Input(
        write=lines(
            {"messages": [{"role": "developer", "content": "Be brief."}, *said("Why?")]},
            {"conversations": [{"from": "Human", "value": "Why?"}, {"from": "chatgpt", "value": "So."}]},
            {"messages": [{"role": "user", "content": "Why?"}, {"role": "model", "content": "So."}]},
        ),
        trains=3,
    ),
    "VizWiz's answers": Input(
        write=lines({**ASKED, "answer": None, "answers": [{"answer": "a dog", "answer_confidence": "yes"}]}),
        flags={"columns": ("answer=answers",)},
    ),
    "CSV as Excel writes it": Input(write=text("\ufeffsep=;\r\nimage;question;answer\r\ndog.png;What?;A.\r\n", "en.csv")),
    "CSV with upright bars": Input(write=text("Image|Question|Answer\ndog.png|What?|A dog.\n", "en.csv")),
    "CSV, a cell of two lines": Input(write=text('image,question,answer\ndog.png,"What,\nis it?","A ""dog""."\n', "en.csv")),
    "CSV with empty cells beyond its columns": Input(write=text("image,question,answer\ndog.png,What?,A.,,\n", "en.csv")),
    "a letter that is none, NUL": Input(write=lines(record("<image>What\0is it?"))),
    "a picture by a Windows path": Input(write=lines(record(image="deep\\cat.png"))),
    "a picture by its whole path": Input(write=lines(record(image="{pictures}/dog.png"))),
    "a picture by file://": Input(write=lines(record(image="file://{pictures}/dog.png"))),
    "a name in NFD for a file in NFC": Input(write=lines(record(image="cafe\u0301.png"))),
    "a picture in front, by --add-markers": Input(write=lines(record("What?")), flags={"add_markers": True}),
    # --- what is refused ---
    "UTF-16": Input(write=lines(record(), encoding="utf-16"), trains=0, kinds=("encoding",)),
    "CSV in Latin-1": Input(
        write=text("image,question,answer\ndog.png,é,é\n", "a.csv", "latin-1"), trains=0, kinds=("encoding",)
    ),
    "a picture on the web": Input(
        write=lines(record(image="https://example.org/1.png")), trains=0, kinds=("picture-address",)
    ),
    "a picture that is absent": Input(write=lines(record(image="none.png")), trains=0, kinds=("picture-missing",)),
    "a path out of the folder": Input(write=lines(record(image="../dog.png")), trains=0, kinds=("picture-outside",)),
    "a cut JPEG": Input(write=lines(record(image="cut.jpg")), trains=0, kinds=("picture-unreadable",)),
    "a picture that git keeps elsewhere": Input(
        write=beside(lines(record(image="a.jpg")), text("version https://git-lfs.github.com/spec/v1\n", "pictures/a.jpg")),
        trains=0, kinds=("picture-unreadable",),
    ),
    "a cut picture in Parquet": Input(
        write=columns({**ROW, "image": png()[:50]}), trains=0, kinds=("picture-unreadable",)
    ),
    "a picture that is too narrow": Input(
        write=lines(record(image="strip.png")), trains=0, kinds=("picture-too-large",)
    ),
    "a picture under another key": Input(
        write=lines(record("What?", image=None, image_path="dog.png")), trains=0, kinds=("picture-key",)
    ),
    "a video": Input(write=lines(record("What?", image=None, video="a.mp4")), trains=0, kinds=("not-a-picture",)),
    "answers that are compared (DPO)": Input(
        write=lines({**record(), "conversations": record()["conversations"][:1], "chosen": said()[1]}),
        trains=0, kinds=("preference", "roles"),
    ),
    "answers that are judged (KTO)": Input(
        write=lines({**ASKED, "label": False}), trains=0, kinds=("preference",)
    ),
    "a video in a row": Input(
        write=lines({"video": "a.mp4", "question": "What?", "answer": "A."}), trains=0, kinds=("not-a-picture",)
    ),
    "a picture's address in a table": Input(
        write=text("image_url,question,answer\nhttps://example.org/1.png,What?,A.\n", "en.csv"),
        trains=0, kinds=("picture-key",),
    ),
    "a row without an answer": Input(write=lines(ASKED, {**ASKED, "answer": None}), trains=0, kinds=("empty-answer",)),
    "rows of unknown keys": Input(write=lines({"foto": "dog.png", "was": "A."}), trains=0, kinds=("missing-keys",)),
    "a folder of a test and others": Input(
        write=folder_of(lines(record(), name="test.json"), lines(record())), trains=0, kinds=("file",)
    ),
    "a picture that no marker asks for": Input(
        write=lines(record("What?")), trains=0, kinds=("picture-without-marker",)
    ),
    "a marker without a picture": Input(
        write=lines(record(image=None)), trains=0, kinds=("marker-without-picture",)
    ),
    "more markers than pictures": Input(write=lines(record("<image><image> What?")), trains=0, kinds=("marker-count",)),
    "a marker in the answer": Input(
        write=lines(record(answer="<image> A dog.")), trains=0, kinds=("marker-in-answer",)
    ),
    "an empty answer": Input(write=lines(record(answer=" ")), trains=0, kinds=("empty-answer",)),
    "an empty question": Input(write=lines(record("<image>")), trains=0, kinds=("empty-question",)),
    "a question without an answer": Input(
        write=lines({"messages": said()[:1], "image": "dog.png"}), trains=0, kinds=("roles",)
    ),
    "a question longer than the model reads": Input(
        write=lines(record("<image>" + "why " * 600)), trains=0, kinds=("too-long",)
    ),
    "half a letter": Input(write=lines(record(answer="A dog \ud83d")), trains=0, kinds=("bad-letters",)),
    "a picture by another project's marker": Input(
        write=lines(record("Picture 1: <img>dog.png</img> What?", image=None), record("<|image_1|><image>What?", id=2)),
        trains=0, kinds=("marker-unknown",),
    ),
    "a picture by its number": Input(
        write=lines({"image_id": 0, "question": "What?", "answer": "A dog."}), trains=0, kinds=("picture-key",)
    ),
    "a picture under a key in capitals": Input(
        write=lines(record("What?", image=None, Image="dog.png")), trains=0, kinds=("picture-key",)
    ),
    "a picture below a folder that is not there": Input(
        write=lines(record(image="pictures/dog.png")), trains=0, kinds=("picture-missing",)
    ),
    "a speaker that nobody knows": Input(
        write=lines({"messages": [*said("Why?"), {"role": "tool", "content": "5"}]}), trains=0, kinds=("roles",)
    ),
    "an answer that pandas left out": Input(
        write=text('[{"image": "dog.png", "question": "What?", "answer": NaN}]', "en.json"),
        trains=0, kinds=("empty-answer",),
    ),
    "CSV, a comma that is not in quotes": Input(
        write=text("image,question,answer\ndog.png,What, is it?,A dog.\n", "en.csv"), trains=0, kinds=("file",)
    ),
    "TSV, a quote that has no end": Input(
        write=text('image\tquestion\tanswer\ndog.png\t"What?\tA.\ndog.png\tWhat?\tA.\n', "en.tsv"),
        trains=0, kinds=("file",),
    ),
    "CSV, two columns of one name": Input(
        write=text("image,answer,Answer\ndog.png,a,b\n", "en.csv"), trains=0, kinds=("missing-keys",)
    ),
    "records within an object": Input(
        write=text(json.dumps({"data": [record()]}), "en.json"), trains=0, kinds=("missing-keys",)
    ),
    "records of several lines": Input(
        write=text(json.dumps(record(), indent=2) * 2, "en.jsonl"), trains=0, kinds=("not-json",)
    ),
    "a packed file": Input(write=packed("en.jsonl.gz"), trains=0, kinds=("file",)),
    "a spreadsheet": Input(write=text("PK\3\4 and more", "en.xlsx"), trains=0, kinds=("file",)),
    "a text": Input(write=text("A dog.", "en.txt"), trains=0, kinds=("file",)),
    "no conversation": Input(write=lines({"id": 1, "image": "dog.png"}), trains=0, kinds=("missing-keys",)),
    "an empty conversation": Input(write=lines({"id": 1, "conversations": []}), trains=0, kinds=("no-conversation",)),
    "a line that is no JSON": Input(write=lines("{'id': 1}", record()), trains=0, kinds=("not-json",)),
    "a list that is cut off": Input(write=text(json.dumps([record()])[:-9], "en.json"), trains=0, kinds=("torn",)),
    "a Parquet file that is cut off": Input(write=columns(ROW, cut=True), trains=0, kinds=("torn",)),
    "an empty file": Input(write=text("", "en.jsonl"), trains=0),
    "a name of two languages": Input(write=lines(record(), name="en_hi.jsonl"), trains=0, kinds=("language",)),
    "VQAv2, a question without an annotation": Input(
        write=beside(text(json.dumps(VQA | {"questions": [*VQA["questions"], MORE]}), "q.json"),
                     text(json.dumps(ANSWERS), "a.json")),
        trains=0, kinds=("missing-keys",),
    ),
    "VQAv2 without annotations": Input(write=text(json.dumps(VQA), "q.json"), trains=0, kinds=("file",)),
    "COCO's boxes": Input(write=text(json.dumps(BOXES), "instances.json"), trains=0, kinds=("missing-keys",)),
    "columns of unknown names": Input(write=text("foto,was\n1,2\n", "a.csv"), trains=0, kinds=("missing-keys",)),
    "a folder without data": Input(write=folder_of(text("", "notes.txt")), trains=0, kinds=("file",)),
}  # fmt: skip


def write_pictures(folder: Path) -> None:
    (folder / "deep").mkdir(parents=True)
    for name in ("dog.png", "deep/cat.png", "caf\u00e9.png", "COCO_val2014_000000000009.jpg"):
        (folder / name).write_bytes(png())
    (folder / "strip.png").write_bytes(png(300, 2))
    Image.effect_noise((64, 64), 50).save(folder / "cut.jpg")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:1000])


def outcome(given: Input, folder: Path, model: Path, processor: MayaProcessor) -> Outcome:
    """What comes of an input that is written into a folder."""
    write_pictures(folder / "pictures")
    data = given.write(folder)
    kinds, can_train = _validated(given, data, folder, model)
    trains, said = _checked(given, data, folder, model, processor)
    return Outcome(kinds=kinds, can_train=can_train, trains=trains, said=said)


def _validated(given: Input, data: Path, folder: Path, model: Path) -> tuple[tuple[str, ...], bool]:
    options = validate.ValidateOptions(
        data=(data,), images=folder / "pictures", model=str(model), cache=folder / "cache", **given.flags
    )
    try:
        findings = validate.validate(options, Console(quiet=True))
    except MayaError as error:
        return (getattr(error, "kind", ""),), False
    return tuple(findings.kinds), findings.can_train


def _checked(given: Input, data: Path, folder: Path, model: Path, processor: MayaProcessor) -> tuple[int, str]:
    """How many records a run would learn from, each made into a batch; and what it says instead."""
    console = Console(file=io.StringIO(), width=200)
    options = StageOptions(
        data=(str(data),), images=folder / "pictures", model=str(model), out=folder / "out", **given.flags
    )
    try:
        dataset = stage._open_data(options, console)
        stage._check(dataset, processor, options, console)
    except MayaError as error:
        return 0, str(error)
    collator = ConversationCollator(processor, max_length=options.recipe.max_length)
    for sample in (dataset[place] for place in range(len(dataset))):
        collator.collate([collator.prepare(sample)])
    return len(dataset), ""


def outcomes(folder: Path) -> Iterator[tuple[str, Input, Outcome]]:
    """Of all inputs."""
    session = tiny_session()
    save_model(session.model, session.processor, folder / "model")
    processor = load_processor(folder / "model")
    for number, (name, given) in enumerate(INPUTS.items()):
        place = folder / str(number)
        place.mkdir()
        yield name, given, outcome(given, place, folder / "model", processor)


def main() -> None:
    """Print what comes of each input, and what should."""
    table, other = Table("input", "validate", "finetune", "expected"), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        for name, given, found in outcomes(Path(folder)):
            told = "can be trained on" if found.can_train else "refused"
            if (found.kinds, found.can_train, found.trains) != (given.kinds, bool(given.trains), given.trains):
                other.append(name)
            table.add_row(
                name,
                f"{told}: {', '.join(found.kinds)}" if found.kinds else told,
                f"trains on {found.trains}" if found.trains else found.said,
                f"trains on {given.trains}" if given.trains else f"refused: {', '.join(given.kinds)}",
            )
    Console().print(table)
    trained = sum(bool(given.trains) for given in INPUTS.values())
    counts = f"{trained} are learnt from, {len(INPUTS) - trained} are refused; {len(other)} other than expected."
    print(f"{len(INPUTS)} inputs: {counts}")


if __name__ == "__main__":
    main()
