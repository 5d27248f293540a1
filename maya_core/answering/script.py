"""Which tokens an answer in one language may hold: those whose letters it is written with. Shape letters: V vocabulary."""

import re
from functools import cached_property

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers.convert_slow_tokenizer import bytes_to_unicode

from maya_core.answering.language import SCRIPTS_OF, scripts

PART_OF_A_CHARACTER = "\ufffd"
_CAPITALS = re.compile("[A-Z]")


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
            written = [bool(code and of - SCRIPTS_OF[code]) for of in self._of_tokens]
            self._foreign[code] = torch.tensor(written + [False] * (self.vocabulary - len(written)))
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
    def _of_tokens(self) -> list[frozenset[str]]:
        """Control tokens and parts of a character have no script; nor have Latin capitals, which every language writes
        ("DVD", "T恤")."""
        control = self.tokenizer.get_added_tokens_decoder()
        texts = (self.tokenizer.decode([token]) for token in range(self.tokenizer.get_vocab_size()))
        return [
            frozenset() if number in control or PART_OF_A_CHARACTER in text else scripts(_CAPITALS.sub("", text))
            for number, text in enumerate(texts)
        ]
