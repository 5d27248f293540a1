"""ScienceQA. Layout: problems.json, pid_splits.json, and the pictures of the test split in test/ID or images/test/ID."""

from pathlib import Path

from maya_core.errors import DataError
from training.benchmarks.base import LETTER, Answered, Benchmark, Item
from training.benchmarks.files import field, one_of, picture_in, read_json
from training.benchmarks.marking import LETTERS, chosen_option, lettered

SUBJECTS = {"natural science": "NAT", "social science": "SOC", "language science": "LAN"}


class ScienceQa(Benchmark):
    """Right in percent; of questions with a picture (IMG), with a hint (TXT) or neither (NO), and of each subject."""

    name = "scienceqa"

    def items(self, folder: Path) -> list[Item]:
        file = one_of(folder, "problems.json")
        splits = one_of(folder, "pid_splits.json")
        problems = read_json(file)
        items = []
        for identity in field(read_json(splits), "test", splits):
            record = field(problems, identity, file)
            options = field(record, "choices", file)
            answer = field(record, "answer", file)
            if not 0 <= answer < len(options):
                raise DataError(f"Problem {identity} of {file.name} has no choice {answer}.")
            hint, image = record.get("hint", ""), record.get("image")
            context = "IMG" if image else "TXT" if hint else "NO"
            subject = SUBJECTS.get(record.get("subject", ""))
            items.append(
                Item(
                    id=identity,
                    language="en",
                    prompt=f"{hint}\n{record['question']}\n{lettered(options)}".strip(),
                    request=LETTER,
                    picture=picture_in(folder, f"{identity}/{image}", "images/test", "test") if image else None,
                    reference=(LETTERS[answer], tuple(options)),
                    groups=(context, subject) if subject else (context,),
                )
            )
        return items

    def credit(self, answered: Answered) -> float:
        letter, options = answered.item.reference
        return float(chosen_option(answered.answer, options) == letter)
