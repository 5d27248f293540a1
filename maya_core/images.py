"""The one place that opens a picture. What comes out is RGB, upright, of bounded size, with nothing but its pixels."""

from PIL import Image

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
MOST_BYTES = 20 * 1024 * 1024
MOST_PIXELS = 40_000_000
LONGEST_SIDE = 20_000  # px
MOST_LONGER = 50  # times, the long side of the short one
GREY = (127, 127, 127)  # SigLIP's mean, as the published model pads


def pad_to_square(image: Image.Image, colour: tuple[int, int, int] = GREY) -> Image.Image:
    """The picture in the middle of a square of its longer side; an odd pixel goes to the right or the bottom."""
    width, height = image.size
    if width == height:
        return image
    side = max(width, height)
    square = Image.new("RGB", (side, side), colour)
    square.paste(image, ((side - width) // 2, (side - height) // 2))
    return square
