"""What `hardware.gpu: mps`, the GPU of Apple silicon, cannot have. Nobody has run it for hatrain yet."""

import sys
from collections.abc import Iterator

from hatrain.contract.cluster import ClusterSpec
from hatrain.contract.gpus import MPS
from hatrain.contract.spec import JobSpec
from launch.backends.protocol import Reason

OPTIMIZERS = ("adamw", "adafactor")
"""Those that need no CUDA."""
UNTESTED = (
    "hardware.gpu: mps is untested: hatrain was never run on Apple silicon; compare the first losses with gpu: cpu"
)


def refusals(job: JobSpec, cluster: ClusterSpec) -> Iterator[Reason]:
    hardware, method = job.hardware, job.method
    if hardware.gpu != MPS:
        return
    if not cluster.single_machine:
        yield "hardware.gpu", f"found mps on a {cluster.kind} cluster; it is the GPU of one Mac: use the cluster local"
    elif sys.platform != "darwin":
        yield "hardware.gpu", "found mps, but this machine is no Mac; write the name of its GPU, or cpu"
    if hardware.gpus_per_node * hardware.nodes > 1:
        yield "hardware.gpus_per_node", f"found {hardware.gpus_per_node} with gpu: mps; a Mac has one: write 1"
    if job.model.dtype in ("bf16", "fp16"):
        yield "model.dtype", f"found {job.model.dtype} with gpu: mps; write auto or fp32"
    if job.model.quantization:
        yield "model.quantization", f"found {job.model.quantization.kind} with gpu: mps; it needs CUDA: remove it"
    if method.optimizer not in OPTIMIZERS:
        yield "method.optimizer", f"found {method.optimizer} with gpu: mps; write {' or '.join(OPTIMIZERS)}"
    if method.packing in ("tree", "plain"):
        yield "method.packing", f"found {method.packing} with gpu: mps, which has no such attention; write auto or off"
    if hardware.compile:
        yield "hardware.compile", "found true with gpu: mps; write false"
