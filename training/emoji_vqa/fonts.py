"""Build `assets/fonts/`: for every script one Noto font that also has the Latin letters and digits in its style."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from fontTools.merge import Merger
from fontTools.ttLib import TTFont

# file in assets/fonts: (npm package, subsets)
FONTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "NotoSans": ("noto-sans", ("latin", "latin-ext", "cyrillic")),
    "NotoSansArabic": ("noto-sans-arabic", ("arabic", "latin")),
    "NotoNastaliqUrdu": ("noto-nastaliq-urdu", ("arabic", "latin")),
    "NotoSansDevanagari": ("noto-sans-devanagari", ("devanagari", "latin")),
    "NotoSansBengali": ("noto-sans-bengali", ("bengali", "latin")),
    "NotoSansSC": ("noto-sans-sc", ("chinese-simplified", "latin")),
    "NotoSansJP": ("noto-sans-jp", ("japanese", "latin")),
}
WEIGHT = "400"


def build_fonts(npm: Path, out: Path) -> None:
    """Merge the subsets that npm's @fontsource packages come in, and copy their licence."""
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        for name, (package, subsets) in FONTS.items():
            parts = []
            for subset in subsets:
                font = TTFont(npm / "@fontsource" / package / "files" / f"{package}-{subset}-{WEIGHT}-normal.woff2")
                font.flavor = None
                parts.append(str(Path(folder) / f"{name}-{subset}.ttf"))
                font.save(parts[-1])
            merged = Merger().merge(parts)
            merged.flavor = "woff2"
            merged.save(out / f"{name}.woff2")
    shutil.copy(npm / "@fontsource" / "noto-sans" / "LICENSE", out / "LICENSE")
