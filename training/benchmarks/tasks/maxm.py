"""MaXM: questions and answers in one language. Layout: maxm_v1_LANGUAGE.json, images/IMAGE_ID.jpg (of XM3600)."""

from pathlib import Path

from training.benchmarks.base import Answered, Benchmark, Item
from training.benchmarks.files import field, one_of, picture_in, read_json
from training.scoring import exact_match

# What asks for a short answer in the question's own language; English where we have no words of our own.
BRIEFLY = {
    "en": "Answer in English with a single word or phrase.",
    "zh": "请用中文，以一个词或短语回答。",
    "fr": "Réponds en français par un seul mot ou une courte expression.",
    "es": "Responde en español con una sola palabra o frase corta.",
    "ru": "Ответь по-русски одним словом или словосочетанием.",
    "hi": "हिन्दी में एक शब्द या छोटे वाक्यांश में उत्तर दो।",
    "ja": "日本語で、一語または短い語句で答えてください。",
    "ar": "أجب بالعربية بكلمة واحدة أو عبارة قصيرة.",
    "bn": "বাংলায় একটি শব্দ বা ছোট বাক্যাংশে উত্তর দাও।",
    "ur": "اردو میں ایک لفظ یا مختصر فقرے میں جواب دیں۔",
}
FILES = "maxm_*_*.json"
_CODES = {"iw": "he"}  # an old code


class Maxm(Benchmark):
    """Right in percent: the same as one of the references, each language's own marks aside."""

    name = "maxm"

    def items(self, folder: Path) -> list[Item]:
        one_of(folder, FILES)
        items = []
        for file in sorted(folder.glob(FILES)):
            code = file.stem.rsplit("_", 1)[1]
            language = _CODES.get(code, code)
            asking = BRIEFLY.get(language, "Answer in the language of the question with a single word or phrase.")
            for annotation in field(read_json(file), "annotations", file):
                picture = picture_in(folder, f"{field(annotation, 'image_id', file)}.jpg", "images")
                items += [
                    Item(
                        id=str(field(pair, "question_id", file)),
                        language=language,
                        prompt=field(pair, "question", file),
                        request=asking,
                        picture=picture,
                        reference=[*field(pair, "answers", file), *pair.get("processed_answers", ())],
                    )
                    for pair in field(annotation, "qa_pairs", file)
                ]
        return items

    def credit(self, answered: Answered) -> float:
        item = answered.item
        return float(any(exact_match(answered.answer, wanted, item.language) for wanted in item.reference))
