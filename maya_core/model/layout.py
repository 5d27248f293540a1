"""How rows of tokens are laid out as a batch, in the words of transformers' tokenizers."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class BatchLayout:
    """How rows of tokens become a batch, by transformers' names. Checks itself with ValueError.

    return_tensors: `pt`, `np`, or None for lists. padding: True or `longest`, `max_length`, or False; None pads tensors,
    and not lists. padding_side: `left`, as generation wants it, or `right`. pad_to_multiple_of: of the batch's length.
    max_length: tokens of a row that are kept, counted from the first, unless truncation is False.
    """

    return_tensors: str | None = None
    padding: bool | str | None = None
    padding_side: str = "left"
    pad_to_multiple_of: int | None = None
    max_length: int | None = None
    truncation: bool | str | None = None

    def __post_init__(self) -> None:
        for name, known in (
            ("return_tensors", (None, "auto", "pt", "np")),
            ("padding", (None, True, "longest", "max_length", False, "do_not_pad")),
            ("padding_side", ("left", "right")),
            ("truncation", (None, True, "longest_first", False, "do_not_truncate")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; Maya knows {', '.join(map(repr, known))}.")
        if self.padding == "max_length" and self.max_length is None:
            raise ValueError("padding is 'max_length', and max_length is not given.")

    @property
    def tensors(self) -> str | None:
        """The kind of tensors; None for lists."""
        return None if self.return_tensors == "auto" else self.return_tensors

    @property
    def is_padded(self) -> bool:
        return self.tensors is not None if self.padding is None else self.padding not in (False, "do_not_pad")

    @property
    def least(self) -> int:
        """Tokens that each row is padded to, whatever the longest has."""
        return self.max_length or 0 if self.padding == "max_length" else 0

    @property
    def most(self) -> int | None:
        """Tokens that are kept of a row."""
        return None if self.truncation in (False, "do_not_truncate") else self.max_length
