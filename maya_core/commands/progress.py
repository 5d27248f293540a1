"""How far something is, told beside a command's output."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


def here(model: str | None) -> Path:
    """The folder of a model, with a bar where it has to be fetched; the embedded one's where none is named."""
    from maya_core.assets import EMBEDDED, asset_path
    from maya_core.weights.hub import local_folder

    folder = asset_path(EMBEDDED) if model is None else Path(model).expanduser()
    if model is None or folder.is_dir():
        return folder
    with bar() as report:
        return local_folder(model, report=report)


@contextmanager
def bar() -> Iterator[Callable[[int, int], None]]:
    """A bar beside the output, from the first time on that it is told how many bytes are here, and of how many."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    progress = Progress(*columns, console=Console(stderr=True), transient=True)
    task = progress.add_task("", total=None)
    with ExitStack() as shown:

        def report(done: int, size: int) -> None:
            if not progress.live.is_started:
                shown.enter_context(progress)
            progress.update(task, completed=done, total=size)

        yield report
