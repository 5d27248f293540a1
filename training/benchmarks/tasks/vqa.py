"""Questions answered by several people, in VQA's way of scoring: VQAv2, TextVQA and VizWiz."""

from pathlib import Path

from maya_core.errors import DataError
from training.benchmarks.base import SHORT, Answered, Benchmark, Item
from training.benchmarks.files import field, one_of, picture_in, read_json
from training.benchmarks.marking import vqa_accuracy

UNANSWERABLE = "When the provided information is insufficient, respond with 'Unanswerable'."


class _Vqa(Benchmark):
    def credit(self, answered: Answered) -> float:
        return vqa_accuracy(answered.answer, answered.item.reference)


class VqaV2(_Vqa):
    """Layout: v2_OpenEnded_mscoco_SPLIT_questions.json, v2_mscoco_SPLIT_annotations.json, SPLIT/COCO_SPLIT_NUMBER.jpg."""

    name = "vqav2"

    def items(self, folder: Path) -> list[Item]:
        file, told = one_of(folder, "*_questions.json"), one_of(folder, "*_annotations.json")
        split = file.stem.removesuffix("_questions").split("mscoco_")[-1]
        known = {field(one, "question_id", told): one for one in field(read_json(told), "annotations", told)}
        items = []
        for record in field(read_json(file), "questions", file):
            identity = field(record, "question_id", file)
            if identity not in known:
                raise DataError(f"{told.name} does not know question {identity}; take both files of one split.")
            annotation = known[identity]
            name = f"COCO_{split}_{field(record, 'image_id', file):012d}.jpg"
            items.append(
                Item(
                    id=str(identity),
                    language="en",
                    prompt=field(record, "question", file),
                    request=SHORT,
                    picture=picture_in(folder, name, split),
                    reference=[answer["answer"] for answer in field(annotation, "answers", told)],
                    groups=(annotation["answer_type"],) if annotation.get("answer_type") else (),
                )
            )
        return items


class TextVqa(_Vqa):
    """Without the words that a reader found. Layout: TextVQA_VERSION_val.json, train_images/IMAGE_ID.jpg."""

    name = "textvqa"

    def items(self, folder: Path) -> list[Item]:
        file = one_of(folder, "TextVQA_*_val.json", "TextVQA_*.json")
        return [
            Item(
                id=str(field(record, "question_id", file)),
                language="en",
                prompt=field(record, "question", file),
                request=SHORT,
                picture=picture_in(folder, f"{field(record, 'image_id', file)}.jpg", "train_images"),
                reference=field(record, "answers", file),
            )
            for record in field(read_json(file), "data", file)
        ]


class VizWiz(_Vqa):
    """Layout: val.json (a list of image, question, answers), and val with its pictures."""

    name = "vizwiz"

    def items(self, folder: Path) -> list[Item]:
        file = one_of(folder, "val.json", "Annotations/val.json")
        return [
            Item(
                id=field(record, "image", file),
                language="en",
                prompt=field(record, "question", file),
                request=f"{UNANSWERABLE}\n{SHORT}",
                picture=picture_in(folder, field(record, "image", file), "val", "images"),
                reference=[answer["answer"] for answer in field(record, "answers", file)],
                groups=(record["answer_type"],) if record.get("answer_type") else (),
            )
            for record in read_json(file)
        ]
