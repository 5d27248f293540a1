"""llama.cpp, by the ctypes bindings of `llama-cpp-python`: reads a GGUF file, is given ids and embeddings, gives scores.

The layouts of its structures drift from version to version, so one version is asked for, its defaults are taken, and
little is set. There is no torch here: a process of its own tries the library (`main`), and may die of it, in half a second.
"""

import ctypes
import json
import sys
import weakref
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maya_core.errors import CheckpointError, GenerationError
from maya_core.progress import OnProgress, untold

PACKAGE, VERSION = "llama-cpp-python", "0.3.36"
AT_ONCE = 512  # positions that are read in one go
ALL_LAYERS = 1 << 20  # go to a GPU, where the library knows one
_ONLY_CONVERSATION = 0  # its number

Scores = NDArray[np.float32]


def is_installed() -> bool:
    """Whether the bindings are here, in the version that they are known in."""
    try:
        return version(PACKAGE) == VERSION
    except PackageNotFoundError:
        return False


@lru_cache(maxsize=1)
def library() -> Any:
    """The bindings, told to be silent."""
    import llama_cpp

    llama_cpp.llama_log_set(_silence(llama_cpp), ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    return llama_cpp


@lru_cache(maxsize=1)
def _silence(llama_cpp: Any) -> Any:
    """Kept, because the library calls it as long as it lives."""
    return llama_cpp.llama_log_callback(lambda level, text, data: None)


def has_gpu() -> bool:
    """Whether the library was built for a GPU that is here: Apple's, or one that Vulkan reaches."""
    return bool(library().llama_supports_gpu_offload())


class _Kept:
    """What is raised within, kept until one is outside of C, which knows no exceptions."""

    error: BaseException | None = None

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        self.error = error
        return True


class LlamaModel:
    """A language model in llama.cpp's hands; freed with its last context."""

    def __init__(self, file: Path, *, on_progress: OnProgress = untold) -> None:
        """on_progress: told which share is there; what it raises ends the loading. Raises CheckpointError."""
        self._lib = library()
        parameters = self._lib.llama_model_default_params()
        parameters.n_gpu_layers = ALL_LAYERS if has_gpu() else 0
        kept = _Kept()

        def told(share: float, _: Any) -> bool:
            with kept:
                on_progress(share)
            return kept.error is None

        parameters.progress_callback = self._lib.llama_progress_callback(told)
        self.handle = self._lib.llama_model_load_from_file(str(file).encode(), parameters)
        if kept.error:
            raise kept.error
        if not self.handle:
            raise CheckpointError(f"llama.cpp cannot read {file.name}; export the model anew.")
        weakref.finalize(self, self._lib.llama_model_free, self.handle)
        self.width: int = self._lib.llama_model_n_embd(self.handle)
        self.vocabulary: int = self._lib.llama_vocab_n_tokens(self._lib.llama_model_get_vocab(self.handle))

    def new_context(self, columns: int, *, threads: int) -> "LlamaContext":
        """Room for a conversation of so many positions."""
        return LlamaContext(self, columns, threads=threads)


class LlamaContext:
    """What was read of one conversation; positions behind `length` are forgotten when it is made less."""

    def __init__(self, model: LlamaModel, columns: int, *, threads: int) -> None:
        self.model, self.capacity, self._threads = model, columns, threads
        self._lib = model._lib
        parameters = self._lib.llama_context_default_params()
        parameters.n_ctx = columns
        parameters.n_batch = parameters.n_ubatch = min(AT_ONCE, columns)
        parameters.n_outputs_max = 1  # else room for the scores of all that is read at once: half a GiB
        parameters.n_threads = parameters.n_threads_batch = threads
        self._handle = self._lib.llama_init_from_model(model.handle, parameters)
        if not self._handle:
            raise GenerationError(f"There is no memory for a conversation of {columns} tokens; close other programs.")
        self._end = weakref.finalize(self, self._lib.llama_free, self._handle)
        self._length = 0

    @property
    def length(self) -> int:
        return self._length

    @length.setter
    def length(self, length: int) -> None:
        assert length <= self._length
        if length < self._length:
            self._lib.llama_memory_seq_rm(self._lib.llama_get_memory(self._handle), _ONLY_CONVERSATION, length, -1)
        self._length = length

    def grown(self, columns: int) -> "LlamaContext":
        """A context with more room that has read the same; this one is of no use after it."""
        size = self._lib.llama_state_seq_get_size(self._handle, _ONLY_CONVERSATION)
        state = (ctypes.c_uint8 * size)()
        self._lib.llama_state_seq_get_data(self._handle, state, size, _ONLY_CONVERSATION)
        self._end()
        larger = LlamaContext(self.model, columns, threads=self._threads)
        if self._length and not self._lib.llama_state_seq_set_data(larger._handle, state, size, _ONLY_CONVERSATION):
            raise GenerationError("llama.cpp could not move a conversation to where there is more room; ask again.")
        larger._length = self._length
        return larger

    def read_ids(self, ids: Sequence[int]) -> None:
        """Read tokens by their ids."""
        self._read(np.asarray(ids, np.int32))

    def read_embeds(self, embeds: NDArray[np.float32]) -> None:
        """Read (T, E), what stands in the place of words."""
        self._read(np.ascontiguousarray(embeds, np.float32))

    def _read(self, what: NDArray[Any]) -> None:
        assert self._length + len(what) <= self.capacity
        for start in range(0, len(what), AT_ONCE):
            self._read_at_once(what[start : start + AT_ONCE])

    def _read_at_once(self, what: NDArray[Any]) -> None:
        new = len(what)
        batch = self._lib.llama_batch_init(new, 0 if what.ndim == 1 else what.shape[1], 1)
        try:
            batch.n_tokens = new
            given = batch.token if what.ndim == 1 else batch.embd
            np.ctypeslib.as_array(given, what.shape)[:] = what
            np.ctypeslib.as_array(batch.pos, (new,))[:] = np.arange(self._length, self._length + new)
            np.ctypeslib.as_array(batch.n_seq_id, (new,))[:] = 1
            np.ctypeslib.as_array(batch.logits, (new,))[:] = np.arange(new) == new - 1
            for at in range(new):
                batch.seq_id[at][0] = _ONLY_CONVERSATION
            status = self._lib.llama_decode(self._handle, batch)
        finally:
            self._lib.llama_batch_free(batch)
        if status:
            raise GenerationError(f"llama.cpp stopped while reading (status {status}); ask again.")
        self._length += new

    def scores(self) -> Scores:
        """(V,) of what comes after the last position that was read."""
        last = self._lib.llama_get_logits_ith(self._handle, -1)
        return np.ctypeslib.as_array(last, (self.model.vocabulary,)).astype(np.float32)  # a copy: it writes there again


# --- a trial, in a process of its own ---


def trial(model: LlamaModel, ids: Sequence[int], embeds: NDArray[np.float32]) -> list[list[float]]:
    """Scores after ids, embeddings and ids; and once more after something else was read, forgotten, and moved."""
    context = model.new_context(64, threads=1)
    context.read_ids(ids)
    context.read_embeds(embeds)
    context.read_ids(ids)
    first = context.scores()
    context.length = len(ids)
    context = context.grown(128)
    context.read_embeds(embeds)
    context.read_ids(ids)
    return [first.tolist(), context.scores().tolist()]


def main() -> None:
    """Try the GGUF file that is named, with the ids and embeddings that are piped in; scores go into the second file."""
    asked = json.load(sys.stdin)
    scores = trial(LlamaModel(Path(sys.argv[1])), asked["ids"], np.array(asked["embeds"], np.float32))
    Path(sys.argv[2]).write_text(json.dumps(scores))
