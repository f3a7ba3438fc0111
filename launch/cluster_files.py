"""How the files of launch/clusters/ and a user's own are found and read. What they may say is in hatrain/place; it
starts nothing."""

from collections.abc import Iterator
from pathlib import Path

from hatrain.contract.cluster import ClusterSpec, KubernetesCluster, LocalCluster, SlurmCluster
from hatrain.contract.load import Document, find, read_file, validate
from hatrain.errors import BadInput, nearest

SHIPPED = Path(__file__).parent / "clusters"
KINDS: dict[str, type[ClusterSpec]] = {
    "local": LocalCluster,
    "slurm": SlurmCluster,
    "kubernetes": KubernetesCluster,
}


def own_clusters() -> Path:
    """Return the folder of a user's own cluster files."""
    return Path.home() / ".config" / "hatrain" / "clusters"


def known() -> Iterator[Path]:
    """Yield the cluster files that have a name, by name: the user's own, and the shipped ones that they do not hide."""
    files = {path.stem: path for folder in (SHIPPED, own_clusters()) for path in folder.glob("*.yaml")}
    for name in sorted(files):
        yield files[name]


def read_cluster(name: str) -> tuple[str, ClusterSpec, Document]:
    """Read a cluster: a path, or a name among the user's own files, then the shipped ones.

    Returns its name (the file's stem), what it says, and where each of its keys stands. Raises BadInput.
    """
    path = find(name, [own_clusters(), SHIPPED], "cluster")
    document = read_file(path)
    kinds = " | ".join(KINDS)
    if not isinstance(document.data, dict) or "kind" not in document.data:
        document.problems.append(f"{path}: kind: missing; accepted: {kinds}")
        raise BadInput(document.problems)
    kind = document.data["kind"]
    if kind not in KINDS:
        hint = nearest(str(kind), KINDS)
        raise BadInput(
            [*document.problems, f"{document.where(('kind',))}: found {kind!r}; accepted: {kinds}{hint}"]
        )
    return path.stem, validate(KINDS[kind], document), document


def load_cluster(name: str) -> tuple[str, ClusterSpec]:
    """Read a cluster as `read_cluster` does; its name and what it says. Raises BadInput."""
    return read_cluster(name)[:2]
