"""The places a job can run: the schema of launch/clusters/*.yaml, and how such a file is found. It starts nothing."""

import re
import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from hatrain.errors import BadInput, nearest
from hatrain.load import read_file, validate
from hatrain.spec import Model

SHIPPED = Path(__file__).parent / "clusters"


def _environment(values: dict[str, str]) -> dict[str, str]:
    for name, value in values.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError(f"names of letters, digits and '_', not {name!r}")
        if "\0" in value:
            raise ValueError(f"text without NUL characters in {name}")
    return values


class LocalCluster(Model):
    """The machine that the command is given on."""

    kind: Literal["local"]
    python: Annotated[str, Field(min_length=1)] = sys.executable
    """The interpreter that hatrain is installed for; the one that plans when left out."""
    environment: Annotated[dict[str, str], AfterValidator(_environment)] = Field(default_factory=dict)
    """Exported before anything starts. Never a secret."""


Cluster = LocalCluster
KINDS: dict[str, type[Cluster]] = {"local": LocalCluster}


def own_clusters() -> Path:
    """Return the folder of a user's own cluster files."""
    return Path.home() / ".config" / "hatrain" / "clusters"


def find_cluster(name: str) -> Path:
    """Return the file of a cluster: a path, or a name among the user's own files, then the shipped ones.

    Raises BadInput with the nearest name when there is none.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        if path.is_file():
            return path
        known = [str(other) for other in sorted(path.parent.glob("*.y*ml"))]
        raise BadInput(f"{name}: no such cluster file{nearest(name, known)}")
    for folder in (own_clusters(), SHIPPED):
        if (path := folder / f"{name}.yaml").is_file():
            return path
    known = sorted({other.stem for folder in (own_clusters(), SHIPPED) for other in folder.glob("*.yaml")})
    raise BadInput(f"{name}: no such cluster (accepted: a path, or {', '.join(known)}){nearest(name, known)}")


def load_cluster(name: str) -> tuple[str, Cluster]:
    """Read a cluster by name or path. Returns its name (the file's stem) with it; raises BadInput."""
    path = find_cluster(name)
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
    return path.stem, validate(KINDS[kind], document)
