"""The photograph tower: what an EfficientNet-Lite2 and a NanoDet-g see, brought to one grid and put side by side, and the
colours that lie there, which both forget.

A cell says what its surroundings look like (1,280 features, of which ImageNet's 1,000 classes are a linear function), which
of COCO's classes have a part there, which have their middle there, how large that thing is, and what colours it has.

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
FINER = 2  # cells of colour in a cell, each way


class PhotographTower(PreTrainedModel):
    """Both networks on the same pixels."""

    config_class = PhotographTowerConfig
    config: PhotographTowerConfig
    main_input_name = "pixel_values"
    _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = [r"^imagenet\."]
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
        cells = (height, width)
        looks_IPD = self.classifier(pixel_values_ICHW)
        colours_ICHW = pixel_values_ICHW * self.std[0] + self.mean[0]  # 0 to 1
        maps = self.detector(255 * colours_ICHW.flip(1))
        parts_IKhw = torch.stack(
            [adaptive_max_pool2d(seen_ICHW[:, :CLASSES].sigmoid(), cells) for seen_ICHW in maps]
        ).amax(0)
        things_IChw = torch.stack([self._things(one, cells) for one in zip(*maps, strict=True)])
        finer_ICHW = adaptive_avg_pool2d(2 * colours_ICHW - 1, (FINER * height, FINER * width))
        beside_IChw = torch.cat([parts_IKhw, things_IChw, pixel_unshuffle(finer_ICHW, FINER)], dim=1)
        return torch.cat([looks_IPD, beside_IChw.flatten(2).transpose(1, 2)], dim=2)

    def _things(self, maps_CHW: tuple[Tensor, ...], cells: tuple[int, int]) -> Tensor:
        """(K + sizes, h, w): at the middle of each thing that was found its class's score, and its size."""
        height, width = (side * self.config.patch_size for side in cells)
        scores_N, classes_N, boxes_N4 = found(list(maps_CHW))
        things_Chw = scores_N.new_zeros(CLASSES + SIZES, *cells)
        for score, kind, (left, top, right, bottom) in zip(
            scores_N.flip(0), classes_N.flip(0), boxes_N4.flip(0), strict=True
        ):
            row = int(((top + bottom) / 2 / height * cells[0]).clamp(0, cells[0] - 1))
            column = int(((left + right) / 2 / width * cells[1]).clamp(0, cells[1] - 1))
            things_Chw[kind, row, column] = score  # the likeliest is written last
            things_Chw[CLASSES:, row, column] = torch.stack([(right - left) / width, (bottom - top) / height])
        return things_Chw

    def forward(self, pixel_values: Tensor, **_: Any) -> Tensor:
        """(I, C, H, W) -> (I, P, D)."""
        return self.features(pixel_values, layers=self.config.num_hidden_layers)

    @classmethod
    def own_name(cls, stored: str) -> str | None:
        return None if stored.startswith("imagenet.") else stored
