"""Maya as a program among others: an entry in the desktop's menu, and a window of its own without a browser's bars."""

import shutil
import subprocess
import sys
import webbrowser
from pathlib import Path

import platformdirs

from maya_core.errors import DestinationError

ICON = Path(__file__).parent / "theme" / "icon.svg"
# Those that can show a page in a window of its own (`--app`), by the names of their commands.
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge", "brave-browser")
ENTRY = """[Desktop Entry]
Type=Application
Name=Maya
Comment=Ask about pictures in ten languages, on this computer
Exec={command}
Icon={icon}
Terminal=false
Categories=Utility;Education;
"""


class Window(webbrowser.BaseBrowser):
    """For `webbrowser.register`: opens the page by `open_window`; where that cannot be, the next browser does."""

    def open(self, url: str, new: int = 0, autoraise: bool = True) -> bool:
        return open_window(url)


def open_window(address: str) -> bool:
    """Show the page in a window of its own; whether there is a browser that can."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        return False
    quiet = subprocess.DEVNULL
    subprocess.Popen([browser, f"--app={address}"], start_new_session=True, stdin=quiet, stdout=quiet, stderr=quiet)
    return True


def install() -> Path:
    """Put Maya into the menu of a freedesktop.org desktop; the entry's file. Raises DestinationError."""
    if sys.platform in ("win32", "darwin"):
        raise DestinationError(
            "This desktop has no such menu; open Maya's page and choose Install in the browser's menu."
        )
    entry = platformdirs.user_data_path() / "applications" / "maya.desktop"
    command = f"{_quoted(sys.executable)} -P -m app --window"  # -P: what lies in the home folder is not run
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        entry.write_text(ENTRY.format(command=command, icon=ICON), "utf-8")
    except OSError as error:
        raise DestinationError(
            f"{entry} cannot be written ({error.strerror}); look for the right to write there."
        ) from None
    return entry


def _quoted(argument: str) -> str:
    """As Exec= of the Desktop Entry Specification has it."""
    for sign in '\\"`$':
        argument = argument.replace(sign, f"\\{sign}")
    return f'"{argument}"'.replace("\\", "\\\\").replace("%", "%%")
