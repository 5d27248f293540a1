"""What a picture's file holds beside its pixels, and of which kind it is: decided by bytes, with no decoder."""

import struct
import zlib
from collections.abc import Iterator

from PIL import Image

ORIENTATION = 0x0112  # the EXIF tag that says how a picture is turned
MOST_PROFILE = 1024**2  # bytes of a colour profile, unpacked
PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8"
_EXIF = b"Exif\0\0"
_PROFILE = b"ICC_PROFILE\0"
# What Pillow raises on EXIF that is damaged.
_UNREADABLE = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError, struct.error)
_START_OF_SCAN = 0xDA
_BARE_MARKERS = {0x01, *range(0xD0, 0xD8)}  # of JPEG: nothing belongs to them
# First bytes of pictures, drawings and films of other kinds than are opened.
_OTHER_KINDS = (
    b"%!PS", b"\xc5\xd0\xd3\xc6", b"%PDF",  # PostScript, PDF
    b"8BPS", b"gimp xcf", b"\x8aMNG", b"\x8bJNG",  # Photoshop, GIMP, MNG, JNG
    b"\x00\x00\x01\x00", b"\x00\x00\x02\x00", b"icns",  # icons, cursors
    b"\x00\x00\x00\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51",  # JPEG 2000, and its bare stream
    b"\x00\x00\x00\x0cJXL \r\n\x87\n", b"\xff\x0a",  # JPEG XL, and its bare stream
    b"II*\x00\x10\x00\x00\x00CR", b"FUJIFILMCCD-RAW", b"IIU\x00", b"IIRO", b"IIRS", b"MMOR", b"\x00MRM", b"FOVb",  # raw
    b"v/1\x01", b"#?RADIANCE", b"#?RGBE", b"DDS ", b"qoif", b"FLIF", b"BPG\xfb", b"AT&TFORM",  # EXR, HDR, ...
    b"P1\n", b"P2\n", b"P3\n", b"P4\n", b"P5\n", b"P6\n", b"P7\n", b"\x01\xda", b"Y\xa6j\x95",  # netpbm, SGI, Sun
    b"\xd7\xcd\xc6\x9a", b"SIMPLE  =", b"\x1aE\xdf\xa3",  # WMF, FITS, Matroska
)  # fmt: skip
# What HEIF and AVIF say that they are where films say "isom"; and a file that is cut off there.
_PICTURE_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis", b"")
_MARKUP = 4096  # bytes in which a drawing in XML says that it is one


def is_other_kind(data: bytes) -> bool:
    """Whether a file that is not opened is a picture, drawing or film all the same."""
    if data.startswith(_OTHER_KINDS) or (data[4:8] == b"ftyp" and data[8:12].lower() not in _PICTURE_BRANDS):
        return True
    text = data[:_MARKUP].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return text.startswith(b"<?xml") or (text.startswith(b"<") and b"<svg" in text)


def with_pixels_alone(data: bytes) -> bytes | None:
    """A PNG or JPEG without what is not needed to draw it, however that is damaged: texts, times, previews, how it would
    move. Its orientation and a colour profile of up to 1 MiB stay where they can be read. None for other kinds."""
    if data.startswith(PNG):
        return PNG + b"".join(_png_chunks(data))
    if data.startswith(JPEG):
        return JPEG + b"".join(_jpeg_segments(data))
    return None


def _png_chunks(data: bytes) -> Iterator[bytes]:
    position = len(PNG)
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        kind = data[position + 4 : position + 8]
        whole = data[position : position + 12 + length]
        body, sound = whole[8:-4], whole[-4:] == struct.pack(">I", zlib.crc32(whole[4:-4]))
        if kind[:1].isupper() or kind == b"tRNS" or (kind == b"iCCP" and sound and _unpacks(body)):
            yield whole
        elif kind == b"eXIf" and (exif := _orientation_alone(body)):
            chunk = b"eXIf" + exif
            yield struct.pack(">I", len(exif)) + chunk + struct.pack(">I", zlib.crc32(chunk))
        position += 12 + length


def _unpacks(profile: bytes) -> bool:
    """profile: a name, its end, the method of packing, and the packed profile."""
    unpacking = zlib.decompressobj()
    try:
        unpacking.decompress(profile[profile.index(b"\0") + 2 :], MOST_PROFILE)
    except (ValueError, zlib.error):
        return False
    return unpacking.eof


def _jpeg_segments(data: bytes) -> Iterator[bytes]:
    position = len(JPEG)
    while position + 4 <= len(data) and data[position] == 0xFF and data[position + 1] != _START_OF_SCAN:
        marker = data[position + 1]
        if marker == 0xFF or marker in _BARE_MARKERS:  # fill bytes
            position += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        whole = data[position : position + 2 + length]
        body = whole[4:]
        if marker == 0xE1 and body.startswith(_EXIF):
            if exif := _orientation_alone(body.removeprefix(_EXIF)):
                yield b"\xff\xe1" + struct.pack(">H", 2 + len(_EXIF) + len(exif)) + _EXIF + exif
        elif not (0xE1 <= marker <= 0xED or marker == 0xFE) or (marker == 0xE2 and body.startswith(_PROFILE)):
            yield whole  # the frame, its tables, JFIF's and Adobe's notes of how colours are coded
        position += 2 + length
    yield data[position:]


def _orientation_alone(exif: bytes) -> bytes:
    """EXIF that says how the picture is turned and nothing else; nothing where it is not turned, or cannot be read."""
    found, alone = Image.Exif(), Image.Exif()
    try:
        found.load(_EXIF + exif)
        turned = found.get(ORIENTATION)
    except _UNREADABLE:
        return b""
    if turned not in range(2, 9):
        return b""
    alone[ORIENTATION] = turned
    return alone.tobytes().removeprefix(_EXIF)
