"""In which language a question is answered: decided from its words, before the model is asked."""

import re
import threading
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING

from maya_core.languages import CODES, get_language
from maya_core.model.prompt import Message, answered_in

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

# Scripts as Unicode names them, and the languages of the ten that are written in each.
LANGUAGES_OF: Mapping[str, tuple[str, ...]] = {
    "LATIN": ("en", "fr", "es"),
    "CYRILLIC": ("ru",),
    "DEVANAGARI": ("hi",),
    "BENGALI": ("bn",),
    "ARABIC": ("ar", "ur"),
    "KANA": ("ja",),
    "CJK": ("zh", "ja"),
}
SCRIPTS_OF: Mapping[str, frozenset[str]] = {
    code: frozenset(script for script, codes in LANGUAGES_OF.items() if code in codes) for code in CODES
}
_SAME_SCRIPT = {"HIRAGANA": "KANA", "KATAKANA": "KANA", "KATAKANA-HIRAGANA": "KANA", "IDEOGRAPHIC": "CJK"}
_NO_SCRIPT = ("COMBINING", "MODIFIER")

# What py3langid tells the ten from; of its other languages those that are written much.
OTHER_CODES = (
    "af", "as", "az", "be", "bg", "bs", "ca", "cs", "cy", "da", "de", "eo", "et", "eu", "fa", "fi", "ga", "gl", "ha", "hr",
    "hu", "id", "is", "it", "kk", "ky", "lt", "lv", "mg", "mk", "mn", "mr", "ms", "ne", "nl", "no", "pl", "ps", "pt", "ro",
    "sk", "sl", "so", "sq", "sr", "sv", "sw", "tl", "tr", "uk", "uz", "vi",
)  # fmt: skip
# How sure it must be that a question is in none of the ten. What people ask in them stays below, but for one of a thousand;
# so do some short questions in near relatives, such as Portuguese or Bulgarian, which are answered in the language next to
# them.
FOREIGN = {"LATIN": 0.93, "CYRILLIC": 0.98, "DEVANAGARI": 0.8, "BENGALI": 0.9, "ARABIC": 0.8}
# Letters that none of the ten has: of Ukrainian, Serbian, Kazakh, ...; of Pashto, Kurdish, Uyghur; of Assamese.
_FOREIGN_LETTERS = re.compile("[іїєґўђћџјљњѓќѕәғқңөұүһӣӯҷҳټځڅډړږښڼېێۆەڵڕۇۋېৰৱ]", re.IGNORECASE)
_SPANISH_MARKS = re.compile("[¿¡]")
_URDU_LETTERS = re.compile("[ٹڈڑںےہھۓ]")
_URDU_OR_PERSIAN_LETTERS = re.compile("[گچپژکی]")
_CHINESE_WORDS = re.compile("[是么麼你您吗嗎哪几没沒只]")  # in Japanese character sets too, but hardly in Japanese

# Words of Hindi and Urdu in Latin letters. The first sort is nobody else's; of the second it takes two.
_ROMANISED = {
    "kya", "kyaa", "hain", "yeh", "kaun", "kaunsa", "kaunsi", "kaunse", "konsa", "konsi", "konse", "kahan", "kahaan",
    "kidhar", "kitne", "kitni", "kitna", "nahi", "nahin", "nahee", "bata", "batao", "bataiye", "bataye", "batayen",
    "bataen", "batana", "batado", "tasveer", "tasvir", "zyada", "ziyada", "aur", "dikh", "dikhta", "dikhti", "dikhao",
    "mujhe", "isko", "isme", "ismein", "iska", "iski", "iske", "usko", "usme", "usmein", "uska", "uski", "uske",
    "cheez", "chiz", "cheezen", "cheezein", "yahan", "yahaan", "wahan", "wahaan", "bhai", "dekho", "dekh", "dekhkar",
    "dekhiye", "kaisa", "kaisi", "kaise", "kyun", "kyon", "kuch", "thoda", "tum", "aap", "apko", "aapko", "mera",
    "meri", "mere", "kehte", "kehtay", "sakte", "sakti", "neeche", "neechay", "peeche", "andar", "bahar", "baayi",
    "daayi", "baen", "daen", "taraf", "karo", "karna", "karein", "kijiye", "koun", "hota", "hoti", "gino",
    "bolo", "likho", "likh", "chuno", "jaldi", "chhodo", "tumhe", "nhi", "khn", "tafseel", "tadad", "tadaad", "chahiye",
    "isay", "kahun", "bhi", "phir", "kripya", "pehchano", "pehchaniye", "samjhao", "dijiye", "batayein", "ginkar", "sankhya",
    "vivaran", "tasver", "milega", "milegi", "dhoondne", "dhundne", "dikha", "kidr", "accha", "achha", "yaar", "kaha",
}  # fmt: skip
_MAYBE_ROMANISED = {
    "hai", "ye", "wo", "woh", "ka", "ki", "ko", "mein", "ek", "kis", "na", "nai", "rang", "raha", "rahi",
    "rahe", "zara", "upar", "oopar", "sirf", "lag", "lagta", "ya", "aa", "nazar", "kar", "dein", "gin", "ginti", "jo",
    "kaho", "naam", "ke", "kul", "kia", "acha", "mili", "mila", "kon",
}  # fmt: skip
_ENOUGH = 2

# Words that, of the languages in Latin letters, one alone has; for questions that are too short for py3langid.
_TELLING = {
    "fr": {"combien", "quoi", "koi", "où", "ou", "une", "des", "les", "est", "et", "ça", "oui", "objet", "cb", "yen"},
    "es": {"qué", "esto", "eso", "ves", "dime", "hay", "dónde", "dnd", "cuántos", "cuántas", "los", "las", "ver", "es"},
}

_LOADING = threading.Lock()  # half a second and 90 MB, once, however many ask

SURE = 0.75  # of a language among those of its script, to be what the words plainly say
POSSIBLE = 0.25  # of a language, for the conversation or the interface to decide for it
POSSIBLE_OF_A_WORD = 0.1


@dataclass(frozen=True, kw_only=True)
class AnswerLanguage:
    """code: of the ten. is_plain: the question's own words say so; else the model is asked for it. notice: a sentence for
    the person, in that language, where the question is in none of the ten."""

    code: str
    is_plain: bool
    notice: str = ""

    def asked(self, message: Message) -> Message:
        """The message as the model is to get it."""
        return replace(message, answer_in=self.code) if self.is_plain else answered_in(message, self.code)


def answer_language(
    question: str, *, chosen: str | None = None, conversation: str | None = None, interface: str | None = None
) -> AnswerLanguage:
    """In which of the ten languages a question is answered. Codes of the ten may be given; the first that decides, decides:

    1. chosen: what the person has chosen for all answers.
    2. A question that is in none of the ten (Korean by its script, German where py3langid is confident): the interface's.
    3. The script that most of its words are in: Devanagari, Bengali, Cyrillic, kana. Han alone is Chinese, unless it has
       characters that only Japanese writes; what both write is Japanese where the conversation, or else the interface, is.
       Arabic script with a letter that only Urdu writes is Urdu.
    4. Hindi or Urdu in Latin letters, by its common words: Hindi, unless the conversation or the interface is in Urdu.
    5. py3langid, among the languages of the script, where it is sure; else words that French or Spanish alone has.
    6. Words that say too little (none, a single Latin one, what several languages share): the conversation's language so
       far, else the interface's, where the words could be in it; else the likeliest; English where there is none.
    """
    reading = _read(unicodedata.normalize("NFKC", question))
    before = [code for code in (conversation, interface) if code]
    if not reading.is_known:
        code = interface or "en"
        notice = "" if chosen else get_language(code).unknown
        return AnswerLanguage(code=chosen or code, is_plain=False, notice=notice)
    likeliest = max(reading.shares, key=lambda code: reading.shares[code], default="en")
    code = chosen or likeliest
    if not chosen and not reading.is_sure:
        code = next((one for one in before if reading.may_be(one)), likeliest)
    return AnswerLanguage(code=code, is_plain=code == likeliest and reading.shares.get(code, 0.0) >= SURE)


def plain_language(question: str) -> str | None:
    """The one of the ten that a question's own words plainly say; None where they do not."""
    decided = answer_language(question)
    return decided.code if decided.is_plain else None


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """What the words say. shares: how likely each language is. is_sure: nothing else need be asked. is_open: they may as
    well be in a language of another script."""

    shares: Mapping[str, float] = field(default_factory=dict)
    is_sure: bool = False
    is_open: bool = False
    is_known: bool = True

    def may_be(self, code: str) -> bool:
        if self.is_open:
            return self.shares.get(code, 1.0) >= POSSIBLE_OF_A_WORD
        return self.shares.get(code, 0.0) >= POSSIBLE


def _read(text: str) -> _Reading:
    words = list(_words(text))
    if not words:
        return _Reading(is_open=True)
    script = _main_script(words)
    if script not in LANGUAGES_OF:
        return _Reading(is_known=False)
    if script == "KANA":
        return _Reading(shares={"ja": 1.0}, is_sure=True)
    if script == "CJK":
        return _read_han("".join(word for of, word in words if of == "CJK"))
    if script == "LATIN" and _is_romanised([word for of, word in words if of == "LATIN"]):
        own = [of for of, _ in words if of in ("DEVANAGARI", "ARABIC")]
        if not own:
            return _Reading(shares={"hi": 0.5, "ur": 0.5})
        script = own[0]
    said = "".join(letter for letter in text if _script(letter) in ("", script))
    return _read_letters(said, script, [word for of, word in words if of == script])


def scripts(text: str) -> frozenset[str]:
    """Of the letters of a text, as `LANGUAGES_OF` names them."""
    return frozenset(map(_script, text)) - {""}


def _words(text: str) -> Iterator[tuple[str, str]]:
    """(script, letters) of each run of letters of one script."""
    for script, letters in groupby(text, key=_script):
        if script:
            yield script, "".join(letters)


@cache
def _script(character: str) -> str:
    """The script of a letter, by the first word of its name; nothing for what is no letter."""
    if unicodedata.category(character)[0] not in "LM":
        return ""
    name = unicodedata.name(character, "").split(" ")[0]
    return "" if name in _NO_SCRIPT else _SAME_SCRIPT.get(name, name)


def _main_script(words: list[tuple[str, str]]) -> str:
    """That of most words. One in Latin letters counts half, for loans and names go everywhere, and so does a Han character
    or a kana."""
    counts: Counter[str] = Counter()
    for script, letters in words:
        halves = {"LATIN": 1, "CJK": len(letters), "KANA": len(letters)}
        counts[script] += halves.get(script, 2)
    if "KANA" in counts:  # Japanese writes both
        counts["KANA"] += counts.pop("CJK", 0)
    return max(counts, key=lambda script: (counts[script], script != "LATIN"))


def _read_han(characters: str) -> _Reading:
    """Chinese and Japanese simplified their characters differently; the older character sets hold what each writes."""
    if _CHINESE_WORDS.search(characters) or not all(_is_in(character, "cp932") for character in characters):
        return _Reading(shares={"zh": 1.0}, is_sure=True)
    if not all(_is_in(character, "gb2312") or _is_in(character, "big5") for character in characters):
        return _Reading(shares={"ja": 1.0}, is_sure=True)
    return _Reading(shares={"zh": SURE, "ja": 1 - SURE})


def _is_in(character: str, character_set: str) -> bool:
    try:
        character.encode(character_set)
    except UnicodeEncodeError:
        return False
    return True


def _read_letters(text: str, script: str, words: list[str]) -> _Reading:
    """Where the script has several languages, or relatives beyond the ten. text: without the letters of other scripts."""
    codes = LANGUAGES_OF[script]
    if script == "LATIN" and _SPANISH_MARKS.search(text):
        return _Reading(shares={"es": 1.0}, is_sure=True)
    if script != "LATIN" and _FOREIGN_LETTERS.search(text):
        return _Reading(is_known=False)
    if script == "ARABIC" and _URDU_LETTERS.search(text):
        return _Reading(shares={"ur": 1.0}, is_sure=True)
    likelihoods = dict(_identifier().rank(text))
    ours = sum(likelihoods[code] for code in codes)
    persian = script == "ARABIC" and _URDU_OR_PERSIAN_LETTERS.search(text)
    if len(words) > 1 and 1 - ours >= FOREIGN[script] and (persian or script != "ARABIC"):
        return _Reading(is_known=False)
    if persian:
        return _Reading(shares={"ur": 1.0}, is_sure=True)
    shares = {code: likelihoods[code] / ours for code in codes} if ours else dict.fromkeys(codes, 1 / len(codes))
    likeliest = max(shares, key=lambda code: shares[code])
    telling = [code for code, its in _TELLING.items() if its & {word.lower() for word in words}]
    if shares[likeliest] < SURE and len(telling) == 1 and script == "LATIN":
        return _Reading(shares={telling[0]: 1.0}, is_sure=True)
    is_one = script == "LATIN" and len(words) == 1
    is_sure = shares[likeliest] >= SURE and not (is_one and likeliest == "en")  # English words go everywhere
    return _Reading(shares=shares, is_sure=is_sure, is_open=is_one)


def _is_romanised(words: list[str]) -> bool:
    """Whether words in Latin letters are Hindi or Urdu."""
    said = {word.lower() for word in words}
    ends = words[-1].lower() == "hai" and len(words) > 1  # the verb, where theirs stands
    return _ENOUGH * len(said & _ROMANISED) + len(said & _MAYBE_ROMANISED) + ends >= _ENOUGH


def _identifier() -> "LanguageIdentifier":
    with _LOADING:
        return _loaded()


@cache
def _loaded() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages([*CODES, *OTHER_CODES])
    return identifier
