"""The ten languages of Maya, and what each needs to be written properly.

Stage 1 of the paper (arXiv 2505.08910) trains on captions in eight of them; Bengali and Urdu join in stage 2.
Names, plural rules and directions come from Unicode CLDR through Babel.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from babel import Locale

Direction = Literal["ltr", "rtl"]


@dataclass(frozen=True, kw_only=True)
class Language:
    """One language: its BCP 47 code, its ISO 15924 script, the sentence that asks for answers in it, the one that tells that
    it is used because the question's is unknown, and whether stage 1 trains on it."""

    code: str
    script: str
    request: str
    unknown: str
    pretrained: bool = True

    @cached_property
    def locale(self) -> Locale:
        """Babel's locale: plural rules, number, date and list formats."""
        return Locale.parse(f"{self.code}_{self.script}", sep="_") if self.code == "zh" else Locale(self.code)

    @property
    def native_name(self) -> str:
        """The language's name for itself, as a picker shows it."""
        name = Locale(self.code).get_display_name(self.code)
        assert name is not None
        return name[:1].upper() + name[1:]

    @property
    def english_name(self) -> str:
        name = Locale(self.code).get_display_name("en")
        assert name is not None
        return name

    @property
    def direction(self) -> Direction:
        return "rtl" if self.locale.text_direction == "rtl" else "ltr"

    def plural(self, number: int) -> str:
        """CLDR plural category of a whole number: zero, one, two, few, many or other."""
        return str(self.locale.plural_form(number))


LANGUAGES: tuple[Language, ...] = (
    Language(
        code="en",
        script="Latn",
        request="Answer in English.",
        unknown="Maya does not know the language of this question and answers in English.",
    ),
    Language(
        code="zh",
        script="Hans",
        request="请用中文回答。",
        unknown="Maya 不懂这个问题所用的语言，因此用中文回答。",
    ),
    Language(
        code="fr",
        script="Latn",
        request="Réponds en français.",
        unknown="Maya ne connaît pas la langue de cette question et répond en français.",
    ),
    Language(
        code="es",
        script="Latn",
        request="Responde en español.",
        unknown="Maya no conoce el idioma de esta pregunta y responde en español.",
    ),
    Language(
        code="ru",
        script="Cyrl",
        request="Ответь по-русски.",
        unknown="Maya не знает языка этого вопроса и отвечает по-русски.",
    ),
    Language(
        code="hi",
        script="Deva",
        request="हिन्दी में उत्तर दो।",
        unknown="Maya इस सवाल की भाषा नहीं जानती, इसलिए हिन्दी में जवाब दे रही है।",
    ),
    Language(
        code="ja",
        script="Jpan",
        request="日本語で答えてください。",
        unknown="Maya はこの質問の言語がわからないため、日本語で答えます。",
    ),
    Language(
        code="ar",
        script="Arab",
        request="أجب بالعربية.",
        unknown="لا تعرف Maya لغة هذا السؤال، لذلك تجيب بالعربية.",
    ),
    Language(
        code="bn",
        script="Beng",
        request="বাংলায় উত্তর দাও।",
        unknown="Maya এই প্রশ্নের ভাষা জানে না, তাই বাংলায় উত্তর দিচ্ছে।",
        pretrained=False,
    ),
    Language(
        code="ur",
        script="Arab",
        request="اردو میں جواب دیں۔",
        unknown="Maya اس سوال کی زبان نہیں جانتی، اس لیے اردو میں جواب دے رہی ہے۔",
        pretrained=False,
    ),
)
CODES: tuple[str, ...] = tuple(language.code for language in LANGUAGES)
PRETRAINED_CODES: tuple[str, ...] = tuple(language.code for language in LANGUAGES if language.pretrained)

_BY_CODE = {language.code: language for language in LANGUAGES}


def get_language(tag: str) -> Language:
    """The language for a BCP 47 tag or a POSIX locale (`zh-HK`, `bn_BD.UTF-8`); ValueError where it is not one of ours."""
    code = tag.replace("_", "-").split("-")[0].split(".")[0].lower()
    if code not in _BY_CODE:
        raise ValueError(f"{tag!r} is not one of Maya's languages; choose one of {', '.join(CODES)}.")
    return _BY_CODE[code]
