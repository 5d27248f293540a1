"""Pictures as people have them: turned, deep, transparent, huge, broken, or no pictures at all (rows 53 to 61)."""

import ast
import io
import struct
import subprocess
import sys
import time
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageDraw

from maya_core.apart import apart
from maya_core.errors import (
    ImageAnimated,
    ImageError,
    ImageShapeUnsupported,
    ImageTooLarge,
    ImageTypeUnsupported,
    ImageUnreadable,
    MayaError,
)
from maya_core.model import images
from maya_core.model.images import check_image, open_image, open_image_apart, pad_to_square, resize_padded

ROOT = Path(__file__).parents[3]
PICTURES = ROOT / "tests" / "fixtures" / "pictures"
FORMATS = ["AVIF", "BMP", "GIF", "HEIF", "JPEG", "PNG", "TIFF", "WEBP"]


def photo(size=(96, 64)) -> Image.Image:
    """Smooth, not symmetric, in colour."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    channels = [x / width * 255, y / height * 255, (x + y) / (width + height) * 255]
    picture = Image.fromarray(np.stack(channels, -1).astype(np.uint8))
    ImageDraw.Draw(picture).ellipse((8, 8, 30, 24), fill=(250, 40, 40))
    return picture


def encoded(picture: Image.Image, file_format: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **options)
    return buffer.getvalue()


def difference(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).mean())


@pytest.mark.parametrize("file_format", FORMATS)
def test_each_format_opens_as_rgb(file_format):
    opened = open_image(encoded(photo(), file_format))
    assert opened.mode == "RGB"
    assert opened.size == (96, 64)
    assert difference(opened, photo()) < 6


def test_path_bytes_and_file_give_the_same(tmp_path):
    data = encoded(photo(), "PNG")
    file = tmp_path / "no-suffix"
    file.write_bytes(data)
    pictures = [open_image(file), open_image(str(file)), open_image(data), open_image(io.BytesIO(data))]
    assert len({picture.tobytes() for picture in pictures}) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_eight_orientations_come_out_upright(orientation):
    stored = {
        1: lambda p: p,
        2: lambda p: p.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda p: p.transpose(Image.Transpose.ROTATE_180),
        4: lambda p: p.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda p: p.transpose(Image.Transpose.TRANSPOSE),
        6: lambda p: p.transpose(Image.Transpose.ROTATE_90),
        7: lambda p: p.transpose(Image.Transpose.TRANSVERSE),
        8: lambda p: p.transpose(Image.Transpose.ROTATE_270),
    }[orientation](photo())
    exif = Image.Exif()
    exif[0x0112] = orientation
    opened = open_image(encoded(stored, "PNG", exif=exif))
    assert opened.size == (96, 64)
    assert np.abs(np.asarray(opened, int) - np.asarray(photo(), int)).max() <= 2


def test_sixteen_bits_look_like_eight():
    grey = photo().convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    for file_format in ("PNG", "TIFF"):
        assert difference(open_image(encoded(deep, file_format)), grey.convert("RGB")) <= 2


@pytest.mark.parametrize(("mode", "most"), [("CMYK", 8), ("P", 40), ("RGBA", 2), ("LA", 60), ("1", 130)])
def test_modes_come_out_as_the_same_picture(mode, most):
    picture = photo().convert(mode)
    file_format = "TIFF" if mode == "CMYK" else "PNG"
    opened = open_image(encoded(picture, file_format))
    assert difference(opened, picture.convert("RGB")) <= 2
    assert difference(opened, photo()) <= most


def test_transparency_lies_on_white():
    logo = Image.new("RGBA", (20, 20), (200, 0, 0, 0))
    logo.paste((0, 0, 200, 255), (5, 5, 15, 15))
    opened = open_image(encoded(logo, "PNG"))
    assert opened.getpixel((0, 0)) == (255, 255, 255)
    assert opened.getpixel((10, 10)) == (0, 0, 200)
    palette = Image.new("P", (20, 20), 0)
    palette.putpalette([9, 9, 9, 1, 2, 3])
    assert open_image(encoded(palette, "GIF", transparency=0)).getpixel((3, 3)) == (255, 255, 255)


def test_metadata_does_not_survive():
    exif = Image.Exif()
    exif[0x010E] = "31.52, 74.35"
    opened = open_image(encoded(photo(), "JPEG", exif=exif, comment=b"a secret", icc_profile=b"icc" * 50))
    again = encoded(opened, "JPEG")
    assert b"74.35" not in again
    assert b"secret" not in again
    assert opened.info == {}


@pytest.mark.parametrize("file", sorted((PICTURES / "metadata").iterdir()), ids=lambda file: file.name)
def test_damaged_metadata_are_left_aside(file):
    opened = open_image(file)
    assert sorted(opened.size) == [48, 64]
    check_image(file)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_what_is_beside_the_pixels_takes_neither_the_turn_nor_the_colours_with_it(file_format):
    profile = (PICTURES / "colour" / "icc-p3.png").read_bytes()
    profile = Image.open(io.BytesIO(profile)).info["icc_profile"]
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "somewhere"
    whole = encoded(
        photo(), file_format, exif=exif, icc_profile=profile, **({"quality": 95} if file_format == "JPEG" else {})
    )
    if file_format == "PNG":
        damaged = whole[:33] + struct.pack(">I", 4) + b"tEXta\0bc" + b"\0\0\0\0" + whole[33:]  # of a wrong sum
    else:
        damaged = whole[:2] + b"\xff\xe2" + struct.pack(">H", 20) + b"MPF\0" + b"\xff" * 14 + whole[2:]
    opened, expected = open_image(damaged), open_image(whole)
    assert opened.size == expected.size == (64, 96)
    assert difference(opened, expected) == 0
    assert difference(expected, photo().transpose(Image.Transpose.ROTATE_270)) > 3  # the colours were changed


def test_a_picture_that_is_cut_off_is_refused_with_damaged_metadata_too():
    data = (PICTURES / "metadata" / "png-bad-crc-text.png").read_bytes()
    with pytest.raises(ImageUnreadable):
        open_image(data[: len(data) - 40])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
@pytest.mark.parametrize("name", ["icc-adobergb.png", "icc-p3.png"])
def test_colours_are_those_that_a_viewer_shows(name, mode):
    with Image.open(PICTURES / "colour" / name) as stored:
        profile = stored.info["icc_profile"]
        picture = stored.quantize() if mode == "P" else stored.convert(mode)
    opened = open_image(encoded(picture, "PNG", icc_profile=profile))
    assert np.abs(np.asarray(opened.getpixel((9, 9)), int) - (20, 140, 60)).max() <= 4
    assert opened.info == {}


def test_transparency_stays_where_colours_are_changed():
    with Image.open(PICTURES / "colour" / "icc-p3.png") as stored:
        profile, picture = stored.info["icc_profile"], stored.convert("RGBA")
    picture.putalpha(0)
    assert open_image(encoded(picture, "PNG", icc_profile=profile)).getpixel((3, 3)) == (255, 255, 255)


@pytest.mark.parametrize("profile", [b"no profile", b"\0" * 200])
def test_a_broken_profile_and_one_of_other_colours_are_left_aside(profile):
    assert difference(open_image(encoded(photo(), "PNG", icc_profile=profile)), photo()) == 0
    grey = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert difference(open_image(encoded(photo(), "PNG", icc_profile=grey)), photo()) == 0


def test_a_telephones_pictures_are_upright_and_a_burst_is_its_first_picture():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert open_image(encoded(photo(), "AVIF", exif=exif)).size == (64, 96)
    burst = encoded(photo(), "HEIF", save_all=True, append_images=[Image.new("RGB", (96, 64))])
    assert difference(open_image(burst), photo()) < 6


def chunk(kind: bytes, body: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_header(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def moving(file_format: str, frames: int = 3) -> bytes:
    shades = [Image.new("RGB", (8, 8), (80 * n % 255, 0, 0)) for n in range(frames)]
    return encoded(shades[0], file_format, save_all=True, append_images=shades[1:])


GIF_BOMB = b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\x80\x00\x00" + b"\0" * 6 + b"," + b"\0" * 9 + b"\x02\0;"
BAD_FILES = {
    "empty": (b"", ImageUnreadable),
    "text": (b"this is no picture", ImageUnreadable),
    "html": (b"<html><img src=x></html>", ImageUnreadable),
    "zeros": (bytes(4096), ImageUnreadable),
    "png signature alone": (b"\x89PNG\r\n\x1a\n", ImageUnreadable),
    "png without pixels": (png_header(16, 16), ImageUnreadable),
    "zip": (b"PK\x03\x04" + bytes(100), ImageUnreadable),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", ImageTypeUnsupported),
    "pdf": (b"%PDF-1.7\n", ImageTypeUnsupported),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", ImageTypeUnsupported),
    "heic without a picture": (b"\x00\x00\x00\x18ftypheic" + bytes(64), ImageUnreadable),
    "film": (b"\x00\x00\x00\x18ftypisom" + bytes(64), ImageTypeUnsupported),
    "avif that moves": (moving("AVIF"), ImageAnimated),
    "icon": (b"\x00\x00\x01\x00\x01\x00" + bytes(64), ImageTypeUnsupported),
    "psd": (b"8BPS\x00\x01" + bytes(64), ImageTypeUnsupported),
    "float": (encoded(Image.new("F", (8, 8), 0.5), "TIFF"), ImageTypeUnsupported),
    "png 9400 a side": (png_header(9400, 9400), ImageTooLarge),
    "png 13000 a side": (png_header(13000, 13000), ImageTooLarge),
    "png 2**31 a side": (png_header(2**31 - 1, 2**31 - 1), ImageTooLarge),
    "png zero wide": (png_header(0, 9), ImageUnreadable),
    "gif of 35 bytes": (GIF_BOMB, ImageTooLarge),
    "too many bytes": (encoded(photo(), "PNG") + bytes(21 * 1024**2), ImageTooLarge),
    "strip": (png_header(5100, 100), ImageShapeUnsupported),
    "tower": (png_header(100, 5100), ImageShapeUnsupported),
    "long strip": (png_header(20001, 1000), ImageTooLarge),
    "gif that moves": (moving("GIF"), ImageAnimated),
    "webp that moves": (moving("WEBP"), ImageAnimated),
    "png that moves": (moving("PNG"), ImageAnimated),
    "tiff of pages": (moving("TIFF"), ImageAnimated),
    **{file.name: (file.read_bytes(), ImageTypeUnsupported) for file in sorted((PICTURES / "kinds").iterdir())},
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_refused_by_class_and_at_once(name):
    data, expected = BAD_FILES[name]
    started = time.perf_counter()
    with pytest.raises(MayaError) as caught:
        open_image(data)
    assert type(caught.value) is expected
    assert time.perf_counter() - started < 1
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert not any(word in sentence for word in ("Traceback", "Error", "PIL", "/tmp", "object at"))


def png_with(kind: bytes, body: bytes) -> bytes:
    """A good PNG with one more chunk behind its header."""
    good = encoded(photo(), "PNG")
    return good[:33] + chunk(kind, body) + good[33:]


BOMBS = {
    "text": png_with(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200 * 1024**2))),
    "profile": png_with(b"iCCP", b"icc\0\0" + zlib.compress(bytes(200 * 1024**2))),
    "pixels": png_header(13000, 13000),
    "gif": GIF_BOMB,
    "frames": moving("GIF", 500),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_that_unpacks_to_a_large_one_takes_neither_time_nor_memory(tmp_path, name):
    """In a process of its own, whose largest size is the file's doing alone. 0.2 seconds without other work beside it."""
    file = tmp_path / "bomb"
    file.write_bytes(BOMBS[name])
    program = """
import resource, sys, time
from contextlib import suppress
from maya_core.errors import ImageError
from maya_core.model.images import open_image
from tests.maya_core.model.test_images import encoded, photo
open_image(encoded(photo(), "PNG")), open_image(encoded(photo(), "GIF"))
before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
with suppress(ImageError):
    open_image(sys.argv[1])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, time.perf_counter() - started)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    kilobytes, seconds = map(float, ran.stdout.split())
    assert kilobytes <= 50 * 1024
    assert seconds <= 1


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_a_cut_file_is_refused(file_format, share):
    data = encoded(photo(), file_format)
    with pytest.raises(ImageUnreadable):
        open_image(data[: int(len(data) * share)])


@pytest.mark.parametrize("name", [name for name in BAD_FILES if name != "png without pixels"])
def test_the_header_is_refused_as_the_whole_file_is(tmp_path, name):
    data, expected = BAD_FILES[name]
    (tmp_path / "picture").write_bytes(data)
    with pytest.raises(expected):
        check_image(tmp_path / "picture")


def test_a_header_is_enough_where_it_is_good(tmp_path, monkeypatch):
    (tmp_path / "picture").write_bytes(encoded(photo(), "JPEG")[:-200])
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("a pixel was decoded"))
    check_image(tmp_path / "picture")
    with pytest.raises(ImageUnreadable):
        check_image(tmp_path / "no picture")


def test_a_name_that_cannot_be_opened():
    for name in ("no/such/file.png", "https://example.org/cat.png", "x\0y", ".", "x" * 5000):
        with pytest.raises(ImageUnreadable):
            open_image(name)


def test_a_large_jpeg_of_a_telephone_opens_small():
    opened = open_image(encoded(Image.new("RGB", (8064, 6048), (10, 120, 200)), "JPEG"))
    assert 2048 <= max(opened.size) < 8064
    assert opened.getpixel((5, 5))[2] > 150
    with pytest.raises(ImageTooLarge):
        open_image(encoded(Image.new("RGB", (8064, 6048)), "JPEG", progressive=True))


def test_a_polyglot_comes_out_as_pixels_alone():
    opened = open_image(encoded(photo(), "JPEG") + b"PK\x03\x04<script>alert(1)</script>")
    assert b"script" not in encoded(opened, "PNG")


@settings(max_examples=200, derandomize=True, deadline=None)
@given(
    st.sampled_from(FORMATS),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_a_good_file_with_wrong_bytes_gives_a_picture_or_an_image_error(file_format, edits):
    data = bytearray(encoded(photo(), file_format))
    for where, value in edits:
        data[int(where * (len(data) - 1))] = value
    with suppress(ImageError):  # any other exception fails
        opened = open_image(bytes(data))
        assert opened.mode == "RGB"
        assert opened.tobytes() == open_image(bytes(data)).tobytes()


@given(
    st.binary(max_size=300),
    st.sampled_from(
        [
            b"",
            b"\x89PNG\r\n\x1a\n",
            b"GIF89a",
            b"\xff\xd8\xff",
            b"BM",
            b"II*\x00",
            b"RIFF",
            b"\0\0\0\x18ftypheic",
            b"\0\0\0\x18ftypavif",
        ]
    ),
)
def test_any_bytes_give_a_picture_or_an_image_error(body, start):
    with suppress(ImageError):  # any other exception fails
        assert open_image(start + body).mode == "RGB"


def test_padding_puts_the_picture_in_the_middle():
    square = pad_to_square(Image.new("RGB", (10, 5), (0, 0, 0)))
    assert square.size == (10, 10)
    assert [square.getpixel((0, row)) == (0, 0, 0) for row in range(10)] == [False] * 2 + [True] * 5 + [False] * 3
    assert square.getpixel((0, 0)) == (127, 127, 127)


@pytest.mark.parametrize(
    "size", [(1000, 3), (3, 1000), (256, 255), (255, 256), (256, 256), (7, 5), (641, 480), (480, 641)]
)
@pytest.mark.parametrize("resample", [Image.Resampling.BICUBIC, Image.Resampling.BILINEAR, Image.Resampling.LANCZOS])
def test_a_padded_picture_is_resized_to_the_same_bytes_by_the_shorter_way(size, resample):
    noise = np.random.default_rng(0).integers(0, 256, (*reversed(size), 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    whole = pad_to_square(picture).resize((256, 256), resample)
    assert resize_padded(picture, 256, resample).tobytes() == whole.tobytes()


def test_only_one_place_opens_pictures():
    """Sprites, which the project made itself, are the exception."""
    allowed = {"maya_core/model/images.py", "training/emoji_vqa/vocabulary.py"}
    callers = set()
    for package in ("app", "maya_core", "training"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.Attribute) and ast.unparse(node) == "Image.open":
                    callers.add(file.relative_to(ROOT).as_posix())
    assert callers <= allowed
    assert images.__name__.replace(".", "/") + ".py" in callers


def test_a_picture_decoded_apart_is_the_same_or_refused_alike(tmp_path):
    file = tmp_path / "noise.png"
    Image.effect_noise((300, 200), 80).convert("RGB").save(file)
    assert open_image_apart(file, longest_side=2048).tobytes() == open_image(file).tobytes()
    assert open_image_apart(file, longest_side=150).size == (150, 100)
    for wrong, kind in ((b"no picture", ImageUnreadable), (b"%PDF-1.7", ImageTypeUnsupported)):
        with pytest.raises(kind) as apart:
            open_image_apart(wrong, longest_side=2048)
        with pytest.raises(kind) as here:
            open_image(wrong)
        assert str(apart.value) == str(here.value)


def test_what_lies_in_the_folder_is_not_run_and_what_others_print_is_not_the_picture(tmp_path, monkeypatch):
    picture = encoded(photo(), "PNG")
    (tmp_path / "struct.py").write_text("raise SystemExit('run')")
    (tmp_path / "PIL.py").write_text("raise SystemExit('run')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["", *sys.path])
    monkeypatch.setattr(images, "_CHILD", f"print('hello', flush=True); {images._CHILD}; print('bye')")
    assert open_image_apart(picture, longest_side=2048).tobytes() == open_image(picture).tobytes()
    with pytest.raises(ImageTypeUnsupported):
        open_image_apart(b"%PDF-1.7", longest_side=2048)


def test_limits_that_a_system_does_not_take_are_left_aside():
    refusing = "import resource; resource.setrlimit = lambda *_: (_ for _ in ()).throw(ValueError('as macOS says'))"
    command = apart(f"{refusing}; {images._CHILD}", "2048", "ab" * 16)
    done = subprocess.run(command, input=encoded(photo(), "PNG"), capture_output=True, check=False)
    assert (done.returncode, done.stdout[:16]) == (0, b"\xab" * 16), done.stderr


@pytest.mark.parametrize(
    "fault",
    ["import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "while True: pass", "bytearray(4 * 1024**3)"],
    ids=["crash", "endless", "memory"],
)
def test_a_decoder_that_breaks_takes_nothing_with_it(monkeypatch, fault):
    start, run = images._CHILD.rsplit("; ", 1)
    broken = (
        f"import PIL.PngImagePlugin as png\ndef broken(*_, **__):\n    {fault}\npng.PngImageFile.load_prepare = broken"
    )
    monkeypatch.setattr(images, "_CHILD", f"{start}\n{broken}\n{run}")
    monkeypatch.setattr(images, "MOST_SECONDS", 2)
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    with pytest.raises((ImageUnreadable, ImageTooLarge)):
        open_image_apart(buffer.getvalue(), longest_side=2048)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "I;16", "1", "CMYK"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_the_largest_picture_that_is_taken_fits_into_the_memory_there(mode, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    transparent = {"transparency": 0} if mode == "P" else {}
    file_format = "TIFF" if mode == "CMYK" else "PNG"
    compressed = {"compression": "tiff_deflate"} if mode == "CMYK" else {"compress_level": 1}
    data = encoded(Image.new(mode, (8000, 5000)), file_format, exif=exif, **transparent, **compressed)
    upright = (2048, 1280) if orientation == 1 else (1280, 2048)
    assert open_image_apart(data, longest_side=2048).size == upright
