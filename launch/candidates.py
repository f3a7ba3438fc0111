"""Ways of running a job that leave its result unchanged: sharding, micro-batch and checkpointing. The fastest that fits
into the memory of its GPUs is chosen."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hatrain.contract.gpus import CPU, GPUS
from hatrain.contract.spec import JobSpec
from hatrain.contract.steps import divide_batch
from hatrain.text import count
from launch import speed, strategies
from launch.memory.estimate import Estimate, Layout, estimate
from launch.memory.structure import NotKnown, Structure

MARGIN = 0.92
"""Of a GPU's memory, for what is chosen here. What a job sets itself may need all of it."""
AUTOMATIC = ("ddp", "fsdp", "zero2", "zero3")
"""What `sharding: auto` chooses among, the simplest first."""
CPU_ROWS = 4
"""Rows of a micro-batch on processors, which larger ones do not make faster."""


@dataclass(frozen=True)
class Candidate:
    layout: Layout
    need: Estimate | None
    """None where it cannot be predicted."""


def candidates(job: JobSpec, model: Structure | None) -> Iterator[Candidate]:
    """Every way of running a job that its settings allow, each with its need of memory."""
    ranks, method = strategies.ranks(job), job.method
    for sharding, rows, checkpointing in itertools.product(_shardings(job), _rows(job, ranks), _checkpointing(job)):
        batch = divide_batch(method.batch_size, rows, ranks)
        if batch is None:
            continue
        layout = Layout(rows, batch.accumulation, checkpointing, sharding, ranks, job.hardware.offload)
        yield Candidate(layout, estimate(model, job, layout) if model else None)


def _shardings(job: JobSpec) -> list[Any]:
    decided = strategies.decided(job)
    if job.hardware.sharding != "auto" or decided == "none" or job.hardware.gpu == CPU:
        return [decided]
    return [name for name in AUTOMATIC if not list(strategies.refusals(with_changes(job, {"hardware.sharding": name})))]


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
    return [False] if job.hardware.gpu == CPU else [False, True]


def choose(job: JobSpec, model: Structure | None) -> tuple[Candidate | None, str]:
    """Return the fastest way that fits, or the one that needs least if none does, and why it was chosen; None where the
    batch does not divide."""
    found = list(candidates(job, model))
    if not found:
        return None, ""
    if job.hardware.gpu == CPU:
        return max(found, key=lambda one: _preference_on_cpu(one.layout)), ""
    if model is None:
        return max(found, key=lambda one: (one.layout.checkpointing, -AUTOMATIC_RANK.get(one.layout.sharding, 0))), ""
    limit = MARGIN * GPUS[job.hardware.gpu].memory
    fitting = [one for one in found if one.need and one.need.total <= limit]
    if not fitting:
        return min(found, key=_need), ""
    best = max(fitting, key=lambda one: (speed.relative(job, one.layout), one.layout.checkpointing))
    return best, _why(job, best, found, len(fitting))


AUTOMATIC_RANK = {name: number for number, name in enumerate(AUTOMATIC)}


def _preference_on_cpu(layout: Layout) -> tuple[bool, int]:
    fits = layout.micro_batch <= CPU_ROWS
    return fits, layout.micro_batch if fits else -layout.micro_batch


def _need(candidate: Candidate) -> int:
    return candidate.need.total if candidate.need else 0


def _why(job: JobSpec, best: Candidate, found: list[Candidate], fitting: int) -> str:
    if len(found) == 1:
        return ""
    layout = best.layout
    parts = [
        f"micro_batch_size {layout.micro_batch}" if job.method.micro_batch_size == "auto" else "",
        f"checkpointing {'on' if layout.checkpointing else 'off'}"
        if job.method.gradient_checkpointing == "auto"
        else "",
        f"sharding {layout.sharding}" if job.hardware.sharding == "auto" and layout.ranks > 1 else "",
    ]
    chosen = ", ".join(filter(None, parts))
    return f"{chosen}: the fastest of the {count(fitting, 'way')} of {len(found)} that fit into {MARGIN:.0%}"


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
