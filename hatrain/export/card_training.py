"""How a model was trained, as a section of its card."""

from collections.abc import Iterator

from hatrain.contract.gpus import CPU
from hatrain.contract.record import kept_in_words
from hatrain.export.card_facts import Facts
from hatrain.text import count


def training(facts: Facts) -> Iterator[str]:
    """Yield the section's paragraphs."""
    yield "## Training"
    yield "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {text} |" for name, text in _lines(facts))])


def _lines(facts: Facts) -> Iterator[tuple[str, str]]:
    plan = facts.plan
    job, method, batch = plan.job, plan.job.method, plan.batch
    base = facts.repository or facts.base.get("name") or "a folder"
    yield "base", f"{base}, revision {_revision(facts)}"
    yield "method", _method(facts)
    yield "learning rate", f"{method.learning_rate:g}, {method.learning_rate_schedule}, {_warm_up(facts)}"
    clip = f"gradient clip {method.gradient_clip:g}" if method.gradient_clip else "no gradient clip"
    yield "optimizer", f"{method.optimizer}, weight decay {method.weight_decay:g}, {clip}"
    yield (
        "batch",
        (
            f"{batch.rows_per_step} rows = micro-batch {batch.micro_batch_size} × accumulation {batch.accumulation} × "
            f"{count(batch.ranks, 'rank')}"
        ),
    )
    most = "at most " if method.max_steps else ""
    yield "length", f"{most}{count(method.epochs, 'epoch')}{_steps(facts)}, at most {method.ctx_size:,} tokens a row"
    if kept := _kept(facts):
        yield "checkpoint", kept
    yield "precision", f"{job.model.dtype}; trained weights in fp32"
    yield "hardware", _hardware(facts)
    yield "time", _time(facts)
    yield "seed", str(job.seed)
    yield "software", _software(facts)


def _revision(facts: Facts) -> str:
    if commit := facts.base.get("revision"):
        return f"`{commit}`"
    return "not known" if facts.repository else "none: it is a folder"


def _method(facts: Facts) -> str:
    job = facts.plan.job
    method, lora, quantization = job.method, job.method.lora, job.model.quantization
    name = f"DPO, beta {method.beta:g}, loss {method.loss}" if method.kind == "dpo" else "SFT on the replies"
    if lora is None:
        return f"{name}, all weights"
    merged = ", merged into the base" if lora.merge else ""
    on = f" on a {quantization.kind} base" if quantization else ""
    return f"{name}, LoRA rank {lora.rank}, alpha {lora.alpha:g}, dropout {lora.dropout:g}{on}{merged}"


def _warm_up(facts: Facts) -> str:
    share = facts.plan.job.method.learning_rate_warmup
    return f"warm-up {share:.0%} of the steps" if share else "no warm-up"


def _steps(facts: Facts) -> str:
    if not facts.steps:
        return ""
    step, total = facts.steps
    trained = facts.kept.get("trained", step)
    return f", {total:,} steps" if trained == total else f" planned, {trained:,} of {total:,} steps trained"


def _kept(facts: Facts) -> str:
    return kept_in_words(facts.kept) if facts.kept else ""


def _hardware(facts: Facts) -> str:
    plan = facts.plan
    if plan.job.hardware.gpu == CPU:
        return f"processors, {count(plan.world_size, 'process', 'processes')} on {count(plan.nodes, 'node')}"
    name = facts.gpu or plan.job.hardware.gpu
    return f"{plan.world_size} × {name} on {count(plan.nodes, 'node')}, sharding {plan.sharding}"


def _time(facts: Facts) -> str:
    if not facts.attempts:
        return "not recorded"
    ranks = sum(attempt["seconds"] * attempt["ranks"] for attempt in facts.attempts) / 3600
    unit = "process" if facts.plan.job.hardware.gpu == CPU else "GPU"
    return (
        f"{_hours(facts.hours)} in {count(len(facts.attempts), 'attempt')}, evaluation and export included; "
        f"{_hours(ranks, unit)}"
    )


def _hours(hours: float, of: str = "") -> str:
    number, unit = (hours, "hours") if hours >= 1 else (60 * hours, "minutes")
    return f"{number:.1f} {of} {unit}" if of else f"{number:.1f} {unit}"


def _software(facts: Facts) -> str:
    versions = facts.begun.get("versions") or {}
    named = [f"{name} {version}" for name, version in versions.items()]
    commit = facts.begun.get("commit")
    return ", ".join(named) + (f"; hatrain's commit {commit[:12]}" if commit else "") if named else "not recorded"
