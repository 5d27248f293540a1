"""Maya as a model of lmms-eval, which this module cannot be imported without."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from lmms_eval.api.model import lmms

from maya_core.answering.options import GenerationOptions
from maya_core.answering.session import load_best
from maya_core.errors import ImageError, PromptError
from maya_core.model.prompt import IMAGE
from training.benchmarks.asking import batched
from training.benchmarks.local import BATCH, answered

log = logging.getLogger(__name__)

LONGEST_ANSWER = 1024  # tokens, where a task does not say


class Maya(lmms):
    """pretrained: folder or repository; the embedded Maya where none is named. Likelihoods are not given."""

    is_simple = True

    def __init__(self, pretrained: str | None = None, batch_size: int | str = BATCH, **_: Any) -> None:
        super().__init__()
        self.session = load_best(pretrained)
        self.device = self.session.model.device  # lmms-eval counts there over several processes
        self.batch_size = BATCH if batch_size == "auto" else int(batch_size)

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """The answer to each request, in their order; empty where one cannot be asked, which the log says."""
        messages = {}
        settings = defaultdict(list)
        for number, request in enumerate(requests):
            context, settled, doc_to_visual, doc_id, task, split = request.args
            pictures = doc_to_visual(self.task_dict[task][split][doc_id]) or []
            try:
                messages[number] = self.session.processor.user_message(context.replace(IMAGE, "").strip(), pictures)
            except (ImageError, PromptError) as error:
                log.warning("%s %s: %s", task, doc_id, error)
                continue
            settings[_options(settled)].append(number)
        answers = [""] * len(requests)
        for options, numbers in settings.items():
            for some in batched(numbers, self.batch_size):
                replies = answered(self.session, [messages[number] for number in some], options)
                for number, reply in zip(some, replies, strict=True):
                    answers[number] = _until(reply.text, requests[number].args[1].get("until"))
                    if reply.failure:
                        log.warning("request %d: %s", number, reply.failure)
        return answers

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        raise NotImplementedError("Maya gives answers, not likelihoods; choose a task of the kind generate_until.")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        raise NotImplementedError("Maya is asked in one round; choose a task of the kind generate_until.")


def _options(settled: dict[str, Any]) -> GenerationOptions:
    is_drawn = settled.get("do_sample", True)
    temperature = float(settled.get("temperature") or 0.0) if is_drawn else 0.0
    top_p = float(settled.get("top_p") or 1.0)
    longest = int(settled.get("max_new_tokens", LONGEST_ANSWER))
    return GenerationOptions(max_new_tokens=longest, temperature=temperature, top_p=top_p, seed=0)


def _until(text: str, ends: str | Sequence[str] | None) -> str:
    """What stands before the first of these ends."""
    for end in [ends] if isinstance(ends, str) else ends or ():
        text = text.split(end)[0] if end else text
    return text
