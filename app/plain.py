"""What a person typed, in Markdown that shows it as it was typed."""

import re

_PUNCTUATION = re.compile(r"[!-/:-@[-`{-~]")
_SPACES = re.compile(r"^ |(?<= ) ", re.MULTILINE)
_INDENT = re.compile(r"^ +", re.MULTILINE)
_ANYWHERE = re.compile(r"[\\`*_\[\]<>&~|$]")
_AT_THE_START = re.compile(r"^(\s*)([#+=-]|\d+(?=[.)]))", re.MULTILINE)


def shown_plain(text: str) -> str:
    """For the page: every sign as a character reference, which no Markdown reads as a sign; spaces that it would leave out
    as those that do not break. The page's script undoes it where the text is copied or changed."""
    referred = _PUNCTUATION.sub(lambda sign: f"&#{ord(sign[0])};", text)
    return _SPACES.sub("&#160;", referred)


def written_plain(text: str) -> str:
    """For a file that people read: backslashes where Markdown would read a sign, and at the ends of lines."""
    escaped = _ANYWHERE.sub(r"\\\g<0>", text)
    escaped = _INDENT.sub(lambda spaces: "&#160;" * len(spaces[0]), escaped)
    escaped = _AT_THE_START.sub(lambda start: _escaped_start(*start.groups()), escaped)
    return re.sub(r"(?<=[^\n])\n(?=[^\n])", "\\\\\n", escaped)


def _escaped_start(space: str, sign: str) -> str:
    return f"{space}{sign}\\" if sign.isdigit() else f"{space}\\{sign}"
