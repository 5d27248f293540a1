"""How a command ends, as `maya` does: with a status, and with a sentence for whatever a person or a disk has done."""

from collections.abc import Callable
from pathlib import Path

from maya_core.commands.streams import end_quickly, prepare_streams, tell, until_nobody_reads
from maya_core.errors import DestinationError, MayaError, refused_by_the_system

OURS = ("", "app", "maya_core", "training")  # a name that is missing in these is our own mistake
EXTRAS = {"ray": "cluster"}  # modules that few need
GOES_ON = "Stopped; what is done is kept, and the same command goes on."
STOPPED = "Stopped."
PICTURES = (".png", ".jpg", ".webp", ".pdf")  # what both Pillow and matplotlib write


def ended(command: Callable[[], int | None], stopped: str = GOES_ON, *, extra: str = "train") -> int:
    """Run a command; its exit status: 2 where it cannot be done, 130 where Ctrl-C ended it, and else its own, which
    is 1 where it found defects. Who reads may leave, as `head` does. stopped: what is said after Ctrl-C. extra: what the
    command needs beside Maya, as pip calls it."""
    prepare_streams()
    end_quickly()
    status = 0
    try:
        with until_nobody_reads():
            status = command() or 0
    except MayaError as error:
        tell(error)
        return 2
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name in OURS:
            raise
        tell(f"{name} is not installed; pip install -e '.[{EXTRAS.get(name, extra)}]' brings it.")
        return 2
    except (MemoryError, RuntimeError, ImportError, OSError) as error:
        tell(f"{refused_by_the_system(error, 'A file cannot be written')} What is done is kept.")
        return 2
    except KeyboardInterrupt:
        tell(stopped)
        return 130
    return status


def check_pictures(*files: Path | None) -> None:
    """Before anything is done for them. Raises DestinationError where a file to write has no picture's ending."""
    for file in filter(None, files):
        if file.suffix.lower() not in PICTURES:
            raise DestinationError(
                f"{file.name} does not say what kind of picture it is; end it in {', '.join(PICTURES)}."
            )
