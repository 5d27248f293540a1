"""Colours as a viewer shows them: from the space that a picture's profile names to sRGB."""

import io
from typing import Any

from PIL import Image, ImageCms

_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}  # of a mode's colours, as profiles call them


def to_srgb(picture: Image.Image) -> Image.Image:
    """The picture in sRGB by its embedded profile; as it is where it has none, or one that is sRGB's, is broken, or does
    not fit. Transparency stays."""
    profile = _profile(picture)
    if profile is None:
        return picture
    if picture.has_transparency_data and picture.mode != "RGBA":
        picture = picture.convert("RGBA")
    alpha = picture.getchannel("A") if picture.mode == "RGBA" else None
    colours = picture if picture.mode in _SPACES else picture.convert("RGB")
    if profile.profile.xcolor_space.strip() != _SPACES[colours.mode]:
        return picture
    try:
        converted = ImageCms.profileToProfile(
            colours, profile, ImageCms.createProfile("sRGB"), ImageCms.Intent.PERCEPTUAL, outputMode="RGB"
        )
    except (ImageCms.PyCMSError, ValueError):
        return picture
    assert converted is not None
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def _profile(picture: Image.Image) -> Any:
    """The profile, where colours are to be changed by it."""
    embedded = picture.info.get("icc_profile")
    if not embedded or picture.mode.startswith("I") or picture.mode in ("1", "F"):
        return None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(embedded))
        name = ImageCms.getProfileDescription(profile)
    except (ImageCms.PyCMSError, OSError):
        return None
    return None if "srgb" in name.lower() else profile
