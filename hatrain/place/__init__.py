"""The places a job can run: what a cluster file says, a module for each kind. The contract's half; launch/cluster.py
finds and reads the files."""

from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from hatrain.place.common import ClusterSecret, FileSecret
from hatrain.place.kubernetes import KubernetesPlace, Volume
from hatrain.place.local import LocalPlace
from hatrain.place.slurm import Container, SlurmPlace

AnyPlace = LocalPlace | SlurmPlace | KubernetesPlace
Cluster = Annotated[AnyPlace, Field(discriminator="kind")]


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a cluster file, for editors."""
    schema = TypeAdapter(Cluster).json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Cluster", **schema}


__all__ = [
    "AnyPlace",
    "Cluster",
    "ClusterSecret",
    "Container",
    "FileSecret",
    "KubernetesPlace",
    "LocalPlace",
    "SlurmPlace",
    "Volume",
    "json_schema",
]
