"""The picture of the house, checked: app -> maya_core <- training, and inside maya_core only downwards."""

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Floors from the ground up: a file imports only from rooms below its own, and of its own room only what stands before it.
# Rooms on one floor never meet. An empty name is `maya_core` itself.
FLOORS: tuple[dict[str, tuple[str, ...]], ...] = (
    {"": ("errors", "languages", "hardware", "assets", "reviews", "progress", "llama", "apart")},
    {"model": ("config", "picture_file", "colour", "images", "towers", "prompt", "turns", "layout", "processor", "attention",
               "decoder_layer", "connectors", "maya")},
    {"weights": ("durable", "destination", "gguf_file", "files", "fingerprint", "hub_errors", "account", "transfer",
                 "hub_memory", "hub", "adapters", "runs", "nf4_assembly", "nf4_kernel", "quantization", "published",
                 "checkpoint", "export", "gguf_export", "card", "push")},
    {
        "answering": ("options", "language", "script", "decoder", "sampling", "step_graph", "generation", "doubt",
                      "llama_decoder", "engines", "footprint", "session"),
        "learning": ("metrics", "losses", "optim", "record_index", "data", "data_languages", "formats", "records", "tables",
                     "column_files", "splits", "conversation_files", "features", "held_out", "objective", "recorder",
                     "checkpoints", "stop_signals", "train"),
    },
    {"commands": ("streams", "arguments", "progress", "opening", "about", "models", "manner", "rows", "many", "ask")},
    {"": ("cli",)},
)  # fmt: skip
PLACES = {
    (room, file): (floor, position)
    for floor, rooms in enumerate(FLOORS)
    for room, files in rooms.items()
    for position, file in enumerate(files)
}
# Big libraries that must not be loaded before someone asks for what needs them.
HEAVY = ("torch", "transformers", "gradio", "matplotlib", "bitsandbytes", "peft", "py3langid", "accelerate")


def imported(file: Path) -> Iterator[str]:
    """What a file imports, late imports and those for types included; `from a import b` gives `a.b`."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{file} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def place_of(parts: Sequence[str]) -> tuple[str, str]:
    """(room, file) of a module of maya_core by the parts of its name, of which only the first may count."""
    rooms = {room for floor in FLOORS for room in floor if room}
    return (parts[0], parts[1]) if parts[0] in rooms else ("", parts[0])


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [("maya_core", ("app", "training", "gradio")), ("training", ("app", "gradio")), ("app", ("training",))],
)
def test_packages_do_not_meet(package, forbidden):
    assert files(package)
    for file in files(package):
        met = {name for name in imported(file) if name.split(".")[0] in forbidden}
        assert not met, f"{file.relative_to(ROOT)} imports {met}"


def breaches(importer: str, imports: Iterable[str]) -> list[str]:
    """Imports of a module of maya_core that run up, across a floor, or backwards in its room. Names have no `maya_core.`"""
    own = room, _ = place_of(importer.split("."))
    floor, position = PLACES[own]
    wrong = []
    for name in imports:
        parts = name.split(".")
        if parts[0] != "maya_core":
            continue
        met = place_of(parts[1:])
        if met == own:
            continue  # inside a package such as connectors
        if met not in PLACES:
            wrong.append(f"{importer} imports {name}, which is no file of a room")
        elif PLACES[met][0] > floor or (PLACES[met][0] == floor and (met[0] != room or PLACES[met][1] > position)):
            wrong.append(f"{importer} imports {name}")
    return wrong


def test_every_file_has_its_place():
    found = {tuple(file.relative_to(ROOT / "maya_core").with_suffix("").parts) for file in files("maya_core")}
    assert {place_of(parts) for parts in found if parts[-1] != "__init__" or len(parts) > 2} == set(PLACES)


def test_maya_core_imports_only_downwards():
    for file in files("maya_core"):
        parts = file.relative_to(ROOT / "maya_core").with_suffix("").parts
        if parts == ("__init__",):
            continue  # the door, which leads everywhere
        if parts[-1] == "__init__" and len(parts) == 2:
            assert not list(imported(file)), f"{file} is a room's door: it imports nothing"
            continue
        assert not breaches(".".join(parts), imported(file))


@pytest.mark.parametrize(
    ("importer", "name"),
    [
        ("model.maya", "maya_core.weights.hub.fetch"),
        ("answering.decoder", "maya_core.learning.data.Sample"),
        ("learning.data", "maya_core.learning.train.train"),
        ("weights.checkpoint", "maya_core.cli.main"),
        ("model.towers.siglip", "maya_core.model.connectors.build_connector"),
        ("weights.hub", "maya_core.load_model"),
    ],
)
def test_an_arrow_that_runs_back_is_seen(importer, name):
    assert breaches(importer, [name])


def test_rooms_of_training_and_app_do_not_run_back():
    """In training the worlds know nothing of those who train on them, and what a user runs nothing of how the embedded
    model is made."""
    for file in files("training"):
        parts = file.relative_to(ROOT).parts
        own = parts[1].removesuffix(".py")
        met = {name.split(".")[1] for name in imported(file) if name.startswith("training.")} - {own}
        if own.endswith("_vqa"):
            others = {
                name for name in met if not name.endswith("_vqa") and name not in ("scoring", "sheets", "command")
            }
            assert not others, f"{file} imports {others}"
        if len(parts) == 2:
            assert not met & {"embedded", "studies"}, f"{file} imports {met}"


def test_a_benchmark_knows_nothing_of_who_runs_it():
    """Those in tasks/ use what reads files and marks answers, and one another; the machinery beside them is not theirs."""
    for file in files("training/benchmarks/tasks"):
        met = {name.split(".")[2] for name in imported(file) if name.startswith("training.benchmarks.")}
        assert met <= {"base", "files", "marking", "tasks"}, f"{file} imports {met}"


@pytest.mark.parametrize(
    "module",
    [
        "maya_core.cli",
        "maya_core.weights.hub",  # for processes that only fetch
        "app.__main__",
        "app.command",
        "app.i18n",
        "app.chat",
        "training.emoji_vqa.__main__",
        "training.evaluate",
        "training.benchmarks.__main__",
    ],
)
def test_entry_points_load_nothing_heavy(module):
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


# Where whatever fails becomes a sentence on the page: behind them is only gradio's own red "Error".
LAST = ("app/answers.py", "app/page/sheltered.py")


def test_no_library_prints_and_no_except_is_broad():
    for package in ("app", "maya_core"):
        for file in files(package):
            tree = ast.parse(file.read_text("utf-8"))
            for node in ast.walk(tree):
                where = f"{file}:{getattr(node, 'lineno', 0)}"
                if isinstance(node, ast.ExceptHandler):
                    caught = ast.unparse(node.type) if node.type else "everything"
                    is_last = str(file.relative_to(ROOT)) in LAST and caught == "Exception"
                    assert is_last or caught not in ("everything", "Exception", "BaseException"), where
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
                    assert file.name in ("cli.py", "__main__.py") or file.parent.name == "commands", where


def test_nothing_that_can_run_foreign_code():
    for package in ("app", "maya_core", "training"):
        for file in files(package):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if not isinstance(node, ast.Call):
                    continue
                name, given = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
                where = f"{file.relative_to(ROOT)}:{node.lineno}"
                assert name not in ("pickle.load", "pickle.loads", "eval", "exec"), where
                assert given.get("trust_remote_code") != "True", where
                assert name != "torch.load" or given.get("weights_only") == "True", where
