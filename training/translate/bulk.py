"""The bulk run: everything pending in a journal goes through an engine, checked, with no more in flight than agreed."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from maya_core.errors import MayaError
from training.engine import Completion, Engine, EngineUnavailable, ReplyUnusable, RequestRefused
from training.translate.checks import fault, tidied
from training.translate.journal import Claim, Journal, Result, State, Tokens
from training.translate.prompts import prompt, replies

FAILURES = (
    3  # calls one after the other without a reply, after which the endpoint counts as gone; no more than MOST_TRIES
)
WARMTH = 0.3  # more temperature with each try: a greedy model would make the same mistake again
LEAST_OUTPUT = 96  # tokens that a reply may have in any case
OUTPUT_PER_LETTER = (
    3  # tokens of a reply for a letter of the source: scripts that a tokenizer hardly knows take so many
)

OnState = Callable[[str, State, str], None]  # language, state, reason of a text that has been in flight


class BudgetReached(MayaError):
    """The next call could cost more than is left."""


@dataclass(frozen=True, kw_only=True)
class Price:
    """Of a million tokens, in any currency."""

    input: float = 0.0
    output: float = 0.0

    def of(self, tokens: Tokens) -> float:
        return (tokens.input * self.input + tokens.output * self.output) / 1e6


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a journal is worked through.

    languages: in their order. preambles: by language (`prompts.load_preambles`). batch: texts in a request; concurrency:
    requests at once. budget: what all requests of the journal may cost, None for no end.
    """

    languages: tuple[str, ...]
    preambles: Mapping[str, str]
    batch: int = 1
    concurrency: int = 16
    price: Price = field(default_factory=Price)
    budget: float | None = None

    def prompt(self, language: str, sources: Sequence[str]) -> str:
        return prompt(self.preambles, language, sources)

    def reserve(self, language: str, sources: Sequence[str]) -> Tokens:
        """The most tokens that a request about texts takes: a token has a byte at least."""
        return Tokens(len(self.prompt(language, sources).encode()) + LEAST_OUTPUT, most_output(sources))


def most_output(sources: Sequence[str]) -> int:
    """Tokens that a reply may have."""
    return LEAST_OUTPUT + OUTPUT_PER_LETTER * sum(map(len, sources)) + (16 * len(sources) if len(sources) > 1 else 0)


def results_of(claim: Claim, said: str) -> list[Result]:
    """What becomes of a claim's texts by the model's reply to them. Raises ReplyUnusable."""
    found = replies(said, len(claim.texts))
    return [
        judged(text, source, found[place], claim.language) if place in found else Result(text=text, reason="missing")
        for place, (text, source) in enumerate(zip(claim.texts, claim.sources, strict=True))
    ]


def judged(text: int, source: str, reply: str, language: str) -> Result:
    translation = tidied(reply, source)
    wrong = fault(source, translation, language)
    return Result(text=text, reason=wrong) if wrong else Result(text=text, translation=translation)


async def translate(
    journal: Journal, engine: Engine, plan: Plan, on_state: OnState = lambda language, state, reason: None
) -> None:
    """Work until nothing is pending. Whoever stops it, or whatever does, leaves a journal that the next run goes on with.

    Raises EngineRefused, EngineUnavailable, BudgetReached, JournalUnavailable.
    """
    journal.recover()
    run = _Run(journal, engine, plan, on_state)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(plan.concurrency):
                group.create_task(run.work())
    except* MayaError as troubles:
        raise _first(troubles) from None


def _first(troubles: BaseExceptionGroup[MayaError]) -> MayaError:
    """Of several troubles the one that came first."""
    first = troubles.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


class _Run:
    """What the workers share."""

    def __init__(self, journal: Journal, engine: Engine, plan: Plan, on_state: OnState) -> None:
        self.journal, self.engine, self.plan, self.on_state = journal, engine, plan, on_state
        self.in_flight = 0
        self.failures = 0  # in a row
        self.changed = asyncio.Condition()

    async def work(self) -> None:
        """One request after the other."""
        while claim := await self._claim():
            try:
                await self._translate(claim)
            finally:
                self.in_flight -= 1
                async with self.changed:
                    self.changed.notify_all()

    async def _claim(self) -> Claim | None:
        """The next claim; waits while what is in flight may come back, or may turn out to cost less than it might."""
        async with self.changed:
            while True:
                is_affordable = self._is_affordable()
                claim = (
                    self.journal.claim(self.plan.languages, self.plan.batch, self.plan.reserve)
                    if is_affordable
                    else None
                )
                if claim:
                    self.in_flight += 1
                    return claim
                if not self.in_flight and is_affordable:
                    return None
                if not self.in_flight:
                    raise BudgetReached(
                        f"The next request could go over the budget of {self.plan.budget:g}; what is done is kept. Run the "
                        "same command again with a larger --budget to go on."
                    )
                await self.changed.wait()

    def _is_affordable(self) -> bool:
        """Whether the dearest next request fits into the budget beside all that may have been spent."""
        if self.plan.budget is None:
            return True
        committed = self.journal.committed()
        following = self.journal.following(self.plan.languages, self.plan.batch, self.plan.reserve)
        everything = Tokens(committed.input + following.input, committed.output + following.output)
        return self.plan.price.of(everything) <= self.plan.budget

    async def _translate(self, claim: Claim) -> None:
        """Ask, and note what became of it. However this ends, the claim is closed."""
        try:
            completion = await self.engine.complete(
                self.plan.prompt(claim.language, claim.sources),
                most_tokens=most_output(claim.sources),
                temperature=WARMTH * claim.tries,
            )
        except ReplyUnusable as trouble:
            self.failures = 0
            self._all(claim, trouble.reason, Tokens(trouble.input_tokens, trouble.output_tokens))
        except RequestRefused as trouble:
            self.failures = 0
            # Of several texts one may be the reason: each is tried alone.
            self._all(claim, trouble.reason, Tokens(), again=len(claim.texts) > 1)
        except EngineUnavailable:
            self.failures += 1
            if self.failures >= FAILURES:
                self.journal.put_back(claim, is_lost=False)
                raise
            self._all(claim, "no-reply", Tokens())  # it may be the text's own fault
        except BaseException as trouble:
            self.journal.put_back(claim, is_lost=isinstance(trouble, asyncio.CancelledError))
            raise
        else:
            self.failures = 0
            self._take(claim, completion)

    def _take(self, claim: Claim, completion: Completion) -> None:
        tokens = Tokens(completion.input_tokens, completion.output_tokens)
        try:
            results = results_of(claim, completion.text)
        except ReplyUnusable as trouble:
            self._all(claim, trouble.reason, tokens)
            return
        self._finish(claim, results, tokens)

    def _all(self, claim: Claim, reason: str, tokens: Tokens, *, again: bool = True) -> None:
        self._finish(claim, [Result(text=text, reason=reason, again=again) for text in claim.texts], tokens)

    def _finish(self, claim: Claim, results: Sequence[Result], tokens: Tokens) -> None:
        for state, reason in self.journal.finish(claim, results, tokens):
            self.on_state(claim.language, state, reason)
