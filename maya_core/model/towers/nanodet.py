"""NanoDet-g (github.com/RangiLyu/nanodet, Apache-2.0): COCO's 80 kinds of things and their boxes, quick on a CPU.

A CSP backbone, a path-aggregation neck at strides 8, 16 and 32, and a head that gives at every place a score a class and,
for each side of the box, a distribution over how many strides away it is (generalized focal loss, arXiv 2006.04388).

Shape letters: I pictures, C channels, H and W pixels or places, K classes, N boxes.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu, max_pool2d

CLASSES = 80
STRIDES = (8, 16, 32)
SIDES, DISTANCES = 4, 11  # a box's sides; 0 to 10 strides away
MEAN, STD = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)  # of blue, green and red in 0 to 255


class NanoDet(nn.Module):
    """Batch norms are part of the convolutions before them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Convolution(3, 32, stride=2)
        self.stages = nn.ModuleList([_Stage(32, 1, strides=False), _Stage(64, 2), _Stage(128, 2), _Stage(256, 3)])
        self.lateral = nn.ModuleList(nn.Conv2d(channels, 128, 1) for channels in (128, 256, 512))
        self.heads = nn.ModuleList(
            nn.Sequential(_Convolution(128, 128), nn.Conv2d(128, CLASSES + SIDES * DISTANCES, 1)) for _ in STRIDES
        )

    def forward(self, blue_green_red_ICHW: Tensor) -> list[Tensor]:
        """(I, 3, H, W) in 0 to 255 -> for each stride (I, K + sides * distances, H / stride, W / stride), as logits."""
        mean_CHW, std_CHW = (blue_green_red_ICHW.new_tensor(values)[:, None, None] for values in (MEAN, STD))
        seen = max_pool2d(self.stem((blue_green_red_ICHW - mean_CHW) / std_CHW), 3, stride=2, padding=1)
        maps = []
        for stage in self.stages:
            seen = stage(seen)
            maps.append(seen)
        small, middle, large = (layer(seen) for layer, seen in zip(self.lateral, maps[1:], strict=True))
        middle = middle + _resized(large, middle)
        small = small + _resized(middle, small)
        middle = middle + _resized(small, middle)
        large = large + _resized(middle, large)
        return [head(seen) for head, seen in zip(self.heads, (small, middle, large), strict=True)]


class Found(NamedTuple):
    """What is in one picture. scores_N: likeliest first; classes_N; boxes_N4: left, top, right, bottom in px."""

    scores_N: Tensor
    classes_N: Tensor
    boxes_N4: Tensor


def found(maps_CHW: list[Tensor], *, least: float = 0.25, most: int = 40, overlap: float = 0.6) -> Found:
    """The things of one picture, from its maps at every stride: boxes of a class that share more than `overlap` are one."""
    scores, classes, boxes = [], [], []
    for stride, map_CHW in zip(STRIDES, maps_CHW, strict=True):
        scores_HWK = map_CHW[:CLASSES].sigmoid().permute(1, 2, 0)
        row_N, column_N, class_N = torch.nonzero(scores_HWK >= least, as_tuple=True)
        sides = map_CHW[CLASSES:].view(SIDES, DISTANCES, *map_CHW.shape[1:])[:, :, row_N, column_N].softmax(1)
        distances = torch.arange(DISTANCES, dtype=sides.dtype, device=sides.device)
        left, top, right, bottom = torch.einsum("sdn,d->sn", sides, distances) * stride
        x, y = (column_N + 0.5) * stride, (row_N + 0.5) * stride
        scores.append(scores_HWK[row_N, column_N, class_N])
        classes.append(class_N)
        boxes.append(torch.stack([x - left, y - top, x + right, y + bottom], dim=1))
    scores_N, classes_N, boxes_N4 = torch.cat(scores), torch.cat(classes), torch.cat(boxes)
    order_N = scores_N.argsort(descending=True, stable=True)[: 8 * most]
    kept_N = order_N[_not_the_same(boxes_N4[order_N], classes_N[order_N], overlap)][:most]
    return Found(scores_N[kept_N], classes_N[kept_N], boxes_N4[kept_N])


def _not_the_same(boxes_N4: Tensor, classes_N: Tensor, overlap: float) -> Tensor:
    """(N,) true for boxes that no likelier one of their class, which is kept, covers."""
    corners = (
        torch.maximum(boxes_N4[:, None, :2], boxes_N4[None, :, :2]),
        torch.minimum(boxes_N4[:, None, 2:], boxes_N4[None, :, 2:]),
    )
    shared_NN = (corners[1] - corners[0]).clamp(min=0).prod(-1)
    area_N = (boxes_N4[:, 2:] - boxes_N4[:, :2]).clamp(min=0).prod(-1)
    union_NN = (area_N[:, None] + area_N[None] - shared_NN).clamp(min=1e-6)
    same_NN = (shared_NN / union_NN > overlap) & (classes_N[:, None] == classes_N[None])
    kept_N = torch.ones(len(boxes_N4), dtype=torch.bool, device=boxes_N4.device)
    for number in range(1, len(boxes_N4)):
        kept_N[number] = not (same_NN[number, :number] & kept_N[:number]).any()
    return kept_N


class _Convolution(nn.Module):
    """3 x 3, and a leaky ReLU."""

    def __init__(self, into: int, out: int, *, stride: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(into, out, 3, stride, padding=1)

    def forward(self, seen_ICHW: Tensor) -> Tensor:
        return leaky_relu(self.convolution(seen_ICHW), 0.1)


class _Stage(nn.Module):
    """Halves of the channels, one made of the other, side by side; then what came in beside what came of it."""

    def __init__(self, channels: int, pairs: int, *, strides: bool = True) -> None:
        super().__init__()
        half = channels // 2
        self.first = _Convolution(channels, channels, stride=2 if strides else 1)
        self.pairs = nn.ModuleList(
            nn.ModuleList([_Convolution(channels, half), _Convolution(half, half)]) for _ in range(pairs)
        )
        self.last = _Convolution(channels, channels)

    def forward(self, seen_ICHW: Tensor) -> Tensor:
        came = made = self.first(seen_ICHW)
        for pair in self.pairs:
            assert isinstance(pair, nn.ModuleList)
            half = pair[0](made)
            made = torch.cat([pair[1](half), half], dim=1)
        return torch.cat([self.last(made), came], dim=1)


def _resized(seen_ICHW: Tensor, like_ICHW: Tensor) -> Tensor:
    return interpolate(seen_ICHW, size=like_ICHW.shape[-2:], mode="bilinear", align_corners=False)
