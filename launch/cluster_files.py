"""Finds and reads cluster files: those shipped in launch/clusters/, and the user's own."""

from collections.abc import Iterator
from pathlib import Path

from hatrain.contract.cluster import KINDS, ClusterSpec
from hatrain.contract.load import Document, find, read_file, validate
from hatrain.errors import BadInput, nearest

SHIPPED = Path(__file__).parent / "clusters"


def user_clusters() -> Path:
    """The folder of a user's own cluster files."""
    return Path.home() / ".config" / "hatrain" / "clusters"


def known() -> Iterator[Path]:
    """Cluster files that can be given by name: the user's own, and the shipped ones without a namesake there."""
    files = {path.stem: path for folder in (SHIPPED, user_clusters()) for path in folder.glob("*.yaml")}
    for name in sorted(files):
        yield files[name]


def read_cluster(name: str) -> tuple[str, ClusterSpec, Document]:
    """Read a cluster file by path, or by name from the user's own files and then the shipped ones.

    Returns its name (the file's stem), its contents, and the location of each key. Raises BadInput.
    """
    path = find(name, [user_clusters(), SHIPPED], "cluster")
    document = read_file(path)
    kinds = " | ".join(KINDS)
    if not isinstance(document.data, dict) or "kind" not in document.data:
        document.problems.append(f"{path}: kind: missing; accepted: {kinds}")
        raise BadInput(document.problems)
    kind = document.data["kind"]
    if kind not in KINDS:
        hint = nearest(str(kind), KINDS)
        raise BadInput([*document.problems, f"{document.where(('kind',))}: found {kind!r}; accepted: {kinds}{hint}"])
    return path.stem, validate(KINDS[kind], document), document


def load_cluster(name: str) -> tuple[str, ClusterSpec]:
    """As `read_cluster`, without the locations."""
    return read_cluster(name)[:2]
