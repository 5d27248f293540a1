"""What a resting vision tower sees, kept on the disk: computed once, read in every step after that.

One file a picture, named by its bytes, in a folder named by the tower and by how pictures become pixels: a changed
picture or tower never finds the features of the old one.

Shape letters: I pictures, N patches, D vision width.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from maya_core.errors import DataError, MayaError
from maya_core.learning.data import Batch, SampleDataset
from maya_core.model.images import open_image
from maya_core.model.maya import MayaForConditionalGeneration
from maya_core.model.processor import MayaProcessor
from maya_core.model.prompt import Picture

BATCH = 32  # pictures that the tower sees at one time
Unseen = list[tuple[Path, Tensor]]  # where features belong, and pixels (3, H, W)


@dataclass(frozen=True)
class FeatureStore:
    """Features of pictures, each (N, D) in `dtype`. Workers get a copy: it holds no tensor."""

    folder: Path
    shape: tuple[int, int]
    dtype: torch.dtype

    @classmethod
    def of(
        cls, parent: Path, model: MayaForConditionalGeneration, processor: MayaProcessor, *, dtype: torch.dtype
    ) -> "FeatureStore":
        """The store under `parent` that belongs to this model's tower and this processor's pictures."""
        seen = hashlib.sha256(repr((asdict(processor.preparation), model.vision_layers_read, dtype)).encode())
        for name, tensor in model.vision_tower.state_dict().items():
            seen.update(name.encode())
            seen.update(_bytes(tensor))
        size = processor.preparation.size
        shape = (model.config.patches_kept(size, size), model.config.vision.hidden_size)
        return cls(parent / seen.hexdigest()[:16], shape, dtype)

    def batch(self, pictures: Sequence[Picture]) -> Batch:
        """vision_features (I, N, D). Raises ImageError where a picture cannot be used, DataError where it was never seen."""
        return {"vision_features": torch.stack([self._read(picture) for picture in pictures])}

    def fill(
        self,
        dataset: SampleDataset,
        model: MayaForConditionalGeneration,
        processor: MayaProcessor,
        *,
        workers: int = 0,
        rank: int = 0,
        ranks: int = 1,
        on_done: Callable[[int], None] = lambda samples: None,
    ) -> None:
        """Let the tower see what it has not seen yet of this rank's share of the data set.

        Pictures that cannot be used are passed over; training counts them. on_done hears how many samples are done.
        Raises DataError where the disk has no room for all.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if rank == 0:
            self._check_room(len(dataset))
        device = next(model.vision_tower.parameters()).device
        unseen = _UnseenPictures(dataset, self, processor, range(rank, len(dataset), ranks))
        for number, found in enumerate(DataLoader(unseen, batch_size=None, num_workers=workers), start=1):
            for first in range(0, len(found), BATCH):
                self._see(found[first : first + BATCH], model, device)
            on_done(min(number * BATCH, len(unseen.share)))

    def place(self, picture: Picture) -> Path:
        """The file of a picture's features, whether or not it is there yet."""
        if isinstance(picture, Path):
            try:
                content = picture.read_bytes()
            except OSError:
                content = b""  # told by whoever opens it
        else:
            content = repr(picture.size).encode() + picture.tobytes()
        return self.folder / hashlib.sha256(content).hexdigest()

    def has(self, place: Path) -> bool:
        """Whether features are there, and whole."""
        return place.is_file() and place.stat().st_size == self._size

    @property
    def _size(self) -> int:
        """Bytes of one picture's features."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    def _read(self, picture: Picture) -> Tensor:
        place = self.place(picture)
        if not self.has(place):
            if isinstance(picture, Path):
                open_image(picture)  # says what is wrong with it
            raise DataError("A picture was changed while training ran; start again, and it is looked at anew.")
        return torch.from_file(str(place), size=self.shape[0] * self.shape[1], dtype=self.dtype).view(self.shape)

    def _see(self, found: Unseen, model: MayaForConditionalGeneration, device: torch.device) -> None:
        pixels_ICHW = torch.stack([pixels for _, pixels in found]).to(device)
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            features_IND = model.vision_features(pixels_ICHW).to("cpu", self.dtype)
        for (place, _), features_ND in zip(found, features_IND, strict=True):
            fresh = place.with_suffix(f".{os.getpid()}")
            fresh.write_bytes(_bytes(features_ND))
            os.replace(fresh, place)

    def _check_room(self, samples: int) -> None:
        there = sum(1 for _ in self.folder.iterdir())
        needed, free = max(0, samples - there) * self._size, shutil.disk_usage(self.folder).free
        if needed > free:
            raise DataError(
                f"The features of {samples:,} pictures take {needed / 2**30:.1f} GiB more, and {free / 2**30:.1f} GiB "
                "are free; train without --features, or put that folder on a larger disk."
            )


class _UnseenPictures(Dataset[Unseen]):
    """The pictures of a share of the data set that have no features yet; an item is those of BATCH samples."""

    def __init__(
        self, dataset: SampleDataset, store: FeatureStore, processor: MayaProcessor, share: Sequence[int]
    ) -> None:
        self.dataset, self.store, self.processor, self.share = dataset, store, processor, share

    def __len__(self) -> int:
        return -(-len(self.share) // BATCH)

    def __getitem__(self, item: int) -> Unseen:
        if not 0 <= item < len(self):
            raise IndexError(item)
        found: dict[Path, Tensor] = {}
        for index in self.share[item * BATCH : (item + 1) * BATCH]:
            found |= self._of_sample(index, found)
        return list(found.items())

    def _of_sample(self, index: int, found: dict[Path, Tensor]) -> dict[Path, Tensor]:
        try:
            places = {self.store.place(picture): picture for picture in _pictures(self.dataset[index])}
            return {
                place: self.processor.pixel_values([picture])[0]
                for place, picture in places.items()
                if place not in found and not self.store.has(place)
            }
        except MayaError:
            return {}


def _pictures(sample: object) -> Iterator[Picture]:
    for message in getattr(sample, "messages", ()):
        yield from message.images


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
