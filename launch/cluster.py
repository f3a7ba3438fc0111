"""The places a job can run: the schema of launch/clusters/*.yaml, and how such a file is found. It starts nothing."""

import re
import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from hatrain.errors import BadInput, nearest
from hatrain.load import find, read_file, validate
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


def load_cluster(name: str) -> tuple[str, Cluster]:
    """Read a cluster: a path, or a name among the user's own files, then the shipped ones.

    Returns its name (the file's stem) with it. Raises BadInput.
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
    return path.stem, validate(KINDS[kind], document)
