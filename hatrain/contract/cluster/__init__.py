"""The places a job can run: what a cluster file says, a module for each kind. The contract's half; launch/cluster.py
finds and reads the files."""

from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from hatrain.contract.cluster.common import ClusterSecret, FileSecret
from hatrain.contract.cluster.kubernetes import KubernetesCluster, Volume
from hatrain.contract.cluster.local import LocalCluster
from hatrain.contract.cluster.slurm import Container, SlurmCluster

ClusterSpec = Annotated[LocalCluster | SlurmCluster | KubernetesCluster, Field(discriminator="kind")]


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a cluster file, for editors."""
    schema = TypeAdapter(ClusterSpec).json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Cluster", **schema}


__all__ = [
    "ClusterSecret",
    "ClusterSpec",
    "Container",
    "FileSecret",
    "KubernetesCluster",
    "LocalCluster",
    "SlurmCluster",
    "Volume",
    "json_schema",
]
