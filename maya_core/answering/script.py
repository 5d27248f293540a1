"""Which tokens an answer in one language may hold: those whose letters it is written with. Shape letters: V vocabulary."""

import re
import unicodedata
from functools import cache, cached_property
from itertools import product
from typing import NamedTuple

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers.convert_slow_tokenizer import bytes_to_unicode

from maya_core.answering.language import SCRIPTS_OF, scripts

PART_OF_A_CHARACTER = "\ufffd"
_CAPITALS = re.compile("[A-Z]")
# Bytes that begin a character of two or three and do not end it. Nearly all letters are written so, and of what four bytes
# begin, emoji among them, none says its script by the first.
_BEGUN = re.compile(rb"(?:[\xc2-\xdf]|[\xe0-\xef][\x80-\xbf]?)\Z")


class _Letters(NamedTuple):
    """Of a token: the scripts of its whole letters, and those of which one is the letter that it begins."""

    whole: frozenset[str]
    begun: frozenset[str]


class Scripts:
    """Of a tokenizer's tokens."""

    def __init__(self, tokenizer: Tokenizer, vocabulary: int) -> None:
        """vocabulary: the model's, which may be larger than the tokenizer's."""
        self.tokenizer = tokenizer
        self.vocabulary = vocabulary
        self._foreign: dict[str | None, Tensor] = {}

    def foreign(self, code: str | None) -> Tensor:
        """(V,) true for tokens that have letters of scripts in which a language is not written; None: no language."""
        if code not in self._foreign:
            own = SCRIPTS_OF[code] if code else frozenset()
            are = [bool(code) and bool(of.whole - own or (of.begun and not of.begun & own)) for of in self._of_tokens]
            self._foreign[code] = torch.tensor(are + [False] * (self.vocabulary - len(are)))
        return self._foreign[code]

    @cached_property
    def no_first(self) -> Tensor:
        """(V,) true for tokens with which no answer begins, which can be the likeliest where the word that was wanted is
        foreign: control tokens, the end among them, and those that begin inside a character."""
        letters = bytes_to_unicode()  # as byte-level tokenizers write bytes
        inside = {letters[byte] for byte in range(0x80, 0xC0)}
        control = self.tokenizer.get_added_tokens_decoder()
        names = (self.tokenizer.id_to_token(token) or "" for token in range(self.tokenizer.get_vocab_size()))
        none = [number in control or name[:1] in inside for number, name in enumerate(names)]
        return torch.tensor(none + [False] * (self.vocabulary - len(none)))

    @cached_property
    def _of_tokens(self) -> list[_Letters]:
        """Control tokens have no script; nor have Latin capitals, which every language writes ("DVD", "T恤")."""
        control = self.tokenizer.get_added_tokens_decoder()
        byte_of = {letter: byte for byte, letter in bytes_to_unicode().items()}
        letters = []
        for number in range(self.tokenizer.get_vocab_size()):
            if number in control:
                letters.append(_Letters(frozenset(), frozenset()))
                continue
            whole = self.tokenizer.decode([number]).replace(PART_OF_A_CHARACTER, "")
            written = bytes(byte_of.get(letter, 0) for letter in self.tokenizer.id_to_token(number) or "")
            begun = _BEGUN.search(written)
            letters.append(_Letters(scripts(_CAPITALS.sub("", whole)), _scripts_from(begun[0] if begun else b"")))
        return letters


@cache
def _scripts_from(begun: bytes) -> frozenset[str]:
    """Of all that may become of a character's first bytes; none where that may be no letter."""
    if not begun:
        return frozenset()
    rest = (2 if begun[0] < 0xE0 else 3) - len(begun)
    endings = map(bytes, product(range(0x80, 0xC0), repeat=rest))
    written = b"".join(begun + ending for ending in endings).decode(errors="ignore")  # some are no character
    every = [one for one in written if unicodedata.category(one) != "Cn"]
    return scripts("".join(every)) if all(map(scripts, every)) else frozenset()
