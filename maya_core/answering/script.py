"""Which tokens an answer in one language may hold: those whose letters it is written with. Shape letters: V vocabulary."""

import re
from functools import cached_property

import torch
from tokenizers import Tokenizer
from torch import Tensor

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
    def _of_tokens(self) -> list[frozenset[str]]:
        """Control tokens and parts of a character have no script; nor have Latin capitals, which every language writes
        ("DVD", "T恤")."""
        control = self.tokenizer.get_added_tokens_decoder()
        texts = (self.tokenizer.decode([token]) for token in range(self.tokenizer.get_vocab_size()))
        return [
            frozenset() if number in control or PART_OF_A_CHARACTER in text else scripts(_CAPITALS.sub("", text))
            for number, text in enumerate(texts)
        ]
