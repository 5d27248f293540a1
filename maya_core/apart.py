"""Python processes beside this one: they find modules where it does, and run nothing that lies where it was started."""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
_START = "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "


def apart(program: str, *arguments: str) -> list[str]:
    """The command of a process that runs `program`, whose `sys.argv[1:]` are `arguments`. Others may print there, too
    (`sitecustomize`): what it has to tell needs a mark, or a file of its own."""
    return [sys.executable, "-I", "-c", _START + program, json.dumps(_search_path()), *arguments]


def _search_path() -> list[str]:
    return [*filter(None, sys.path), str(ROOT)]
