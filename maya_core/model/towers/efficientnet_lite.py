"""EfficientNet-Lite (Google, 2020; EfficientNet, arXiv 1905.11946, without squeeze-and-excitation and with ReLU6):
ImageNet's 1,000 classes, quick on a CPU.

Batch norms are part of the convolutions before them: a folder of weights has none.

Shape letters: I pictures, C channels, H and W pixels or cells, D features.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu6

from maya_core.model.towers.base import Colours

MEAN: Colours = (127 / 255,) * 3
STD: Colours = (128 / 255,) * 3
WIDTH, DEPTH = 1.1, 1.2  # of Lite2: by which channels and blocks of a stage are multiplied
FEATURES = 1280
_STEM = 32  # channels after the first layer
# (times wider inside, kernel, stride, channels, blocks) of each stage, before it is scaled
_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


class EfficientNetLite(nn.Module):
    """The network without its classifier: (I, 3, H, W) -> (I, D, H / 32, W / 32)."""

    def __init__(self, *, width: float = WIDTH, depth: float = DEPTH, features: int = FEATURES) -> None:
        super().__init__()
        self.stem = _Convolution(3, _STEM, kernel=3, stride=2)
        blocks = list(_blocks(width, depth))
        self.blocks = nn.ModuleList(blocks)
        self.head = _Convolution(blocks[-1].project.convolution.out_channels, features, kernel=1)

    def forward(self, pixel_values_ICHW: Tensor) -> Tensor:
        """Pixels are (value / 255 - MEAN) / STD."""
        cells_ICHW = self.stem(pixel_values_ICHW)
        for block in self.blocks:
            cells_ICHW = block(cells_ICHW)
        looks_IDHW: Tensor = self.head(cells_ICHW)
        return looks_IDHW


class _Convolution(nn.Module):
    """A convolution as TensorFlow pads it (more on the right and below), and ReLU6 where it is active."""

    def __init__(
        self, into: int, out: int, *, kernel: int, stride: int = 1, groups: int = 1, is_active: bool = True
    ) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(into, out, kernel, stride, groups=groups)
        self.is_active = is_active

    def forward(self, cells_ICHW: Tensor) -> Tensor:
        kernel, stride = self.convolution.kernel_size[0], self.convolution.stride[0]
        if kernel > 1:
            height, width = (
                max(0, (math.ceil(side / stride) - 1) * stride + kernel - side) for side in cells_ICHW.shape[-2:]
            )
            cells_ICHW = pad(cells_ICHW, (width // 2, width - width // 2, height // 2, height - height // 2))
        cells_ICHW = self.convolution(cells_ICHW)
        return relu6(cells_ICHW) if self.is_active else cells_ICHW


class _Block(nn.Module):
    """Wider, each channel with its neighbours, narrow again; what came in is added where the shapes allow it."""

    def __init__(self, into: int, out: int, *, wider: int, kernel: int, stride: int) -> None:
        super().__init__()
        inside = into * wider
        self.expand = _Convolution(into, inside, kernel=1) if wider > 1 else nn.Identity()
        self.depthwise = _Convolution(inside, inside, kernel=kernel, stride=stride, groups=inside)
        self.project = _Convolution(inside, out, kernel=1, is_active=False)
        self.adds = stride == 1 and into == out

    def forward(self, cells_ICHW: Tensor) -> Tensor:
        made: Tensor = self.project(self.depthwise(self.expand(cells_ICHW)))
        return made + cells_ICHW if self.adds else made


def _blocks(width: float, depth: float) -> Iterator[_Block]:
    into = _STEM
    for stage, (wider, kernel, stride, channels, blocks) in enumerate(_STAGES):
        out = _scaled(channels, width)
        is_scaled = 0 < stage < len(_STAGES) - 1
        for number in range(math.ceil(blocks * depth) if is_scaled else blocks):
            yield _Block(into, out, wider=wider, kernel=kernel, stride=1 if number else stride)
            into = out


def _scaled(channels: int, width: float, step: int = 8) -> int:
    """The nearest multiple of `step`, but not less than nine tenths of what was asked for."""
    wanted = channels * width
    nearest = max(step, int(wanted + step / 2) // step * step)
    return nearest + step if nearest < 0.9 * wanted else nearest


def folded(convolution: Tensor, norm: dict[str, Tensor], eps: float = 1e-3) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution that does what one without bias and the batch norm behind it do.

    norm: its weight, bias, running_mean and running_var.
    """
    scale = norm["weight"] / torch.sqrt(norm["running_var"] + eps)
    return convolution * scale[:, None, None, None], norm["bias"] - norm["running_mean"] * scale
