"""What computes an answer: Maya's own decoder, or llama.cpp where that is the faster; and whether it is sound here.

Measured at the published size, a token on one core: with AVX512-BF16 ours 236 ms and llama.cpp 272; on AVX2, the layers
alone, ours 1144 and llama.cpp 419. On NVIDIA's cards ours leads; Apple's GPU, and those that Vulkan reaches, are
llama.cpp's alone.
"""

import json
import subprocess
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch

from maya_core.answering.decoder import Decoder
from maya_core.apart import apart
from maya_core.hardware import Machine
from maya_core.llama import PACKAGE, VERSION, is_installed
from maya_core.model.config import MayaConfig
from maya_core.model.maya import MayaForConditionalGeneration
from maya_core.weights.files import is_gguf
from maya_core.weights.gguf_file import write_language_model
from maya_core.weights.quantization import has_kernel

Why = Literal["plain", "nvidia", "kernel", "absent", "unsound", "llama"]
NEAR = 1e-2  # of the scores of a trial, which are of the size of 1; in 16 bits they differ by a thousandth
PATIENCE = 120.0  # seconds, for the trial

_SENTENCES: dict[Why, str] = {
    "plain": "Maya's own engine answers; the model is not in GGUF.",
    "nvidia": "Maya's own engine answers; on NVIDIA's cards it is the faster.",
    "kernel": "Maya's own engine answers; on a processor with AVX512-BF16 it is the faster.",
    "absent": f"Maya's own engine answers; llama.cpp would be faster here: pip install {PACKAGE}=={VERSION}.",
    "unsound": f"Maya's own engine answers; {PACKAGE} does not compute rightly here: build it anew on this computer.",
    "llama": "llama.cpp answers; it is the faster here.",
}


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What answers, and why."""

    why: Why

    @property
    def is_llama(self) -> bool:
        return self.why == "llama"

    @property
    def falls_back(self) -> bool:
        """Whether llama.cpp would be faster, and something keeps it from answering."""
        return self.why in ("absent", "unsound")

    def __str__(self) -> str:
        return _SENTENCES[self.why]


OWN = Engine(why="plain")


def engine_for(folder: Path, machine: Machine) -> Engine:
    """What answers with the model in a folder."""
    return engine_of_gguf(machine) if is_gguf(folder) else OWN


def engine_of_gguf(machine: Machine) -> Engine:
    """What answers with a model in GGUF. The first time llama.cpp is tried for a second."""
    if machine.device == "cuda":
        return Engine(why="nvidia")
    if machine.device == "cpu" and has_kernel():
        return Engine(why="kernel")
    if not is_installed():
        return Engine(why="absent")
    return Engine(why="llama" if is_sound() else "unsound")


@lru_cache(maxsize=1)
def is_sound() -> bool:
    """Whether llama.cpp reads a small model as we do: what is wrong with a library of machine code shows in scores, or
    ends the process that tries it."""
    model = _small_model()
    ids, embeds_TE = (
        [5, 17, 40, 3],
        torch.randn(3, model.config.text.hidden_size, generator=torch.Generator().manual_seed(1)),
    )
    expected_V = _scores(model, ids, embeds_TE)
    with tempfile.TemporaryDirectory() as place:
        file, told = Path(place) / "small.gguf", Path(place) / "scores.json"
        write_language_model(model.state_dict(), model.config.text, None, file, numbers="f16", name="small")
        asked = json.dumps({"ids": ids, "embeds": embeds_TE.tolist()})
        try:
            tried = subprocess.run(
                apart("from maya_core.llama import main; main()", str(file), str(told)),
                input=asked,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
            found = torch.tensor(json.loads(told.read_text())) if tried.returncode == 0 else None
        except (subprocess.TimeoutExpired, OSError, ValueError):
            found = None
    return found is not None and found.shape[-1] == len(expected_V) and bool(((found - expected_V).abs() < NEAR).all())


def _small_model() -> MayaForConditionalGeneration:
    text = {
        "vocab_size": 64, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 256, "logit_scale": 0.25,
        "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    vision = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "image_size": 16,
    }
    config = MayaConfig(vision_config=vision, text_config=text, image_token_id=63)
    model: MayaForConditionalGeneration = MayaForConditionalGeneration(config).eval()
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.language_model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3, generator=random)
    return model


@torch.inference_mode()
def _scores(model: MayaForConditionalGeneration, ids: list[int], embeds_TE: torch.Tensor) -> torch.Tensor:
    """(V,) after ids, embeddings and ids."""
    words_TE = model.get_input_embeddings()(torch.tensor(ids))
    read_1TE = torch.cat([words_TE, embeds_TE, words_TE])[None]
    decoder = Decoder(model)
    return decoder(read_1TE, torch.arange(read_1TE.shape[1])[None], decoder.new_cache(1))[0]
