"""The schedulers that start jobs: one folder each, listed here. Nothing outside these folders depends on which one it
is."""

from typing import Any

from hatrain.contract.cluster import ClusterSpec
from launch.backends.kubernetes.backend import KubernetesBackend
from launch.backends.local.backend import LocalBackend
from launch.backends.protocol import Backend
from launch.backends.slurm.backend import SlurmBackend

BACKENDS: dict[str, type[Backend[Any]]] = {
    "local": LocalBackend,
    "slurm": SlurmBackend,
    "kubernetes": KubernetesBackend,
}


def backend(cluster: ClusterSpec) -> Backend[Any]:
    return BACKENDS[cluster.kind](cluster)
