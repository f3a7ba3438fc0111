"""Imports run one way: cli → launch, train, … → contract → runtime. Type-checking imports count as well."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "hatrain.errors": set(),
    "hatrain.text": set(),
    "hatrain.cpu_time": set(),
    "hatrain.runtime": set(),
    "hatrain.contract": {"hatrain.runtime"},
    "hatrain.data": {"hatrain.contract", "hatrain.runtime"},
    "hatrain.home": {"hatrain.data", "hatrain.contract", "hatrain.runtime"},
    "hatrain.guide": {"hatrain.contract", "hatrain.runtime"},
    "hatrain.doctor": {"hatrain.contract", "hatrain.runtime"},
    "hatrain.model": {"hatrain.data", "hatrain.contract", "hatrain.runtime"},
    "hatrain.llamacpp": {"hatrain.contract", "hatrain.runtime"},
    "hatrain.train": {
        "hatrain.evaluate",
        "hatrain.model",
        "hatrain.data",
        "hatrain.contract",
        "hatrain.runtime",
    },
    "hatrain.evaluate": {
        "hatrain.llamacpp",
        "hatrain.model",
        "hatrain.data",
        "hatrain.home",
        "hatrain.contract",
        "hatrain.runtime",
    },
    "hatrain.export": {
        "hatrain.evaluate",
        "hatrain.llamacpp",
        "hatrain.model",
        "hatrain.data",
        "hatrain.home",
        "hatrain.contract",
        "hatrain.runtime",
    },
    "hatrain.report": {"hatrain.contract", "hatrain.runtime"},
    "hatrain.entry": {
        "hatrain.export",
        "hatrain.model",
        "hatrain.doctor",
        "hatrain.report",
        "hatrain.contract",
        "hatrain.runtime",
    },
    "launch": {"hatrain.doctor", "hatrain.contract", "hatrain.runtime"},
}
EVERYWHERE = {"hatrain", "hatrain.errors", "hatrain.text", "hatrain.cpu_time"}


def layer(module: str) -> str:
    return "launch" if module.split(".")[0] == "launch" else ".".join(module.split(".")[:2])


def imports(path: Path) -> Iterator[str]:
    """The modules of this repository that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in ("hatrain", "launch"))


def files(name: str) -> list[Path]:
    path = ROOT / name.replace(".", "/")
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_a_layer_imports_only_layers_below_it(name):
    allowed = MAY_IMPORT[name] | EVERYWHERE | {name}
    found = {(path.name, layer(module)) for path in files(name) for module in imports(path)}
    assert {(path, target) for path, target in found if target not in allowed} == set()


def test_every_folder_has_its_layer():
    folders = {f"hatrain.{path.parent.name}" for path in ROOT.glob("hatrain/*/__init__.py")}
    assert folders - {"hatrain.cli"} <= set(MAY_IMPORT)


@pytest.mark.parametrize("library", ["torch", "numpy", "transformers"])
def test_the_launch_side_imports_nothing_heavy(library):
    for name in ("launch", "hatrain.contract", "hatrain.runtime", "hatrain.errors", "hatrain.text"):
        for path in files(name):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
            names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
            assert library not in {module.split(".")[0] for module in names}, path
