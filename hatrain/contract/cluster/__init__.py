"""Schemas of cluster files, one module for each kind. launch/cluster_files.py finds and reads the files."""

from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from hatrain.contract.cluster.common import ClusterSecret, FileSecret
from hatrain.contract.cluster.kubernetes import KubernetesCluster, Volume
from hatrain.contract.cluster.local import LocalCluster
from hatrain.contract.cluster.slurm import Container, SlurmCluster, Ssh

ClusterSpec = Annotated[LocalCluster | SlurmCluster | KubernetesCluster, Field(discriminator="kind")]
KINDS: dict[str, type[ClusterSpec]] = {
    "local": LocalCluster,
    "slurm": SlurmCluster,
    "kubernetes": KubernetesCluster,
}


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a cluster file, for editors."""
    schema = TypeAdapter(ClusterSpec).json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Cluster", **schema}


__all__ = [
    "KINDS",
    "ClusterSecret",
    "ClusterSpec",
    "Container",
    "FileSecret",
    "KubernetesCluster",
    "LocalCluster",
    "SlurmCluster",
    "Ssh",
    "Volume",
    "json_schema",
]
