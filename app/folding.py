"""Words as a search compares them: what a person would type for them, in any of the ten languages."""

import unicodedata

import regex

FOLDING = 1  # changes with what `fold` makes of a text: an index of other foldings is made anew

# Marks that people leave out, or that come with another keyboard: accents (but for the one that makes й of и), Arabic and
# Hebrew vowels, Indic dots below; tatweel, joiners and everything else that has no form of its own. The vowel signs of Indic
# scripts and the two marks of kana are letters.
_LEFT_OUT = regex.compile(
    r"[\u0300-\u0305\u0307-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed"
    r"\u093c\u09bc\u0a3c\u0abc\u0640\p{Cf}\ufe00-\ufe0f]"
)
_SAME = {
    **dict.fromkeys(map(ord, "ٱ"), "ا"),
    **dict.fromkeys(map(ord, "يى"), "ی"),
    **dict.fromkeys(map(ord, "ك"), "ک"),
    **dict.fromkeys(map(ord, "ةہھە"), "ه"),
    ord("œ"): "oe",
    ord("æ"): "ae",
    **{katakana: chr(katakana - 0x60) for katakana in range(0x30A1, 0x30F7)},
}


def fold(text: str) -> str:
    """Letters without regard to case, width, form, accents, vowel marks and joiners; digits of any script as 0 to 9."""
    bare = _LEFT_OUT.sub("", unicodedata.normalize("NFKD", text).casefold())
    folded = unicodedata.normalize("NFKC", bare).translate(_SAME)
    return "".join(str(unicodedata.decimal(letter, letter)) for letter in folded)
