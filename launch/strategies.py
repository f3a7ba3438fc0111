"""Which sharding strategy goes with which method: what is decided for a job, and what is refused with the pairs that
work. Only what is shown to work is granted."""

from collections.abc import Iterator

from hatrain.gpus import CPU
from hatrain.plan import Sharding
from hatrain.spec import JobSpec


def ranks(job: JobSpec) -> int:
    """Return the processes that train, over all nodes."""
    return job.hardware.nodes * job.hardware.gpus_per_node


def decided(job: JobSpec) -> Sharding:
    """Return the strategy of a job; one rank shards nothing."""
    asked = job.hardware.sharding
    if ranks(job) == 1:
        return "none"
    return "ddp" if asked == "auto" else asked


def refusals(job: JobSpec) -> Iterator[tuple[str, str]]:
    """Yield (key, reason) of what a job's strategy does not go with, with the pairs that work."""
    key, asked, count = "hardware.sharding", job.hardware.sharding, ranks(job)
    if count == 1:
        return
    if asked == "none":
        yield (
            key,
            f"found none with {count} ranks, which would train {count} models apart; write ddp, fsdp or auto",
        )
    elif asked in ("zero1", "zero2", "zero3"):
        yield key, f"found {asked} with {count} ranks, which is not built yet; write ddp, fsdp or auto"
    elif asked == "fsdp":
        for found, pairs in _beside_fsdp(job):
            yield key, f"found fsdp with {found}; {pairs}"


def _beside_fsdp(job: JobSpec) -> Iterator[tuple[str, str]]:
    """What a job asks for that FSDP does not do, with the pairs that work. All weights, LoRA, SFT and DPO do."""
    if job.hardware.gpu == CPU:
        yield "gpu: cpu, and it shards over GPUs alone", "write ddp or auto"
    if (optimizer := job.method.optimizer) != "adamw":
        yield (
            f"optimizer: {optimizer}, which cannot step on shards",
            f"fsdp goes with adamw, and {optimizer} with ddp",
        )
    if quantization := job.model.quantization:
        kind = quantization.kind
        yield (
            f"a {kind} base, which it would not shard",
            f"fsdp goes with a base that is not quantised, and {kind} with ddp",
        )
    if job.model.dtype == "fp16":
        yield "dtype: fp16, which is not shown to work", "fsdp goes with bf16 and fp32, and fp16 with ddp"
