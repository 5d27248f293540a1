"""The `maya` command. Heavy libraries are imported inside the commands, so that `maya --help` is instant."""

import difflib
import io
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from importlib.metadata import version
from typing import Literal, get_args

import tyro

from maya_core.commands.about import doctor, info
from maya_core.commands.ask import PARTLY, ask
from maya_core.commands.models import convert, download, export, login, merge, push, quantize
from maya_core.commands.streams import end_quickly, prepare_streams, tell, until_nobody_reads, write_no_more
from maya_core.errors import MayaError, refused_by_the_system
from maya_core.languages import CODES

# Exit statuses beside 0: of a table without some answers (PARTLY), of what the user can mend, and after Ctrl-C.
MENDABLE, INTERRUPTED = 2, 130

DESCRIPTION = (
    "Maya answers questions about pictures in ten languages, on this computer. --version: which Maya this is. "
    f"Exit status: 0 done, {PARTLY} done but for some pictures of a table, {MENDABLE} what you can mend, told in one "
    f"sentence, {INTERRUPTED} Ctrl-C."
)

Shell = Literal["bash", "zsh", "fish"]

app = tyro.extras.SubcommandApp()


def completion(shell: tyro.conf.Positional[Shell]) -> None:
    """Write what completes commands, options and paths in a shell: eval "$(maya completion bash)" in ~/.bashrc.

    In zsh: maya completion zsh > a folder of $fpath, as _maya; in fish: > ~/.config/fish/completions/maya.fish.
    """
    with redirect_stdout(io.StringIO()) as script, suppress(SystemExit):
        app.cli(prog="maya", args=["--tyro-print-completion", shell])
    print(_with_values(shell, script.getvalue()), end="")


def _with_values(shell: str, script: str) -> str:
    """What completes, with what tyro's does not know: the languages, the shells, and paths where there is nothing else, for
    after a command's name pictures and folders are typed."""
    language = "('flags': \\['--(?:answer-in|lang)'\\], .*?'type': )'path'"
    script = re.sub(language, rf"\1'choice', 'choices': {list(CODES)}", script)
    shells = {
        name: {"description": name, "options": [], "subcommands": {}, "frontier_groups": []} for name in get_args(Shell)
    }
    script = re.sub("('completion': .*?'subcommands': ){}", rf"\1{shells}", script)
    if shell == "fish":
        chosen = "contains -- (commandline -opc)[-1] --answer-in --lang --format --numbers completion"
        condition = f"not __fish_is_first_token; and not {chosen}"
        return f"{script}complete --command maya --condition '{condition}' --force-files\n"
    found = "completions if completions and (current_word or current_spec['subcommands'])"
    script = script.replace("\n    return completions\n", f"\n    return {found} else ['__TYRO_COMPLETE_FILES__']\n")
    # bash itself knows better how names with blanks are written
    return script.replace('($(compgen -f -- "$cur"))', "()").replace("complete -F", "complete -o default -F")


commands: list[str] = []  # their names


def add(command: Callable[..., None]) -> None:
    """Let there be a command, of this function's name."""
    commands.append(command.__name__)
    app.command(command)


for command in (ask, info, doctor, login, download, convert, merge, quantize, export, push, completion):
    add(command)


def _require_command(name: str) -> None:
    """Raise MayaError for a word that is none."""
    if name in commands or name.startswith("-"):
        return
    if os.path.exists(name):
        raise MayaError(f"There is no command {name}; maya ask {name} QUESTION asks about a picture.")
    near = difflib.get_close_matches(name, commands, n=1)
    told = f"did you mean {near[0]}?" if near else f"there are {', '.join(commands)}."
    raise MayaError(f"There is no command {name}; {told}")


def main(reworded: Callable[[MayaError], str] = lambda _: "") -> None:
    """Run a command; what a user can mend is said in one sentence, with exit status 2. reworded: says it once more, in the
    user's own language; nothing where it cannot."""
    os.environ.setdefault(
        "HF_HUB_DISABLE_TELEMETRY", "1"
    )  # else the hub's library tells and asks more than it needs to
    prepare_streams()
    end_quickly()
    try:
        with until_nobody_reads(), interruptible():
            if sys.argv[1:] == ["--version"]:
                print(f"maya {version('maya')}")
            else:
                for name in sys.argv[1:2]:
                    _require_command(name)
                app.cli(prog="maya", description=DESCRIPTION)
    except MayaError as error:
        if "--as-json" in sys.argv:
            print(json.dumps({"error": type(error).__name__, **vars(error)}), flush=True)
        tell(error)
        if own := reworded(error):
            tell(own)
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
