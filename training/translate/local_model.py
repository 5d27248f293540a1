"""A language model of transformers on this machine, which takes what waits in one batch."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.engine import Completion, EngineRefused, ReplyUnusable


@dataclass
class _Waiting:
    prompt: str
    most_tokens: int
    temperature: float
    reply: "asyncio.Future[Completion]"


class LocalModel:
    """Prompts go through the model's own chat template where it has one, and on in batches of `batch`, padded left."""

    def __init__(self, model: str, *, batch: int = 8) -> None:
        """model: a folder or a repository. Raises EngineRefused where it cannot be loaded."""
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.batch = batch
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(model, padding_side="left")
            self._model: Any = AutoModelForCausalLM.from_pretrained(model, dtype="auto").eval()
        except (OSError, ValueError) as error:
            raise EngineRefused(f"{Path(model).name} cannot be loaded as a language model: {error}") from None
        if torch.cuda.is_available():
            self._model = self._model.to("cuda")
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._waiting: list[_Waiting] = []
        self._running: asyncio.Task[None] | None = None

    async def complete(self, prompt: str, *, most_tokens: int, temperature: float = 0.0) -> Completion:
        waiting = _Waiting(prompt, most_tokens, temperature, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        return await waiting.reply

    async def close(self) -> None:
        if self._running is not None:
            await self._running

    async def _run(self) -> None:
        """Batches until nobody waits. Those of one temperature go together."""
        while self._waiting:
            await asyncio.sleep(0)  # whoever asks at the same moment joins
            temperature = self._waiting[0].temperature
            taken = [one for one in self._waiting if one.temperature == temperature][: self.batch]
            self._waiting = [one for one in self._waiting if one not in taken]
            try:
                replies = await asyncio.to_thread(
                    self.generate, [one.prompt for one in taken], max(one.most_tokens for one in taken), temperature
                )
            except RuntimeError as error:  # out of memory, as a rule
                for one in taken:
                    _settle(one.reply, EngineRefused(f"The model cannot reply: {error}. Try a smaller --batch."))
                continue
            for one, reply in zip(taken, replies, strict=True):
                _settle(one.reply, reply)

    def generate(
        self, prompts: list[str], most_tokens: int, temperature: float = 0.0
    ) -> list[Completion | ReplyUnusable]:
        """The replies to some prompts at once; those that did not come to an end in `most_tokens` cannot be used."""
        import torch

        tokenizer = self._tokenizer
        if tokenizer.chat_template:
            prompts = [
                tokenizer.apply_chat_template(
                    [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
                )
                for prompt in prompts
            ]
        encoded = tokenizer(
            prompts, return_tensors="pt", padding=True, add_special_tokens=not tokenizer.chat_template
        ).to(self._model.device)
        drawn = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
        with torch.inference_mode():
            ids_BT = self._model.generate(
                input_ids=encoded["input_ids"],
                attention_mask=encoded["attention_mask"],
                max_new_tokens=most_tokens,
                pad_token_id=tokenizer.pad_token_id,
                **drawn,
            )
        ends = self._model.generation_config.eos_token_id
        ends = set(ends) if isinstance(ends, list) else {ends}
        return [
            self._reply(new, int(mask.sum()), ends)
            for new, mask in zip(
                ids_BT[:, encoded["input_ids"].shape[1] :].tolist(), encoded["attention_mask"], strict=True
            )
        ]

    def _reply(self, ids: list[int], input_tokens: int, ends: set[int]) -> Completion | ReplyUnusable:
        length = next((place for place, token in enumerate(ids) if token in ends), None)
        if length is None:
            return ReplyUnusable("cut-off", input_tokens=input_tokens, output_tokens=len(ids))
        text = self._tokenizer.decode(ids[:length], skip_special_tokens=True)
        return Completion(text=text, input_tokens=input_tokens, output_tokens=length + 1)


def _settle(future: "asyncio.Future[Completion]", reply: Completion | Exception) -> None:
    """Give the reply to whoever still waits for it."""
    if future.done():
        return
    if isinstance(reply, Exception):
        future.set_exception(reply)
    else:
        future.set_result(reply)
