"""What replies to prompts: one protocol, and what can become of a request."""

from dataclasses import dataclass
from typing import Protocol

from maya_core.errors import MayaError


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What came back, and the tokens that it took."""

    text: str
    input_tokens: int
    output_tokens: int


class Engine(Protocol):
    """A language model, wherever it runs."""

    async def complete(self, prompt: str, *, most_tokens: int, temperature: float = 0.0) -> Completion:
        """The model's reply to a prompt of one turn. Raises the errors below."""
        ...

    async def close(self) -> None:
        """Give back what it holds."""
        ...


class EngineRefused(MayaError):
    """The endpoint takes no request of ours: key, account, address or the model's name is wrong. The run ends."""


class EngineUnavailable(MayaError):
    """No attempt brought a reply: the network or the server is at fault, not the text."""


class RequestRefused(MayaError):
    """This request gets no reply, however often it is sent. reason: as the journal keeps it."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The endpoint refuses a request: {reason}.")
        self.reason = reason


class ReplyUnusable(MayaError):
    """What came is no whole reply, which another attempt may bring. reason: as the journal keeps it. The tokens are paid."""

    def __init__(self, reason: str, *, input_tokens: int = 0, output_tokens: int = 0) -> None:
        super().__init__(f"A reply cannot be used: {reason}.")
        self.reason = reason
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
