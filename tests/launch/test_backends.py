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
        names = {leaf.id for leaf in ast.walk(node) if isinstance(leaf, ast.Name)}
        names |= {leaf.attr for leaf in ast.walk(node) if isinstance(leaf, ast.Attribute)}
        literals = {leaf.value for leaf in ast.walk(node) if isinstance(leaf, ast.Constant)}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in ("isinstance", "issubclass") and names & CLUSTER_CLASSES:
                yield f"line {node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.Compare) and (literals & BACKENDS.keys() or names & CLUSTER_CLASSES):
            yield f"line {node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.Match) and (
            literals & BACKENDS.keys() or names & (CLUSTER_CLASSES | {"launcher", "kind"})
        ):
            yield f"line {node.lineno}: match {ast.unparse(node.subject)}"
        elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Dict):
            if {leaf.value for leaf in node.value.keys if isinstance(leaf, ast.Constant)} & BACKENDS.keys():
                yield f"line {node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None) or ""
            imported = [f"{module}.{alias.name}".strip(".") for alias in node.names]
            if any(name.split(".")[2:3] and name.split(".")[2] in BACKENDS and name.startswith("launch.backends.")
                   for name in imported):  # fmt: skip
                yield f"line {node.lineno}: {ast.unparse(node)}"


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
