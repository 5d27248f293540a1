"""The things that EmojiVQA knows: drawings from two vendors, names from Unicode CLDR in ten languages.

`build` makes `assets/emoji/` from npm packages (see that folder's README); everything else reads the result.
"""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from maya_core.assets import asset_path
from maya_core.languages import CODES
from training.scoring import normalise

VENDORS = {"noto": "emoji-datasource-google/img/google/64", "twemoji": "emoji-datasource-twitter/img/twitter/64"}
SPRITE = 64  # px
COLUMNS = 20
MOST_CONCEPTS = 320
LONGEST_NAME = 18  # characters
MOST_WORDS = 3
LEAST_DIFFERENCE = 15.0  # mean absolute difference of two drawings of the same vendor, of 255

CATEGORIES: Mapping[str, Sequence[str]] = {
    "animal": ("animal-mammal", "animal-bird", "animal-amphibian", "animal-reptile", "animal-marine", "animal-bug"),
    "plant": ("plant-flower", "plant-other"),
    "food": ("food-fruit", "food-vegetable", "food-prepared", "food-asian", "food-sweet"),
    "drink": ("drink",),
    "vehicle": ("transport-ground", "transport-air", "transport-water"),
    "place": ("place-building", "place-geographic", "place-religious", "place-other"),
    "weather": ("sky & weather",),
    "clothing": ("clothing",),
    "instrument": ("musical-instrument",),
    "play": ("sport", "game"),
    "object": ("tool", "household", "office", "writing", "science", "medical", "lock", "light & video", "computer",
             "phone", "music", "sound", "book-paper", "mail", "time", "dishware", "hotel", "event", "award-medal",
             "arts & crafts", "money", "other-object", "place-map"),
}  # fmt: skip
_CATEGORY_OF = {sub: category for category, subs in CATEGORIES.items() for sub in subs}

# Filed by Unicode under a heading that a person would not use for the thing itself.
_MISFILED = {
    "fuelpump", "busstop", "vertical_traffic_light", "traffic_light", "construction", "railway_track", "wheel",
    "motorway", "rotating_light", "oil_drum", "ring_buoy", "seat", "anchor", "feather", "wing", "feet", "spider_web",
    "shell", "brick", "rock", "wood", "salt", "thermometer", "microbe", "empty_nest", "nest_with_eggs", "baby_bottle",
    "foggy", "bridge_at_night", "night_with_stars", "city_sunset", "barber", "coral", "tanabata_tree", "bamboo",
    "parachute", "jigsaw", "mushroom", "octagonal_sign", "world_map", "canned_food", "crown", "lipstick", "ring", "gem",
}  # fmt: skip

# Everyday things that are taken whatever the length of their names; the others stand in line, shortest names first.
_EVERYDAY = {
    "apple", "lion_face", "soccer", "cheese_wedge", "cake", "coffee", "tv", "camera", "hamburger", "star", "helicopter",
    "unicorn_face", "motor_scooter", "corn", "lock", "iphone", "cherry_blossom", "ladybug", "croissant", "saxophone",
    "boat", "auto_rickshaw", "hippopotamus", "crescent_moon", "microphone", "beer", "hindu_temple", "ice_cream",
}  # fmt: skip

# Names of CLDR 48.2 that say something else than the drawing, or that fall together with another name.
CORRECTIONS: Mapping[str, Mapping[str, str]] = {
    "house": {"bn": "বাড়ি"},
    "droplet": {"hi": "बूँद"},
    "sloth": {"hi": "स्लॉथ"},
    "rooster": {"ur": "مرغا"},
    "chicken": {"ur": "مرغی", "bn": "মুরগি"},
    "broccoli": {"bn": "ব্রোকলি"},
    "swan": {"ar": "بجعة"},
    "tiger2": {"hi": "बाघ"},
    "tulip": {"ur": "ٹیولپ"},
    "apple": {"hi": "लाल सेब"},
    "green_apple": {"hi": "हरा सेब"},
    "fire": {"bn": "আগুন"},
}


@dataclass(frozen=True, kw_only=True)
class Concept:
    """One thing. id: short name in English; names: one for each of the ten languages."""

    id: str
    emoji: str
    category: str
    names: Mapping[str, str]


@cache
def load_vocabulary() -> tuple[Concept, ...]:
    """All concepts, in the order of their sprites."""
    return tuple(
        Concept(**fields) for fields in json.loads((asset_path("emoji") / "vocabulary.json").read_text("utf-8"))
    )


@cache
def load_sprites(vendor: str) -> tuple[Image.Image, ...]:
    """The RGBA drawings of a vendor, SPRITE px square, in the order of `load_vocabulary`."""
    with Image.open(asset_path("emoji") / f"{vendor}.webp") as file:
        sheet = file.convert("RGBA")
    boxes = [_box(number) for number in range(len(load_vocabulary()))]
    return tuple(sheet.crop(box) for box in boxes)


def _box(number: int) -> tuple[int, int, int, int]:
    left, top = number % COLUMNS * SPRITE, number // COLUMNS * SPRITE
    return left, top, left + SPRITE, top + SPRITE


# --- building ---


def build(npm: Path, out: Path) -> int:
    """Write vocabulary.json and a sprite sheet for each vendor into `out`; returns how many concepts there are."""
    candidates = sorted(_candidates(npm), key=_order)
    chosen = _distinct(candidates)[:MOST_CONCEPTS]
    chosen.sort(key=lambda found: (list(CATEGORIES).index(found["category"]), found["id"]))
    concepts = [Concept(**{key: found[key] for key in ("id", "emoji", "category", "names")}) for found in chosen]
    out.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(asdict(concept), ensure_ascii=False) for concept in concepts)
    (out / "vocabulary.json").write_text(f"[\n{lines}\n]\n", "utf-8")
    for vendor in VENDORS:
        rows = -(-len(chosen) // COLUMNS)
        sheet = Image.new("RGBA", (COLUMNS * SPRITE, rows * SPRITE))
        for number, found in enumerate(chosen):
            sheet.paste(found["sprites"][vendor], _box(number))
        sheet.save(out / f"{vendor}.webp", quality=85, method=6)
    return len(chosen)


def _candidates(npm: Path) -> list[dict[str, Any]]:
    names = {code: _read_names(npm, code) for code in CODES}
    found = []
    for entry in json.loads((npm / "emoji-datasource-google/emoji.json").read_text("utf-8")):
        concept_id, category = entry["short_name"], _CATEGORY_OF.get(entry["subcategory"])
        emoji = "".join(chr(int(code, 16)) for code in entry["unified"].split("-"))
        plain = emoji.replace("\ufe0f", "")
        files = {vendor: npm / folder / entry["image"] for vendor, folder in VENDORS.items()}
        if category is None or concept_id in _MISFILED or not all(file.is_file() for file in files.values()):
            continue
        if not all(plain in names[code] for code in CODES):
            continue
        own = {code: CORRECTIONS.get(concept_id, {}).get(code, names[code][plain]) for code in CODES}
        if all(_is_short(name) for name in own.values()):
            sprites = {
                vendor: Image.open(file).convert("RGBA").resize((SPRITE, SPRITE)) for vendor, file in files.items()
            }
            found.append({"id": concept_id, "emoji": emoji, "category": category, "names": own, "sprites": sprites})
    return found


def _order(found: dict[str, Any]) -> tuple[bool, int]:
    return found["id"] not in _EVERYDAY, sum(map(len, found["names"].values()))


def _read_names(npm: Path, code: str) -> dict[str, str]:
    file = npm / f"cldr-annotations-full/annotations/{code}/annotations.json"
    annotations = json.loads(file.read_text("utf-8"))["annotations"]["annotations"]
    # Some Hindi and Bengali names carry keywords after a comma, some a second name in brackets.
    return {
        emoji: unicodedata.normalize("NFC", fields["tts"][0]).split(",")[0].split("(")[0].strip()
        for emoji, fields in annotations.items()
        if fields.get("tts")
    }


def _is_short(name: str) -> bool:
    return len(name) <= LONGEST_NAME and len(name.split()) <= MOST_WORDS


def _distinct(candidates: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those whose names (in every language) and drawings (of both vendors) no earlier one has."""
    chosen: list[dict[str, Any]] = []
    seen: set[tuple[str, str]] = set()
    pictures: list[np.ndarray[Any, Any]] = []
    bodies = {found["names"]["en"] for found in candidates}
    for found in candidates:
        keys = {(code, normalise(name, code)) for code, name in found["names"].items()}
        face_of = found["names"]["en"].removesuffix(" face")
        if keys & seen or (face_of != found["names"]["en"] and face_of in bodies):
            continue
        picture = np.stack([_on_grey(sprite) for sprite in found["sprites"].values()])
        if any(np.abs(picture - other).mean() < LEAST_DIFFERENCE for other in pictures):
            continue
        seen |= keys
        pictures.append(picture)
        chosen.append(found)
    return chosen


def _on_grey(sprite: Image.Image) -> np.ndarray[Any, Any]:
    ground = Image.new("RGBA", sprite.size, (128, 128, 128, 255))
    return np.asarray(Image.alpha_composite(ground, sprite).convert("RGB").resize((16, 16)), dtype=np.float32)
