"""The picture of the house, checked: app -> maya_core <- training, and inside maya_core only downwards."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A file imports only files that stand before it.
ORDER = (
    "errors", "languages", "assets", "config", "hardware", "images", "prompt", "connectors", "processor", "attention",
    "decoder_layer", "model", "quantization", "decoder", "sampling", "step_graph", "generation", "footprint", "durable",
    "hub", "adapters", "checkpoint", "data", "record_index", "records", "features", "losses", "optim", "metrics", "train",
    "cli",
)  # fmt: skip
# Big libraries that must not be loaded before someone asks for what needs them.
HEAVY = ("torch", "transformers", "gradio", "matplotlib", "bitsandbytes", "peft", "accelerate")


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{file} imports relatively"
            yield node.module


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


def test_maya_core_imports_only_downwards():
    modules = {file.relative_to(ROOT / "maya_core").parts[0].removesuffix(".py") for file in files("maya_core")}
    assert modules - {"__init__"} == set(ORDER)
    for file in files("maya_core"):
        own = file.relative_to(ROOT / "maya_core").parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        for name in imported(file):
            parts = name.split(".")
            if parts[0] == "maya_core" and len(parts) > 1 and parts[1] != own:
                assert ORDER.index(parts[1]) < ORDER.index(own), f"{own} imports {parts[1]}"


@pytest.mark.parametrize(
    "module", ["maya_core.cli", "app.__main__", "app.i18n", "app.chat", "training.emoji_vqa.__main__"]
)
def test_entry_points_load_nothing_heavy(module):
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_no_library_prints_and_no_except_is_broad():
    for package in ("app", "maya_core"):
        for file in files(package):
            tree = ast.parse(file.read_text("utf-8"))
            for node in ast.walk(tree):
                if isinstance(node, ast.ExceptHandler):
                    caught = ast.unparse(node.type) if node.type else "everything"
                    assert caught not in ("everything", "Exception", "BaseException"), f"{file}:{node.lineno}"
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
                    assert file.name in ("cli.py", "__main__.py"), f"{file}:{node.lineno}"


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
