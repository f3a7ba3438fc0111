"""The GPUs that a job may name: memory and whether they compute in bf16, from the vendors' data sheets."""

from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class Gpu:
    """One GPU model. Memory is what the device reports, in bytes; `bf16` is whether its units compute in it."""

    name: str
    memory: int
    bf16: bool


# Memory in GiB, from the vendors' data sheets; bf16 needs compute capability 8.0 (Ampere).
_TABLE = (
    ("t4-16gb", 15, False),
    ("v100-16gb", 16, False),
    ("v100-32gb", 32, False),
    ("rtx2080ti-11gb", 11, False),
    ("rtx3060-12gb", 12, True),
    ("rtx3090-24gb", 24, True),
    ("rtx4060ti-16gb", 16, True),
    ("rtx4090-24gb", 24, True),
    ("rtx5090-32gb", 32, True),
    ("a10-24gb", 22, True),
    ("l4-24gb", 22, True),
    ("a4000-16gb", 16, True),
    ("a5000-24gb", 24, True),
    ("a6000-48gb", 48, True),
    ("rtx6000ada-48gb", 48, True),
    ("a40-48gb", 45, True),
    ("l40s-48gb", 45, True),
    ("a100-40gb", 40, True),
    ("a100-80gb", 80, True),
    ("h100-80gb", 80, True),
    ("h200-141gb", 140, True),
    ("b200-180gb", 178, True),
)

GPUS: dict[str, Gpu] = {name: Gpu(name, memory * GIB, bf16) for name, memory, bf16 in _TABLE}

CPU = "cpu"
"""The name that turns `gpus_per_node` into a number of processes on plain processors."""
