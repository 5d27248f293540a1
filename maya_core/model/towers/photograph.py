"""The photograph tower: what an EfficientNet-Lite2 and a NanoDet-g see, brought to one grid and put side by side, and what
both forget: the colours that lie there, and where it is.

A cell says what its surroundings look like (1,280 features, of which ImageNet's 1,000 classes are a linear function), which
of COCO's classes have a part there, and of each of its four quarters which have their middle there, how large that thing
is, and the colour; at last the cell's own place. Behind the cells may stand the picture as a whole, then its nine parts, for
what lies across some cells is told best by their mean; and then the things that were found, the surest of each class first,
each as a cell that holds it for certain and looks like nothing: who looks for one need not tell apart what lies in the same
cell, and what is small does not drown in the look of its surroundings. The surest of a class also tells how sure the next
ones are, for attention, which is a mean, does not count.

Shape letters: I pictures, C channels, H and W pixels, h and w cells, K classes, P cells, N things, F those that follow the
surest of a class, D vision width.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d, pixel_unshuffle
from transformers import PreTrainedModel

from maya_core.model.config import THIRDS, PhotographTowerConfig
from maya_core.model.towers.base import Colours
from maya_core.model.towers.efficientnet_lite import FEATURES, MEAN, STD, EfficientNetLite
from maya_core.model.towers.nanodet import CLASSES, Found, NanoDet, found

SIZES = 2  # width and height of a thing, in shares of the picture's
FINER = 2  # quarters of a cell, each way
COLOURS = 3
PLACES = 2  # of a cell's middle, across and down: -1 to 1
# Of a cell: which of COCO's classes have a part there; which have their middle in each of its quarters; each quarter's red,
# green and blue, -1 to 1; and of the surest of a class, how sure the next ones are.
PARTS = slice(FEATURES, FEATURES + CLASSES)
MIDDLES = slice(PARTS.stop, PARTS.stop + FINER**2 * CLASSES)
TONES = slice(-PLACES - FINER**2 * COLOURS, -PLACES)
FOLLOWING = slice(MIDDLES.stop + FINER**2 * SIZES, TONES.start)
NOTICED, FAINT = 0.25, 0.1  # least score of a thing that its cell tells, and that stands behind the cells


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
        least = FAINT if self.config.most_things else NOTICED
        # one thing after the other, which is the CPU's work
        told_by_picture = [found(list(one), least=least) for one in zip(*(seen.cpu() for seen in maps), strict=True)]
        things_ICHW = torch.stack([_things(told, quarters, pixel_values_ICHW.shape) for told in told_by_picture])
        things_ICHW = things_ICHW.to(pixel_values_ICHW)
        colours_ICHW = adaptive_avg_pool2d(2 * shares_ICHW - 1, quarters)
        things_IChw, colours_IChw = (pixel_unshuffle(finer_ICHW, FINER) for finer_ICHW in (things_ICHW, colours_ICHW))
        nothing_IFhw = looks_IChw.new_zeros(len(looks_IChw), self.following, *cells)
        seen_IDhw = torch.cat(
            [looks_IChw, parts_IKhw, things_IChw, nothing_IFhw, colours_IChw, _places(looks_IChw, cells)], dim=1
        )
        cells_IPD = seen_IDhw.flatten(2).transpose(1, 2)
        if not self.config.most_things:
            return cells_IPD
        pairs = zip(told_by_picture, cells_IPD.cpu(), strict=True)
        behind_IND = torch.stack([self._behind(told, cells_PD, cells) for told, cells_PD in pairs])
        return torch.cat([cells_IPD, behind_IND.to(cells_IPD)], dim=1)

    def _behind(self, told: Found, cells_PD: Tensor, cells: tuple[int, int]) -> Tensor:
        """(OVERVIEWS + most_things, D): the overviews; what was found; then zeros."""
        things_ND = cells_PD.new_zeros(len(told.scores_N), cells_PD.shape[1])
        told = Found(*(each.detach() for each in told))
        side = cells_PD.new_tensor([cells[1], cells[0], cells[1], cells[0]]) * self.config.patch_size
        for number, (score, kind, box_4) in enumerate(zip(*told, strict=True)):
            left, top, right, bottom = (box_4 / side).clamp(0, 1).tolist()
            things_ND[number] = as_cell(cells_PD, cells, int(kind), float(score), (left, top, right, bottom))
        return torch.cat([overviews(cells_PD, cells), in_order(things_ND, self.config.most_things)])

    @property
    def following(self) -> int:
        """Of how many things that follow the surest of a class it is told how sure they are."""
        return self.config.hidden_size + FOLLOWING.stop - FOLLOWING.start

    def forward(self, pixel_values: Tensor, **_: Any) -> Tensor:
        """(I, C, H, W) -> (I, P, D)."""
        return self.features(pixel_values, layers=self.config.num_hidden_layers)

    @classmethod
    def own_name(cls, stored: str) -> str | None:
        return stored


def _things(told: Found, quarters: tuple[int, int], pixels: torch.Size) -> Tensor:
    """(K + sizes, *quarters): at the middle of each thing that was found its class's score, and its size."""
    height, width = pixels[-2:]
    is_noticed_N = told.scores_N >= NOTICED
    scores_N, classes_N, boxes_N4 = (each[is_noticed_N] for each in told)
    things_CHW = scores_N.new_zeros(CLASSES + SIZES, *quarters)
    for score, kind, (left, top, right, bottom) in zip(
        scores_N.flip(0), classes_N.flip(0), boxes_N4.flip(0), strict=True
    ):
        row = int(((top + bottom) / 2 / height * quarters[0]).clamp(0, quarters[0] - 1))
        column = int(((left + right) / 2 / width * quarters[1]).clamp(0, quarters[1] - 1))
        things_CHW[kind, row, column] = score  # the likeliest is written last
        things_CHW[CLASSES:, row, column] = torch.stack([(right - left) / width, (bottom - top) / height])
    return things_CHW


def as_cell(
    cells_PD: Tensor, cells: tuple[int, int], kind: int, score: float, box: tuple[float, float, float, float]
) -> Tensor:
    """(D,): a cell with one thing and nothing else: a part of its class for certain, without a look; where a cell tells what
    has its middle there, the score and size; the mean colour of the cells whose middle lies in its box (left, top, right,
    bottom in shares of the picture); and the box's middle for a place."""
    height, width = cells
    left, top, right, bottom = box
    x, y = (left + right) / 2, (top + bottom) / 2
    thing_D = cells_PD.new_zeros(cells_PD.shape[1])
    thing_D[FEATURES + kind] = 1
    row, column = (min(FINER * side - 1, int(FINER * side * share)) for side, share in ((height, y), (width, x)))
    tell(thing_D, row, column, kind, score, (right - left, bottom - top))
    thing_D[TONES] = _colours(cells_PD[cells_in(cells, box)])
    thing_D[-PLACES:] = cells_PD.new_tensor([2 * x - 1, 2 * y - 1])
    return thing_D


def in_order(things_ND: Tensor, most: int) -> Tensor:
    """(most, D): of things as `as_cell` tells them the surest of each class, with how sure the next ones of its class are;
    then all others; both the surer first; then zeros. Rows of zeros are no things."""
    scores_N, kinds = things_ND[:, MIDDLES].amax(1), things_ND[:, PARTS].argmax(1).tolist()
    by_score = [number for number in scores_N.argsort(descending=True, stable=True).tolist() if scores_N[number] > 0]
    by_kind: dict[int, list[int]] = {}
    for number in by_score:
        by_kind.setdefault(kinds[number], []).append(number)
    told_ND = things_ND.new_zeros(most, things_ND.shape[1])
    surest = [numbers[0] for numbers in by_kind.values()]
    ordered = [*surest, *(number for number in by_score if number not in surest)][:most]
    told_ND[: len(ordered)] = things_ND[ordered]
    told_ND[:, FOLLOWING] = 0
    for row, (_, *following) in zip(range(most), by_kind.values(), strict=False):
        row_F = told_ND[row, FOLLOWING]
        row_F[: len(following)] = scores_N[following[: len(row_F)]]
    return told_ND


def overviews(cells_PD: Tensor, cells: tuple[int, int]) -> Tensor:
    """(OVERVIEWS, D): a picture as a cell in its middle, with the mean of all looks and colours, not what was found; then
    each of its nine parts alike, row by row."""
    cells_DHW = cells_PD.T.reshape(-1, *cells)
    views = []
    for parts in (1, THIRDS):
        view_Dhw = cells_PD.new_zeros(cells_PD.shape[1], parts, parts)
        view_Dhw[:FEATURES] = adaptive_avg_pool2d(cells_DHW[:FEATURES], parts)
        quarters_CQhw = adaptive_avg_pool2d(cells_DHW[TONES], parts).reshape(COLOURS, FINER**2, parts, parts)
        view_Dhw[TONES] = quarters_CQhw.mean(1).repeat_interleave(FINER**2, dim=0)
        view_Dhw[-PLACES:] = _places(view_Dhw[None], (parts, parts))[0]
        views.append(view_Dhw.flatten(1).T)
    return torch.cat(views)


def _colours(cells_PD: Tensor) -> Tensor:
    """The mean colour of cells, for each quarter of a cell."""
    colours_PCQ = cells_PD[:, TONES].reshape(-1, COLOURS, FINER**2)
    return colours_PCQ.mean((0, 2)).repeat_interleave(FINER**2)


def tell(cell_D: Tensor, row: int, column: int, kind: int, score: float, sizes: tuple[float, float]) -> None:
    """Into a cell, that a thing of a class has its middle in a quarter (its row and column among all quarters of the
    picture), and its width and height."""
    quarters = FINER**2
    first = FEATURES + CLASSES + row % FINER * FINER + column % FINER
    for place, value in ((kind, score), *enumerate(sizes, start=CLASSES)):
        cell_D[first + quarters * place] = value


def cells_in(cells: tuple[int, int], box: tuple[float, float, float, float]) -> Tensor:
    """(P,) true for cells whose middle lies in a box, and for the one that holds the box's own middle."""
    height, width = cells
    left, top, right, bottom = box
    down_h, across_w = ((torch.arange(side) + 0.5) / side for side in cells)
    inside_hw = ((down_h >= top) & (down_h <= bottom))[:, None] & ((across_w >= left) & (across_w <= right))
    row, column = int(height * (top + bottom) / 2), int(width * (left + right) / 2)
    inside_hw[min(height - 1, max(0, row)), min(width - 1, max(0, column))] = True
    return inside_hw.flatten()


def _places(cells_IChw: Tensor, cells: tuple[int, int]) -> Tensor:
    """(I, 2, h, w): each cell's middle, across and down."""
    down_h, across_w = ((2 * torch.arange(side) + 1) / side - 1 for side in cells)
    places_Chw = torch.stack([across_w.expand(cells), down_h[:, None].expand(cells)])
    return places_Chw.to(cells_IChw).expand(len(cells_IChw), -1, -1, -1)
