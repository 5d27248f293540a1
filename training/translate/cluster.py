"""The bulk run on a cluster: Ray Data brings prompts to models of transformers, one a worker; this process alone keeps the
journal, so a worker or a machine that is lost costs its prompts another turn and nothing else."""

import logging
import os
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from training.engine import EngineRefused, EngineUnavailable, ReplyUnusable
from training.translate.bulk import WARMTH, OnState, Plan, most_output, results_of
from training.translate.journal import Claim, Journal, Result, Tokens

if TYPE_CHECKING:
    from training.translate.local_model import LocalModel

ROUND = 512  # prompts a worker between two looks at the journal
BATCH = 16  # prompts that a model is given at once


class Worker:
    """A model on a machine of the cluster. A batch has columns call, prompt, most_tokens and temperature."""

    def __init__(self, model: str) -> None:
        """A model that cannot be loaded is told with the first batch: Ray starts a worker that raises again and again."""
        self._refused = ""
        try:
            self._model = self.load(model)
        except EngineRefused as trouble:
            self._refused = str(trouble)

    def load(self, model: str) -> "LocalModel":
        from training.translate.local_model import LocalModel

        return LocalModel(model)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Columns call, text, reason, input_tokens, output_tokens and refused; a reason where there is no text, and why the
        worker has no model."""
        text, reason = (np.full(len(batch["call"]), "", dtype=object) for _ in range(2))
        tokens = np.zeros((2, len(text)), dtype=np.int64)
        for temperature in np.unique(batch["temperature"]) if not self._refused else ():
            (places,) = np.nonzero(batch["temperature"] == temperature)
            prompts = [str(batch["prompt"][place]) for place in places]
            replies = self._model.generate(prompts, int(batch["most_tokens"][places].max()), float(temperature))
            for place, reply in zip(places, replies, strict=True):
                tokens[:, place] = reply.input_tokens, reply.output_tokens
                if isinstance(reply, ReplyUnusable):
                    reason[place] = reply.reason
                else:
                    text[place] = reply.text
        return {
            "call": batch["call"],
            "text": text,
            "reason": reason,
            "input_tokens": tokens[0],
            "output_tokens": tokens[1],
            "refused": np.full(len(text), self._refused, dtype=object),
        }


def translate(
    journal: Journal,
    model: str,
    plan: Plan,
    on_state: OnState = lambda language, state, reason: None,
    *,
    workers: int = 2,
    worker: type[Worker] = Worker,
) -> None:
    """Work until nothing is pending, on the cluster that RAY_ADDRESS names, or else on this machine. Raises EngineRefused
    where the model cannot be loaded there, EngineUnavailable where the cluster gives up."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would tell others that it runs
    import ray

    if not ray.is_initialized():
        try:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as trouble:  # noqa: BLE001  # Ray raises nothing narrower where a node does not start
            raise EngineUnavailable(f"There is no cluster: {trouble} What is done is kept; try again.") from None
    ray.data.DataContext.get_current().enable_progress_bars = False  # what a run shows is its own
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what it would say of a failure is raised, too
    gpus = 1 if ray.cluster_resources().get("GPU") else 0
    journal.recover()
    while claims := _claims(journal, plan, ROUND * workers):
        rows = [
            {
                "call": claim.call,
                "prompt": plan.prompt(claim.language, claim.sources),
                "most_tokens": most_output(claim.sources),
                "temperature": WARMTH * claim.tries,
            }
            for claim in claims.values()
        ]
        # Workers share the prompts evenly; smaller blocks keep all of them busy to the end.
        blocks = min(len(rows), workers * 8)
        replies = ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
            worker,
            fn_constructor_args=(model,),
            batch_size=BATCH,
            num_gpus=gpus,
            compute=ray.data.ActorPoolStrategy(size=workers),
        )
        try:
            for row in replies.iter_rows():
                if row["refused"]:
                    raise EngineRefused(str(row["refused"]))
                _take(journal, claims.pop(int(row["call"])), row, on_state)
        except ray.exceptions.RayError as trouble:
            raise EngineUnavailable(
                f"The cluster gave up ({type(trouble).__name__}); what is done is kept. Run the same command again."
            ) from None
        finally:
            for claim in claims.values():
                journal.put_back(claim, is_lost=True)


def _claims(journal: Journal, plan: Plan, most: int) -> dict[int, Claim]:
    """So many claims at once, by their calls."""
    found = iter(lambda: journal.claim(plan.languages, plan.batch, plan.reserve), None)
    return {claim.call: claim for claim in islice(found, most) if claim}


def _take(journal: Journal, claim: Claim, row: Mapping[str, Any], on_state: OnState) -> None:
    """Note what a worker replied."""
    reason, results = str(row["reason"]), None
    if not reason:
        try:
            results = results_of(claim, str(row["text"]))
        except ReplyUnusable as trouble:
            reason = trouble.reason
    results = results or [Result(text=text, reason=reason) for text in claim.texts]
    tokens = Tokens(int(row["input_tokens"]), int(row["output_tokens"]))
    for state, why in journal.finish(claim, results, tokens):
        on_state(claim.language, state, why)
