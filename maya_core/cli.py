"""The `maya` command. Heavy libraries are imported inside the commands, so that `maya --help` is instant."""

import io
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from importlib.metadata import version
from typing import Literal

import tyro

from maya_core.commands.about import doctor, info
from maya_core.commands.ask import PARTLY, ask
from maya_core.commands.models import convert, download, export, login, merge, push, quantize
from maya_core.commands.streams import prepare_streams, tell, until_nobody_reads, write_no_more
from maya_core.errors import MayaError, refused_by_the_system

# Exit statuses beside 0: of a table without some answers (PARTLY), of what the user can mend, and after Ctrl-C.
MENDABLE, INTERRUPTED = 2, 130

DESCRIPTION = (
    "Maya answers questions about pictures in ten languages, on this computer. --version: which Maya this is. "
    f"Exit status: 0 done, {PARTLY} done but for some pictures of a table, {MENDABLE} what you can mend, told in one "
    f"sentence, {INTERRUPTED} Ctrl-C."
)

app = tyro.extras.SubcommandApp()


def completion(shell: tyro.conf.Positional[Literal["bash", "zsh", "fish"]]) -> None:
    """Write what completes commands, options and paths in a shell: eval "$(maya completion bash)" in ~/.bashrc.

    In zsh: maya completion zsh > a folder of $fpath, as _maya; in fish: > ~/.config/fish/completions/maya.fish.
    """
    with redirect_stdout(io.StringIO()) as script, suppress(SystemExit):
        app.cli(prog="maya", args=["--tyro-print-completion", shell])
    print(_with_paths(shell, script.getvalue()), end="")


def _with_paths(shell: str, script: str) -> str:
    """What completes, with paths where tyro's has nothing: after a command's name pictures and folders are typed."""
    if shell == "fish":
        return f"{script}complete --command maya --condition 'not __fish_is_first_token' --force-files\n"
    found = "completions if completions and (current_word or current_spec == root_spec)"
    script = script.replace("\n    return completions\n", f'\n    return {found} else ["__TYRO_COMPLETE_FILES__"]\n')
    # bash itself knows better how names with blanks are written
    return script.replace('($(compgen -f -- "$cur"))', "()").replace("complete -F", "complete -o default -F")


for command in (ask, info, doctor, login, download, convert, merge, quantize, export, push, completion):
    app.command(command)


def main() -> None:
    """Run a command; what a user can mend is said in one sentence, with exit status 2."""
    os.environ.setdefault(
        "HF_HUB_DISABLE_TELEMETRY", "1"
    )  # else the hub's library tells and asks more than it needs to
    prepare_streams()
    try:
        with until_nobody_reads(), interruptible():
            if sys.argv[1:] == ["--version"]:
                print(f"maya {version('maya')}")
            else:
                app.cli(prog="maya", description=DESCRIPTION)
    except MayaError as error:
        if "--as-json" in sys.argv:
            print(json.dumps({"error": type(error).__name__, **vars(error)}), flush=True)
        tell(error)
        sys.exit(MENDABLE)
    except (MemoryError, RuntimeError, OSError, ImportError) as error:
        tell(refused_by_the_system(error, "What is said cannot be written"))
        write_no_more(sys.stdout)
        sys.exit(MENDABLE)


@contextmanager
def interruptible() -> Iterator[None]:
    """From now on Ctrl-C ends this process quietly, with status 130: in good order, or at once when pressed again."""

    def at_once(*_: object) -> None:
        os._exit(INTERRUPTED)

    def in_order(*_: object) -> None:
        signal.signal(signal.SIGINT, at_once)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, in_order)
    try:
        yield
    except KeyboardInterrupt:
        print(file=sys.stderr)
        left = SystemExit(INTERRUPTED)
    except SystemExit as own:
        left = own
    else:
        return
    if left.code == INTERRUPTED:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is left to do is short
    raise left


if __name__ == "__main__":
    main()
