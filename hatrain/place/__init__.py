"""The places a job can run: what a cluster file says, a module for each kind. The contract's half; launch/cluster.py
finds and reads the files."""

from typing import Annotated

from pydantic import Field

from hatrain.place.common import ClusterSecret, FileSecret
from hatrain.place.kubernetes import KubernetesPlace, Volume
from hatrain.place.local import LocalPlace
from hatrain.place.slurm import Container, SlurmPlace

AnyPlace = LocalPlace | SlurmPlace | KubernetesPlace
Cluster = Annotated[AnyPlace, Field(discriminator="kind")]

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
]
