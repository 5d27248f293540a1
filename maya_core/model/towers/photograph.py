"""The photograph tower: what an EfficientNet-Lite2 and a NanoDet-g see, brought to one grid and put side by side, and what
both forget: the colours that lie there, and where it is.

A cell says what its surroundings look like (1,280 features, of which ImageNet's 1,000 classes are a linear function), which
of COCO's classes have a part there, and of each of its four quarters which have their middle there, how large that thing
is, and the colour; at last the cell's own place.

Shape letters: I pictures, C channels, H and W pixels, h and w cells, K classes, P cells, D vision width.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d, pixel_unshuffle
from transformers import PreTrainedModel

from maya_core.model.config import PhotographTowerConfig
from maya_core.model.towers.base import Colours
from maya_core.model.towers.efficientnet_lite import MEAN, STD, EfficientNetLite
from maya_core.model.towers.nanodet import CLASSES, NanoDet, found

SIZES = 2  # width and height of a thing, in shares of the picture's
FINER = 2  # quarters of a cell, each way
PLACES = 2  # of a cell's middle, across and down: -1 to 1


class PhotographTower(PreTrainedModel):
    """Both networks on the same pixels."""

    config_class = PhotographTowerConfig
    config: PhotographTowerConfig
    main_input_name = "pixel_values"
    mean: ClassVar[Colours] = MEAN
    std: ClassVar[Colours] = STD

    def __init__(self, config: PhotographTowerConfig) -> None:
        super().__init__(config)
        self.classifier = EfficientNetLite()
        self.detector = NanoDet()
        self.post_init()

    def features(self, pixel_values_ICHW: Tensor, *, layers: int) -> Tensor:
        assert layers == self.config.num_hidden_layers, "a photograph tower is read at its last layer"
        height, width = (side // self.config.patch_size for side in pixel_values_ICHW.shape[-2:])
        pixel_values_ICHW = pixel_values_ICHW.contiguous(
            memory_format=torch.channels_last
        )  # three times as fast on a CPU
        cells, quarters = (height, width), (FINER * height, FINER * width)
        looks_IChw = adaptive_avg_pool2d(self.classifier(pixel_values_ICHW), cells)
        shares_ICHW = pixel_values_ICHW * self.std[0] + self.mean[0]  # 0 to 1
        maps = self.detector(255 * shares_ICHW.flip(1))
        parts_IKhw = torch.stack(
            [adaptive_max_pool2d(seen_ICHW[:, :CLASSES].sigmoid(), cells) for seen_ICHW in maps]
        ).amax(0)
        things_ICHW = torch.stack([_things(one, quarters, pixel_values_ICHW.shape) for one in zip(*maps, strict=True)])
        colours_ICHW = adaptive_avg_pool2d(2 * shares_ICHW - 1, quarters)
        finer_ICHW = torch.cat([things_ICHW, colours_ICHW], dim=1)
        seen_IDhw = torch.cat(
            [looks_IChw, parts_IKhw, pixel_unshuffle(finer_ICHW, FINER), _places(looks_IChw, cells)], dim=1
        )
        return seen_IDhw.flatten(2).transpose(1, 2)

    def forward(self, pixel_values: Tensor, **_: Any) -> Tensor:
        """(I, C, H, W) -> (I, P, D)."""
        return self.features(pixel_values, layers=self.config.num_hidden_layers)

    @classmethod
    def own_name(cls, stored: str) -> str | None:
        return stored


def _things(maps_CHW: tuple[Tensor, ...], quarters: tuple[int, int], pixels: torch.Size) -> Tensor:
    """(K + sizes, *quarters): at the middle of each thing that was found its class's score, and its size."""
    height, width = pixels[-2:]
    scores_N, classes_N, boxes_N4 = found(list(maps_CHW))
    things_CHW = scores_N.new_zeros(CLASSES + SIZES, *quarters)
    for score, kind, (left, top, right, bottom) in zip(
        scores_N.flip(0), classes_N.flip(0), boxes_N4.flip(0), strict=True
    ):
        row = int(((top + bottom) / 2 / height * quarters[0]).clamp(0, quarters[0] - 1))
        column = int(((left + right) / 2 / width * quarters[1]).clamp(0, quarters[1] - 1))
        things_CHW[kind, row, column] = score  # the likeliest is written last
        things_CHW[CLASSES:, row, column] = torch.stack([(right - left) / width, (bottom - top) / height])
    return things_CHW


def _places(cells_IChw: Tensor, cells: tuple[int, int]) -> Tensor:
    """(I, 2, h, w): each cell's middle, across and down."""
    down_h, across_w = ((2 * torch.arange(side) + 1) / side - 1 for side in cells)
    places_Chw = torch.stack([across_w.expand(cells), down_h[:, None].expand(cells)])
    return places_Chw.to(cells_IChw).expand(len(cells_IChw), -1, -1, -1)
