"""The look: one scale, which every style follows."""

import re

from app.page.head import STYLES, THEME, page_head

# What has its place in the scale: distances and corners, sizes of type, colours, times.
MEASURED = re.compile(
    r"(?<![\w-])(?:padding|margin|gap|row-gap|column-gap|border-radius|font-size|line-height|color|background|background-color|"
    r"border|border-color|outline|box-shadow|transition|animation)(?:-(?:block|inline|start|end|top|bottom|left|right))*\s*:([^;}]+)"
)
NUMBER = re.compile(r"(?<![\w#-])-?\d*\.?\d+(?:px|rem|s|ms|em)\b|#[0-9a-f]{3,8}\b|\b(?:rgb|hsl|oklch)a?\(")
FREE = {"0.5em", "100vmax"}  # in proportion to the words that they stand beside; all of the window


def test_style_script_and_words_of_our_own_come_at_once():
    assert len(page_head().encode()) < 300_000  # bytes


def test_styles_are_made_of_the_scale_alone():
    assert STYLES[0] == "scale"
    for name in STYLES[1:]:
        style = re.sub(r"/\*.*?\*/", "", (THEME / f"{name}.css").read_text("utf-8"), flags=re.DOTALL)
        found = [match for values in MEASURED.findall(style) for match in NUMBER.findall(values) if match not in FREE]
        assert found == [], f"{name}.css: take these from scale.css"


def test_every_variable_that_is_used_is_in_the_scale():
    scale = (THEME / "scale.css").read_text("utf-8")
    defined = set(re.findall(r"(--maya-[\w-]+)\s*:", scale))
    used = {
        name
        for style in STYLES
        for name in re.findall(r"var\((--maya-[\w-]+)", (THEME / f"{style}.css").read_text("utf-8"))
    }
    assert used <= defined
    assert defined - used == set()


def luminance(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_words_and_edges_stand_out_from_every_ground_in_both_appearances():
    scale = (THEME / "scale.css").read_text("utf-8")
    light = dict(re.findall(r"--maya-([\w-]+): (#[0-9a-f]{6});", scale.split(".dark {")[0]))
    dark = light | dict(re.findall(r"--maya-([\w-]+): (#[0-9a-f]{6});", scale.split(".dark {")[1].split("}")[0]))
    for colours in (light, dark):
        for ground in ("ground", "side", "mine", "hover"):
            assert contrast(colours["ink"], colours[ground]) >= 7
            assert contrast(colours["quiet"], colours[ground]) >= 4.5
        assert contrast(colours["accent"], colours["accent-text"]) >= 4.5
        for ground in ("ground", "side"):
            assert contrast(colours["trouble"], colours[ground]) >= 4.5
            assert contrast(colours["edge"], colours[ground]) >= 3
            assert contrast(colours["accent"], colours[ground]) >= 3
