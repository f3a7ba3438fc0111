"""Schedulers are known to launch/backends/ alone, and each is complete."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from hatrain.contract.cluster import KINDS
from launch.backends import BACKENDS
from tests.launch.rendering import shellcheck

ROOT = Path(__file__).parents[2]
BACKENDS_FOLDER = ROOT / "launch/backends"
MODULES = [
    *(path for path in sorted((ROOT / "launch").rglob("*.py")) if BACKENDS_FOLDER not in path.parents),
    *sorted((ROOT / "hatrain/cli").rglob("*.py")),
]
SHARED = [path for path in sorted(BACKENDS_FOLDER.glob("*.py")) if path.name != "__init__.py"]
CLUSTER_CLASSES = {cluster.__name__ for cluster in KINDS.values()}


def branches(source: str) -> Iterator[str]:
    """Every expression or import of a module that depends on the scheduler."""
    for node in ast.walk(ast.parse(source)):
        if depends_on_the_scheduler(node):
            yield f"line {node.lineno}: {ast.unparse(node)}"


def depends_on_the_scheduler(node: ast.AST) -> bool:
    names = {leaf.id for leaf in ast.walk(node) if isinstance(leaf, ast.Name)}
    names |= {leaf.attr for leaf in ast.walk(node) if isinstance(leaf, ast.Attribute)}
    literals = {leaf.value for leaf in ast.walk(node) if isinstance(leaf, ast.Constant)}
    match node:
        case ast.Call(func=ast.Name("isinstance" | "issubclass")):
            return bool(names & CLUSTER_CLASSES)
        case ast.Compare():
            return bool(literals & BACKENDS.keys() or names & CLUSTER_CLASSES)
        case ast.Match():
            return bool(literals & BACKENDS.keys() or names & {*CLUSTER_CLASSES, "launcher", "kind"})
        case ast.Subscript(value=ast.Dict(keys)):
            return bool({key.value for key in keys if isinstance(key, ast.Constant)} & BACKENDS.keys())
        case ast.Import(aliases):
            return any(is_in_a_backend(alias.name) for alias in aliases)
        case ast.ImportFrom(module, aliases):
            return any(is_in_a_backend(f"{module}.{alias.name}") for alias in aliases)
    return False


def is_in_a_backend(module: str) -> bool:
    return any(f"{module}.".startswith(f"launch.backends.{kind}.") for kind in BACKENDS)


def test_every_kind_of_cluster_file_has_a_backend_with_a_folder_of_its_own():
    assert BACKENDS.keys() == KINDS.keys()
    for kind, backend in BACKENDS.items():
        assert backend.__module__ == f"launch.backends.{kind}.backend"


@pytest.mark.parametrize("path", [*MODULES, *SHARED], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_outside_of_a_backend_branches_on_the_scheduler(path):
    assert list(branches(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "planted",
    [
        "isinstance(plan.cluster_spec, SlurmCluster)",
        "isinstance(cluster, (LocalCluster, cluster.KubernetesCluster))",
        "plan.launcher == 'kubernetes'",
        "if plan.cluster_spec.kind != 'local': pass",
        "'slurm' in names",
        "plan.launcher in ('slurm', 'kubernetes')",
        "type(cluster) is SlurmCluster",
        "match plan.launcher:\n    case name: pass",
        "match name:\n    case 'slurm': pass",
        "{'local': 1, 'slurm': 2}[kind]",
        "from launch.backends.slurm.client import SlurmClient",
        "from launch.backends import kubernetes",
        "import launch.backends.local.render",
    ],
)
def test_the_check_finds_a_branch_that_is_planted(planted):
    assert list(branches(f"x = 1\n{planted}\n"))


@pytest.mark.parametrize(
    "harmless",
    [
        "from launch.backends import backend",
        "from launch.backends.shared_files import stop_by_file",
        "parent.plan().launcher == plan.launcher",
        "plan.launcher != plan.cluster",
        "cluster_files.load_cluster('local')",
        "backend(plan.cluster_spec).on_this_machine",
    ],
)
def test_the_check_accepts_code_that_asks_the_backend(harmless):
    assert list(branches(f"{harmless}\n")) == []


@pytest.mark.parametrize(
    "script", sorted((ROOT / "launch").rglob("*.sh")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_every_static_script_is_clean_under_shellcheck(script):
    shellcheck(script)
