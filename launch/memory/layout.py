"""How a job runs, as far as its memory and its speed depend on it."""

from dataclasses import dataclass

from hatrain.contract.plan import Sharding
from hatrain.contract.spec import Offload, Packing


@dataclass(frozen=True)
class Layout:
    """Decisions that change no result."""

    micro_batch: int
    """Rows of one rank."""
    accumulation: int
    """Micro-batches of a step."""
    checkpointing: bool
    sharding: Sharding = "none"
    ranks: int = 1
    offload: Offload = "none"
    packing: Packing = "tree"
