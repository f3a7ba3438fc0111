"""GPUs and CPU cores, which Slurm and Kubernetes jobs request in the same way."""

from collections.abc import Iterator, Mapping

from hatrain.contract.gpus import CPU
from hatrain.contract.plan import ResourceRequest
from hatrain.contract.spec import JobSpec, seconds
from launch.backends.protocol import Reason


def refusals(job: JobSpec, gpus: Mapping[str, str]) -> Iterator[Reason]:
    """`gpus` maps the GPU names of jobs to the cluster's; an empty map accepts every name."""
    name = job.hardware.gpu
    if gpus and name != CPU and name not in gpus:
        yield "hardware.gpu", f"found {name}, which this cluster does not have; accepted: {', '.join(gpus)}"


def request(
    job: JobSpec,
    name: str,
    gpus: Mapping[str, str],
    cpus_per_gpu: int,
    cpus_per_process: int,
    *,
    memory: int | None,
    shared_memory: int | None = None,
    ephemeral_storage: int | None = None,
) -> ResourceRequest:
    per_node = job.hardware.gpus_per_node
    on_cpu = job.hardware.gpu == CPU
    return ResourceRequest(
        name=name,
        time=seconds(job.limits.time),
        gpus=0 if on_cpu else per_node,
        gpu_type=None if on_cpu else gpus.get(job.hardware.gpu),
        cpus=(cpus_per_process if on_cpu else cpus_per_gpu) * per_node,
        memory=memory,
        shared_memory=shared_memory,
        ephemeral_storage=ephemeral_storage,
    )
