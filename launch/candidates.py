"""Ways of running a job that leave its result unchanged: sharding, offload, micro-batch, checkpointing and packing. The
fastest that fits into the memory of its GPUs is chosen."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hatrain.contract.gpus import GPUS, MPS
from hatrain.contract.plan import Sharding
from hatrain.contract.spec import JobSpec, Offload, Packing
from hatrain.contract.steps import divide_batch
from hatrain.text import count
from launch import speed, strategies
from launch.memory.estimate import Estimate, estimate
from launch.memory.layout import Layout
from launch.memory.structure import NotKnown, Structure

MARGIN = 0.92
"""Of a GPU's memory, for what is chosen here. What a job sets itself may need all of it."""
AUTOMATIC: tuple[Sharding, ...] = ("ddp", "fsdp", "zero2", "zero3")
"""What `sharding: auto` chooses among, the simplest first."""
OFFLOADS: tuple[Offload, ...] = ("optimizer", "all")
"""What `offload: auto` chooses among beside none."""
CPU_ROWS = 4
"""Rows of a micro-batch on processors, which larger ones do not make faster."""


@dataclass(frozen=True)
class Candidate:
    layout: Layout
    need: Estimate | None
    """None where it cannot be predicted."""


def layouts(job: JobSpec, model: Structure | None) -> Iterator[Layout]:
    """Every way of running a job that its settings allow."""
    ranks, method = strategies.ranks(job), job.method
    ways = itertools.product(_strategies(job), _rows(job, ranks), _checkpointing(job), _packings(job, model))
    for (sharding, offload), rows, checkpointing, packing in ways:
        batch = divide_batch(method.batch_size, rows, ranks)
        if batch is None:
            continue
        yield Layout(rows, batch.accumulation, checkpointing, sharding, ranks, offload, packing)


def _strategies(job: JobSpec) -> list[tuple[Sharding, Offload]]:
    """Sharding and offload, as far as they go together and with the job's other settings."""
    decided, is_alone = strategies.decided(job), strategies.decided(job) == "none" or not job.hardware.is_cuda
    shardings = AUTOMATIC if job.hardware.sharding == "auto" and not is_alone else (decided,)
    wanted = job.hardware.offload
    offloads = ("none", *(() if is_alone else OFFLOADS)) if wanted == "auto" else (wanted,)
    pairs = [(sharding, offload) for sharding in shardings for offload in offloads]
    if len(pairs) == 1:
        return pairs  # the planner says why it is refused, if it is
    return [pair for pair in pairs if not list(strategies.refusals(_with_strategy(job, *pair)))]


def _with_strategy(job: JobSpec, sharding: Sharding, offload: Offload) -> JobSpec:
    hardware = job.hardware.model_copy(update={"sharding": sharding, "offload": offload})
    return job.model_copy(update={"hardware": hardware})


def decided_as(job: JobSpec, layout: Layout) -> JobSpec:
    """The job with the decisions that its run reads from the job itself: packing and offload."""
    decided = job.model_copy(update={"method": job.method.model_copy(update={"packing": layout.packing})})
    return decided if job.hardware.offload != "auto" else _with_strategy(decided, layout.sharding, layout.offload)


def _packings(job: JobSpec, model: Structure | None) -> list[Packing]:
    """Trees are never slower than plain packs. Rows are padded where packs would change the result, and
    on a Mac, whose GPU our attention does not know."""
    method = job.method
    if method.packing != "auto":
        return [method.packing]
    if method.mixes_rows or job.hardware.gpu == MPS or (model and method.ctx_size > model.packs_to):
        return ["off"]
    return ["tree", "off"]


def _rows(job: JobSpec, ranks: int) -> list[int]:
    rows = job.method.micro_batch_size
    if isinstance(rows, int):
        return [rows]
    share = job.method.batch_size // ranks
    return [size for size in range(1, share + 1) if share % size == 0 and job.method.batch_size % ranks == 0]


def _checkpointing(job: JobSpec) -> list[bool]:
    wanted = job.method.gradient_checkpointing
    if wanted != "auto":
        return [wanted]
    return [False] if not job.hardware.is_cuda else [False, True]


def choose(job: JobSpec, model: Structure | None) -> tuple[Candidate | None, str]:
    """Return the fastest way that fits, or the one that needs least if none does, and why it was chosen; None where the
    batch does not divide."""
    found = list(layouts(job, model))
    if not found:
        return None, ""
    if not job.hardware.is_cuda:
        return Candidate(max(found, key=_preference_on_cpu), None), ""
    if model is None:
        safest = max(found, key=lambda one: one.checkpointing)  # the first, of the simplest sharding
        return Candidate(safest, None), ""
    limit = MARGIN * GPUS[job.hardware.gpu].memory
    needs: dict[Layout, Estimate] = {}
    for layout in sorted(found, key=lambda one: (speed.relative(job, one), one.checkpointing), reverse=True):
        needs[layout] = estimate(model, job, layout)
        if needs[layout].total <= limit:
            return Candidate(layout, needs[layout]), _why(job, layout, len(found))
    least = min(found, key=lambda one: needs[one].total)
    return Candidate(least, needs[least]), ""


def _preference_on_cpu(layout: Layout) -> tuple[bool, int]:
    fits = layout.micro_batch <= CPU_ROWS
    return fits, layout.micro_batch if fits else -layout.micro_batch


def _why(job: JobSpec, layout: Layout, ways: int) -> str:
    if ways == 1:
        return ""
    parts = [
        f"micro_batch_size {layout.micro_batch}" if job.method.micro_batch_size == "auto" else "",
        f"checkpointing {'on' if layout.checkpointing else 'off'}"
        if job.method.gradient_checkpointing == "auto"
        else "",
        f"sharding {layout.sharding}" if job.hardware.sharding == "auto" and layout.ranks > 1 else "",
        f"offload {layout.offload}" if job.hardware.offload == "auto" else "",
        f"packing {layout.packing}" if job.method.packing == "auto" else "",
    ]
    return f"{', '.join(filter(None, parts))}: the fastest of {count(ways, 'way')} that fits into {MARGIN:.0%}"


# --- what would fit -----------------------------------------------------------------------------------------


def with_changes(job: JobSpec, changes: dict[str, Any]) -> JobSpec:
    """The job with some keys changed, `method.micro_batch_size: 1` for example."""
    data = job.model_dump(mode="json")
    for key, value in changes.items():
        at = data
        *parts, last = key.split(".")
        for part in parts:
            at = at[part]
        at[last] = value
    return JobSpec.model_validate(data)


def remedies(
    job: JobSpec, model: Structure, limit: float, is_refused: Callable[[JobSpec], bool], most: int = 4
) -> tuple[str, ...]:
    """The smallest changes with which a job needs at most `limit` bytes, as options of the command line: first those
    that train the same model, then those that train it in another way, and at last a larger GPU. None of them makes a
    job that `is_refused`."""
    memory = GPUS[job.hardware.gpu].memory
    lines: list[str] = []
    fitting: list[set[str]] = []
    for changes in _changes(job):
        if any(keys <= changes.keys() for keys in fitting):
            continue  # a smaller change of these keys fits already
        try:
            changed = with_changes(job, changes)
            best, _ = choose(changed, model)
        except (ValueError, NotKnown):
            continue
        if is_refused(changed):
            continue
        if best and best.need and best.need.total <= limit:
            fitting.append(set(changes))
            lines.append(" ".join(f"--set {key}={_spelled(value)}" for key, value in changes.items()))
        if len(lines) == most:
            return tuple(lines)
    larger = sorted((gpu for gpu in GPUS.values() if gpu.memory > memory), key=lambda gpu: gpu.memory)
    for gpu in larger:
        changed = with_changes(job, {"hardware.gpu": gpu.name})
        if is_refused(changed):
            continue
        best, _ = choose(changed, model)
        if best and best.need and best.need.total <= gpu.memory:
            lines.append(f"--set hardware.gpu={gpu.name}")
            break
    return tuple(lines)


def _changes(job: JobSpec) -> Iterator[dict[str, Any]]:
    method, ranks = job.method, strategies.ranks(job)
    key = "method.micro_batch_size"
    checkpoint = {} if method.gradient_checkpointing is True else {"method.gradient_checkpointing": True}
    share = method.batch_size // ranks
    rows = method.micro_batch_size if isinstance(method.micro_batch_size, int) else share
    smaller = [size for size in range(rows - 1, 0, -1) if share % size == 0]
    yield from ({key: size} for size in smaller)
    if checkpoint:
        yield checkpoint
        yield from ({**checkpoint, key: size} for size in smaller)
    least = {**checkpoint, **({key: 1} if rows > 1 else {})}
    if ranks > 1:
        for sharding in ("fsdp", "zero3"):
            if job.hardware.sharding != sharding:
                yield {"hardware.sharding": sharding}
                yield {**least, "hardware.sharding": sharding}
        if job.hardware.offload == "none":
            yield from ({**least, "hardware.sharding": "zero3", "hardware.offload": offload} for offload in OFFLOADS)
    if method.optimizer in ("adamw", "adafactor") and (ranks == 1 or job.hardware.sharding == "ddp"):
        yield {"method.optimizer": "adamw_8bit"}
        yield {**least, "method.optimizer": "adamw_8bit"}
    if method.lora is None:
        yield {"method.lora": {"rank": 32, "alpha": 64}}
        yield {**least, "method.lora": {"rank": 32, "alpha": 64}}
    elif job.model.quantization is None and (ranks == 1 or job.hardware.sharding == "ddp"):
        yield {"model.quantization": "4bit"}
        yield {**least, "model.quantization": "4bit"}


def _spelled(value: Any) -> str:
    if isinstance(value, dict):
        return "'{" + ", ".join(f"{key}: {item}" for key, item in value.items()) + "}'"
    return str(value).lower() if isinstance(value, bool) else str(value)
