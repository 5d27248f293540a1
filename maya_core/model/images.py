"""The one place that opens a picture. What comes out is RGB, upright, of bounded size, with nothing but its pixels.

Everything is decided by the file's first bytes and header, never by its name, and before a pixel is decoded.
"""

import io
import os
import secrets
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NoReturn, TypeVar

import numpy as np
import pillow_heif
from PIL import Image, ImageOps, UnidentifiedImageError

from maya_core.apart import apart
from maya_core.errors import (
    FileMissing,
    ImageAnimated,
    ImageError,
    ImageShapeUnsupported,
    ImageTooLarge,
    ImageTypeUnsupported,
    ImageUnreadable,
)
from maya_core.model.colour import to_srgb
from maya_core.model.picture_file import is_other_kind, with_pixels_alone

FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "PNG", "TIFF", "WEBP")
MOST_BYTES = 20 * 1024 * 1024
MOST_PIXELS = 40_000_000
MOST_JPEG_PIXELS = 89_000_000  # a baseline JPEG can be decoded at a smaller scale; above this Pillow itself warns
LONGEST_SIDE = 20_000  # px
MOST_LONGER = 50  # times, the long side of the short one
HEAD_BYTES = 4096  # in which a file says of which kind it is
DRAFT_SIDE = 2048  # px; a large JPEG is decoded at the smallest scale that is not below this
MOST_SECONDS = 10  # of a processor, for decoding a picture in a process of its own
LONGEST_WAIT = 3  # times that, where the processors have other work
MOST_MEMORY = 1024**3  # bytes, there
GREY = (127, 127, 127)  # SigLIP's mean of 0.5, as upstream pads
WHITE = (255, 255, 255)

# What Pillow's decoders raise on damaged files.
_DAMAGED = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    OverflowError,
    RuntimeError,
    struct.error,
    zlib.error,
    Warning,
)
_KINDS = (ImageAnimated, ImageShapeUnsupported, ImageTooLarge, ImageTypeUnsupported, ImageUnreadable)
_REFUSED = 3  # exit status of the process that decodes, where it says why
_SIZE = "!II"
_CHILD = "from maya_core.model import images; images._decode_for_parent()"
_BOMBS = (Image.DecompressionBombWarning, Image.DecompressionBombError)
# Of a file whose metadata alone are damaged, what is left is tried once more.
_PERHAPS_METADATA = (UnidentifiedImageError, *_DAMAGED)
# The first of several pictures is the picture: a camera's JPEG has a preview or a second view behind it, a telephone's HEIF
# a burst.
_FIRST_OF_SEVERAL = ("MPO", "HEIF")

pillow_heif.register_heif_opener(thumbnails=False)

_Used = TypeVar("_Used")
_Source = TypeVar("_Source")


def open_image(source: str | Path | bytes | BinaryIO) -> Image.Image:
    """A picture from a path, its bytes or an open file, as sRGB: turned upright by EXIF, transparency on white.

    Damaged metadata are left aside. Raises an ImageError whose class says what is wrong; the message names limits and
    figures, never the file's content.
    """
    data = _read(source)
    with _pillow_errors(data):
        return _despite_metadata(_decode, io.BytesIO(data))


def _despite_metadata(use: Callable[[BinaryIO], _Used], file: BinaryIO) -> _Used:
    """What is made of a picture's file, or where that fails of its pixels alone."""
    try:
        return use(file)
    except _PERHAPS_METADATA:
        file.seek(0)
        alone = with_pixels_alone(file.read())
        if alone is None:
            raise
        return use(io.BytesIO(alone))


def _decode(file: BinaryIO) -> Image.Image:
    with Image.open(file, formats=FORMATS) as picture:
        _check_header(picture)
        if picture.format in ("JPEG", "MPO"):
            picture.draft("RGB", (DRAFT_SIDE, DRAFT_SIDE))
        picture.load()
        with suppress(*_DAMAGED):
            ImageOps.exif_transpose(picture, in_place=True)
        return as_rgb(to_srgb(picture))


def of_each(open_one: Callable[[_Source], _Used], sources: Sequence[_Source]) -> list[_Used]:
    """`open_one` of each; where there are several, an ImageError says which of the files it is about."""
    opened = []
    for source in sources:
        try:
            opened.append(open_one(source))
        except ImageError as error:
            if len(sources) > 1 and isinstance(source, str | Path):
                error.name = Path(source).name
            raise
    return opened


def open_image_apart(source: str | Path | bytes, *, longest_side: int) -> Image.Image:
    """As `open_image`, and made smaller where a side is longer than `longest_side` px; but decoded in a process of its
    own, with bounded memory and time: a decoder that crashes or never ends takes nothing with it."""
    data = _read(source)
    mark = secrets.token_bytes(16)  # before what is meant for us
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            apart(_CHILD, str(longest_side), mark.hex()),
            input=data,
            capture_output=True,
            env=environment,
            timeout=LONGEST_WAIT * MOST_SECONDS,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        raise ImageUnreadable("The picture takes too long to read; export or download it again.") from None
    kinds = {kind.__name__: kind for kind in _KINDS}
    if done.returncode == _REFUSED:
        name, _, message = done.stdout.rpartition(mark)[2].decode().partition("\n")
        raise kinds[name](message)
    if done.returncode:
        raise ImageUnreadable("The picture is damaged; export or download it again.")
    said = done.stdout.partition(mark)[2]
    width, height = struct.unpack_from(_SIZE, said)
    start = struct.calcsize(_SIZE)
    return Image.frombytes("RGB", (width, height), said[start : start + 3 * width * height])


def _decode_for_parent() -> None:
    """The child of `open_image_apart`: a file on standard input, size and pixels on standard output."""
    if sys.platform != "win32":
        import resource

        for limit, most in (
            (resource.RLIMIT_AS, MOST_MEMORY),
            (resource.RLIMIT_CPU, MOST_SECONDS),
            (resource.RLIMIT_CORE, 0),
        ):
            with suppress(ValueError, OSError):  # macOS knows them but does not take each
                resource.setrlimit(limit, (most, most))
    longest_side, mark = int(sys.argv[1]), bytes.fromhex(sys.argv[2])
    try:
        picture = open_image(sys.stdin.buffer)
    except ImageError as error:
        _refuse(mark, type(error), str(error))
    except MemoryError:
        _refuse(mark, ImageTooLarge, "The picture takes too much memory; save it smaller.")
    picture.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS)
    sys.stdout.buffer.write(mark + struct.pack(_SIZE, *picture.size) + picture.tobytes())


def _refuse(mark: bytes, kind: type[ImageError], message: str) -> NoReturn:
    sys.stdout.buffer.write(mark + f"{kind.__name__}\n{message}".encode())
    sys.stdout.buffer.flush()
    sys.exit(_REFUSED)


def check_image(path: Path) -> None:
    """Raise what `open_image` would raise by the file's size and header alone; no pixel is decoded, so damage behind the
    header goes unseen."""
    with _opened(path) as file:
        _check_size(os.fstat(file.fileno()).st_size)
        head = file.read(HEAD_BYTES)
        file.seek(0)
        with _pillow_errors(head):
            _despite_metadata(_check_file, file)


def _check_file(file: BinaryIO) -> None:
    with Image.open(file, formats=FORMATS) as picture:
        _check_header(picture)


def pad_to_square(image: Image.Image, colour: tuple[int, int, int] = GREY) -> Image.Image:
    """The picture in the middle of a square of its longer side; an odd pixel goes to the right or the bottom."""
    width, height = image.size
    if width == height:
        return image
    side = max(width, height)
    square = Image.new("RGB", (side, side), colour)
    square.paste(image, ((side - width) // 2, (side - height) // 2))
    return square


def resize_padded(image: Image.Image, side: int, resample: Image.Resampling) -> Image.Image:
    """As `pad_to_square` and then `resize`, bit for bit. Pillow resizes rows before columns, and of a wide picture's square
    only its own rows need that."""
    width, height = image.size
    if width <= height:
        return pad_to_square(image).resize((side, side), resample)
    narrow = image.resize((side, height), resample)
    square = Image.new("RGB", (side, width), GREY)
    square.paste(narrow, (0, (width - height) // 2))
    return square.resize((side, side), resample)


def _read(source: str | Path | bytes | BinaryIO) -> bytes:
    if isinstance(source, bytes):
        data = source
    elif isinstance(source, str | Path):
        data = _read_file(Path(source))
    elif not hasattr(source, "read"):
        raise ImageTypeUnsupported(
            f"A picture to open was given as {type(source).__name__}; give a path, its bytes or an open file."
        )
    else:
        data = source.read(MOST_BYTES + 1)
    _check_size(len(data))
    return data


def _check_size(size: int) -> None:
    if not size:
        raise ImageUnreadable("The file is empty; choose another picture.")
    if size > MOST_BYTES:
        raise ImageTooLarge(f"The file has more than {MOST_BYTES // 1024**2} MB; save the picture smaller.")


def _read_file(path: Path) -> bytes:
    with _opened(path) as file:
        return file.read(MOST_BYTES + 1)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            yield file
    except (OSError, ValueError):  # ValueError: a NUL in the name
        raise FileMissing("There is no file of this name that can be read; check the path.") from None


@contextmanager
def _pillow_errors(data: bytes) -> Iterator[None]:
    """Pillow's exceptions and warnings as ours."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except UnidentifiedImageError:
        if is_other_kind(data):
            raise ImageTypeUnsupported(f"This kind of picture is not opened; save it as one of {_known()}.") from None
        raise ImageUnreadable(f"The file is not a picture that can be read; choose one of {_known()}.") from None
    except _BOMBS:
        raise ImageTooLarge(
            f"The picture has more than {MOST_JPEG_PIXELS // 10**6} million pixels; save it with at most "
            f"{MOST_PIXELS // 10**6} million."
        ) from None
    except _DAMAGED:
        raise ImageUnreadable("The picture is damaged or cut off; export or download it again.") from None


def _known() -> str:
    return ", ".join(FORMATS)


def _check_header(picture: Image.Image) -> None:
    if picture.mode == "F":
        raise ImageTypeUnsupported("The picture holds measurements instead of colours; save it with 8 or 16 bits.")
    width, height = picture.size
    pixels = width * height
    baseline_jpeg = picture.format in ("JPEG", "MPO") and not picture.info.get("progressive")
    most = MOST_JPEG_PIXELS if baseline_jpeg else MOST_PIXELS
    if pixels > most or max(width, height) > LONGEST_SIDE:
        raise ImageTooLarge(
            f"The picture is {width} x {height} pixels; at most {most // 10**6} million and {LONGEST_SIDE} a side are taken."
        )
    if max(width, height) > MOST_LONGER * min(width, height):
        raise ImageShapeUnsupported(
            f"The picture is {width} x {height} pixels, more than {MOST_LONGER} times longer than wide; cut out a part."
        )
    if picture.format not in _FIRST_OF_SEVERAL and getattr(picture, "is_animated", False):
        raise ImageAnimated("The picture moves or has several pages; save one of them as a picture of its own.")


def as_rgb(picture: Image.Image) -> Image.Image:
    """A new picture without metadata. At most two are held beside the one that came: they may be large."""
    if picture.mode.startswith("I"):
        rgb = _from_16_bit(picture)
    elif picture.has_transparency_data:
        layers = picture if picture.mode == "RGBA" else picture.convert("RGBA")
        rgb = Image.new("RGB", picture.size, WHITE)
        rgb.paste(layers, mask=layers.getchannel("A"))
    else:
        rgb = picture.convert("RGB")
    rgb.info.clear()
    return rgb


def _from_16_bit(picture: Image.Image) -> Image.Image:
    """Grey of 16 bits to 8, by scale and rounded; Pillow's own conversion would cut off all above 255."""
    values = np.asarray(picture).astype(np.int32)
    values += 128
    values //= 257
    np.clip(values, 0, 255, out=values)
    return Image.fromarray(values.astype(np.uint8)).convert("RGB")
