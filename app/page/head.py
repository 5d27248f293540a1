"""The page's style and script, and the calls of the script that its events make."""

import json
from collections.abc import Mapping
from pathlib import Path

from app.i18n import LABELS, Say
from maya_core.languages import CODES

THEME = Path(__file__).parents[1] / "theme"
STYLES = ("scale", "style", "print")
SCRIPTS = ("unsent", "page", "browsing", "pictures", "keys", "following")
MOST_MEGABYTES = 1024  # of a file that is uploaded: an export is larger than any picture of it
BASE = '<base href="/">'  # from which everything is fetched, whichever conversation the address names
APPLY = "(code, theme) => { window.mayaSetLanguage(code); window.mayaSetTheme(theme); }"
OPEN_MENU = "() => window.mayaMenu(true)"
CLOSE_MENU = "() => window.mayaMenu(false)"
SHOW_KEYS = "() => window.mayaKeys()"
EMPTY_BOX = "() => window.mayaEmpty()"
TAKE_QUESTION = "(typed) => window.mayaTake(typed)"
GIVE_BACK = "(typed, returned) => window.mayaGiveBack(typed, returned)"
ANSWER_BEGINS = "(...given) => window.mayaAnswerBegins(...given)"
ANSWER_ENDS = "() => window.mayaAnswerEnds()"
TAKE_EDITED = "() => window.mayaEdited()"
ASKED_FOR = "() => window.mayaAskedFor()"
PICK = "() => window.mayaPicked()"
PICKED = "() => { window.mayaPickEnded(); window.mayaMenu(false); }"
ADD_PHOTO = "(typed, photo) => window.mayaAddPhoto(typed, photo)"


def page_head() -> str:
    """Style and script of the page, from files; inline, because gradio rewrites what it is given as css, and first of all,
    because gradio chooses its words as it loads."""
    style = "".join((THEME / f"{name}.css").read_text("utf-8") for name in STYLES)
    script = "".join((THEME / f"{name}.js").read_text("utf-8") for name in SCRIPTS)
    labels: Mapping[str, Mapping[str, str]] = {
        code: {
            label: Say(code)(sentence).replace("{megabytes}", str(MOST_MEGABYTES)) for label, sentence in LABELS.items()
        }
        for code in CODES
    }
    data = json.dumps(labels, ensure_ascii=False).replace("<", "\\u003c")
    return f"{BASE}<style>{style}</style><script>window.mayaLabels = {data};</script><script>{script}</script>"
