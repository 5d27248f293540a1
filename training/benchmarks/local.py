"""Models on this machine: whatever `load_best` opens; and, as a judge, any language model of transformers."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maya_core.answering.options import GenerationOptions
from maya_core.assets import typed_path
from maya_core.errors import ImageError, PromptError
from maya_core.model.images import open_image
from maya_core.model.prompt import Message
from maya_core.weights.durable import digest
from maya_core.weights.files import read_config
from maya_core.weights.hub import local_folder
from training.benchmarks.asking import Asker, Reply, Request, batched, sha256_of

if TYPE_CHECKING:
    from maya_core.answering.session import ChatSession

BATCH = 16


def open_local(path_or_repo: str | Path, *, batch: int = BATCH) -> Asker:
    """The model of a folder or a repository. Raises a CheckpointError where it is none of either kind."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    from maya_core.answering.session import load_best

    folder = local_folder(path_or_repo)
    name = folder.resolve().name if typed_path(path_or_repo).is_dir() else str(path_or_repo)
    kind = read_config(folder).get("model_type") if (folder / "config.json").is_file() else None
    if kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return LanguageModel(folder, name, batch=batch)
    return LocalModel(load_best(folder), folder, name, batch=batch)


class LocalModel:
    """A Maya. Its fingerprint: the bytes of its folder, and the number format that it answers in."""

    def __init__(self, session: "ChatSession", folder: Path, name: str, *, batch: int = BATCH) -> None:
        self.session = session
        self.batch = batch
        self.name = name
        self.fingerprint: Mapping[str, str] = {
            "files": folder_digest(folder),
            "dtype": str(session.model.dtype).removeprefix("torch."),
            "device": session.model.device.type,
        }

    def ask(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """In batches of prompts of about the same length; what cannot be asked fails alone."""
        order = sorted(range(len(requests)), key=lambda number: len(requests[number].prompt))
        for numbers in batched(order, self.batch):
            messages: dict[int, Message] = {}
            for number in numbers:
                try:
                    messages[number] = self._message(requests[number])
                except (ImageError, PromptError) as error:
                    yield number, Reply(failure=str(error))
            longest = max((requests[number].longest for number in messages), default=1)
            options = GenerationOptions(max_new_tokens=longest)
            yield from zip(messages, answered(self.session, list(messages.values()), options), strict=True)

    def _message(self, request: Request) -> Message:
        pictures = [] if request.picture is None else [open_image(request.picture)]
        return self.session.processor.user_message(request.prompt, pictures)


def answered(session: "ChatSession", messages: Sequence[Message], options: GenerationOptions) -> list[Reply]:
    """The answer to each of several messages, asked at once; what cannot be asked fails alone."""
    try:
        return [Reply(text=text) for text in session.answers([[message] for message in messages], options)]
    except PromptError as error:
        if len(messages) == 1:
            return [Reply(failure=str(error))]
    return [reply for message in messages for reply in answered(session, [message], options)]


class LanguageModel:
    """A language model with a chat template, greedy; it sees no pictures."""

    def __init__(self, folder: Path, name: str, *, batch: int = BATCH) -> None:
        from transformers import pipeline

        self._pipeline: Any = pipeline("text-generation", model=str(folder), batch_size=batch, device_map="auto")
        tokenizer = self._pipeline.tokenizer
        tokenizer.padding_side = "left"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.batch = batch
        self.name = name
        self.fingerprint: Mapping[str, str] = {"files": folder_digest(folder)}

    def ask(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        order = sorted(range(len(requests)), key=lambda number: len(requests[number].prompt))
        for numbers in batched(order, self.batch):
            chats = [[{"role": "user", "content": requests[number].prompt}] for number in numbers]
            longest = max(requests[number].longest for number in numbers)
            told = self._pipeline(chats, max_new_tokens=longest, do_sample=False, return_full_text=False)
            for number, [one] in zip(numbers, told, strict=True):
                yield number, Reply(text=one["generated_text"])


def folder_digest(folder: Path) -> str:
    """SHA-256 of the names and bytes of a folder's files."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
    return sha256_of([(str(file.relative_to(folder)), digest(file)) for file in files])
