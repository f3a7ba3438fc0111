"""`hatrain plan`: print every decision about a job, before anything runs."""

import argparse
from pathlib import Path

from hatrain.cli import columns
from hatrain.cli.columns import aligned
from hatrain.cli.planning import add_cluster, add_force, add_job, note_absent, planned
from hatrain.contract.checkpoint_size import next_checkpoint
from hatrain.contract.gpus import GIB, GPUS
from hatrain.contract.load import read_job
from hatrain.contract.plan import Memory, Plan, ResourceRequest, Steps
from hatrain.contract.run import RunDirectory, runs_root
from hatrain.contract.save_interval import ASSUMED_MTBF_SECONDS, WRITE_BYTES_PER_SECOND, best_seconds
from hatrain.contract.spec import ExportSpec, seconds
from hatrain.contract.steps import warmup_steps
from hatrain.errors import BadInput, nearest
from hatrain.text import count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_job(parser, required=False)
    add_cluster(parser)
    add_force(parser)
    parser.add_argument(
        "--gpu",
        metavar="NAME,NAME",
        help="compare GPUs instead: what fits, hours, and cost where the cluster has prices",
    )
    parser.add_argument("--json", action="store_true", help="print plan.json")
    parser.add_argument(
        "--matrix", action="store_true", help="print which sharding strategies work with which settings"
    )


def run(args: argparse.Namespace) -> int:
    if args.matrix:
        print(matrix())
        return 0
    if args.job is None:
        raise BadInput(
            "hatrain plan: JOB is missing; accepted: a job file, the name of one that `hatrain jobs` lists, or --matrix"
        )
    if args.gpu is not None:
        print(comparison(args))
        return 0
    plan = planned(args)
    note_absent(plan, args.job)
    print(plan.model_dump_json(indent=2) if args.json else table(plan))
    return 0


def matrix() -> str:
    """One line for each setting, one column for each strategy."""
    from launch.strategies import STRATEGIES, matrix

    rows = {(pair.key, pair.what): [pair.key, pair.what] for pair in matrix()}
    for pair in matrix():
        rows[pair.key, pair.what].append("yes" if pair.works else "-")
    return aligned([["KEY", "VALUE", *STRATEGIES], *rows.values()])


def comparison(args: argparse.Namespace) -> str:
    """One line for each GPU, and below them why a GPU is refused. Raises BadInput for a name that is not in the table,
    and for files that cannot be read."""
    from launch import cluster_files, efficiency, planner

    names = [name.strip() for name in args.gpu.split(",") if name.strip()]
    for name in names or [args.gpu]:
        if name not in GPUS:
            raise BadInput(f"--gpu: found {name!r}; accepted: {', '.join(GPUS)}{nearest(name, GPUS)}")
    cluster_name, cluster = cluster_files.load_cluster(args.cluster)
    rows = [["GPU", "FITS", "NEEDS", "OF", "MICRO-BATCH", "CHECKPOINTING", "HOURS", "GPU-HOURS", "COST"]]
    lines: dict[str, None] = {}
    shares: dict[str, str] = {}
    for name in names:
        job, _ = read_job(args.job, [*args.settings, f"hardware.gpu={name}"])
        try:
            plan = planner.plan(
                job, cluster, cluster_name, workdir=Path.cwd(), runs_root=runs_root(), force=True, ask_hub=True
            )
        except planner.Refusal as refusal:
            rows.append([name, "no", *["-"] * (len(rows[0]) - 2)])
            lines |= {f"{name}: {key}: {text}": None for key, text in refusal.reasons}
            continue
        memory, price = plan.memory, cluster.price_per_gpu_hour.get(name)
        if plan.memory_unknown:
            lines[plan.memory_unknown] = None
        fits = "unknown" if memory is None else "yes" if memory.fits else "no"
        hours = plan.seconds / 3600 if plan.seconds and fits != "no" else None
        rows.append(
            [
                name,
                fits,
                f"{memory.total / GIB:.1f} GiB" if memory else "-",
                f"{GPUS[name].memory / GIB:.0f} GiB",
                str(plan.batch.micro_batch_size),
                "on" if plan.gradient_checkpointing else "off",
                f"{hours:.2f}" if hours else "-",
                f"{hours * plan.world_size:.2f}" if hours else "-",
                f"{hours * plan.world_size * price:.2f}" if hours and price is not None else "-",
            ]
        )
        if hours:
            share, is_measured = efficiency.of(job)
            shares[name] = f"{share:.0%} of its speed{', as measured' if is_measured else ', an estimate'}"
    if shares:
        lines[f"hours: {'; '.join(f'{name}: {share}' for name, share in shares.items())}"] = None
    return "\n".join([aligned(rows), *lines])


def memory_table(memory: Memory) -> str:
    """The parts of a prediction, with a bar: each part's share of the GPU."""
    rows = [[name, f"{size / GIB:.2f} GiB", _bar(size, memory.gpu)] for name, size in memory.parts.items()]
    free = memory.gpu - memory.total
    rows.append(["free" if free >= 0 else "missing", f"{abs(free) / GIB:.2f} GiB", _bar(max(free, 0), memory.gpu, "·")])
    return aligned(rows)


BAR = 40
"""Characters of all of a GPU's memory."""


def _bar(size: int, of: int, character: str = "█") -> str:
    return character * min(BAR, round(BAR * size / of))


def table(plan: Plan) -> str:
    from launch import token_rows

    job, batch, steps = plan.job, plan.batch, plan.steps
    method, hardware = job.method, job.hardware
    kind = "all weights" if method.lora is None else f"LoRA rank {method.lora.rank}"
    kind += " and the rows of new tokens" if token_rows.trained(job) else ""
    processes = plan.processes_per_node
    per_node = count(processes, "process", "processes") if plan.device == "cpu" else f"{processes} × {hardware.gpu}"
    lines = {
        "run": f"{job.name} on {plan.cluster}" + (f" ({plan.launcher})" if plan.launcher != plan.cluster else ""),
        "model": f"{job.model.base}, {job.model.dtype}"
        + (f", {job.model.quantization.kind}" if job.model.quantization else ""),
        "method": f"{method.kind}, {kind}, {method.optimizer}, learning rate {method.learning_rate:g} "
        f"{method.learning_rate_schedule}",
        "ranks": f"{plan.world_size} = {count(plan.nodes, 'node')} × {per_node}",
        **({"each node": _resources(plan.resources)} if plan.resources else {}),
        "sharding": plan.sharding + _OFFLOADED[hardware.offload],
        "batch": f"{batch.rows_per_step} rows = micro-batch {batch.micro_batch_size} × accumulation "
        f"{batch.accumulation} × {count(batch.ranks, 'rank')}",
        "steps": _steps(plan, steps)
        if steps
        else "unknown: the training rows are not on this machine, or cannot be counted",
        "checkpointing": "activations are recomputed" if plan.gradient_checkpointing else "activations are stored",
        "packing": _PACKED[method.packing],
        **(_memory_lines(plan)),
        "checkpoints": f"{_interval(plan)}, the newest {job.checkpoints.save_total_limit} kept"
        + (" and the best" if job.evaluation.keep == "best" else ""),
        **({"looks": _looks(plan)} if job.data.test and (job.evaluation.chooses or job.evaluation.asks) else {}),
        **({"export": _export(job.export)} if job.export else {}),
        "retries": f"{plan.retries} without a new checkpoint",
        "workdir": plan.paths.workdir,
        "run folder": plan.paths.run,
        "model link": f"{plan.paths.models}/{job.name}",
        "identity": plan.identity[:16],
    }
    text = aligned(lines.items(), columns.width())
    return f"{text}\n\n{memory_table(plan.memory)}" if plan.memory else text


def _steps(plan: Plan, steps: Steps) -> str:
    method = plan.job.method
    epoch = f"{steps.per_epoch:,} per epoch ({steps.rows:,} rows ÷ {plan.batch.rows_per_step})"
    is_cut = steps.total == method.max_steps
    how = f", as max_steps says; {epoch}" if is_cut else f" = {epoch} × {count(method.epochs, 'epoch')}"
    return f"{steps.total:,}{how}; warm-up {warmup_steps(steps, method):,}{_left_out(plan)}"


def _left_out(plan: Plan) -> str:
    ctx_size = plan.job.method.ctx_size
    return f"; {count(plan.overlong, 'row')} of more than {ctx_size:,} tokens left out" if plan.overlong else ""


_PACKED = {
    "tree": "tree: what rows begin with in common is trained once",
    "plain": "plain: rows of a micro-batch stand one after the other",
    "off": "off: rows of a micro-batch are padded to the longest",
    "auto": "auto: tree where the model allows it",
}
_OFFLOADED = {
    "none": "",
    "optimizer": ", optimizer state in main memory",
    "all": ", weights and optimizer state in main memory",
    "auto": "",
}


def _memory_lines(plan: Plan) -> dict[str, str]:
    memory, lines = plan.memory, {}
    if memory:
        lines["GPU memory"] = f"{memory.total / GIB:.1f} of {memory.gpu / GIB:.0f} GiB, most at the {memory.moment}"
        if memory.why:
            lines["chosen"] = memory.why
        lines["host memory"] = f"{memory.host / GIB:.0f} GiB on each node"
        lines["disk"] = f"{memory.disk / GIB:.0f} GiB for checkpoints and the model"
    if plan.seconds:
        from launch import efficiency

        share, is_measured = efficiency.of(plan.job)
        how = f"{share:.0%} of the GPU's speed, {'as measured' if is_measured else 'an estimate'}"
        lines["time"] = f"about {plan.seconds / 3600:.1f} hours, at {how}; an attempt may take {plan.job.limits.time}"
    return lines


def _resources(request: ResourceRequest) -> str:
    gpus = count(request.gpus, request.gpu_type or "GPU", request.gpu_type)
    parts = [
        gpus if request.gpus else "no GPU",
        count(request.cpus, "CPU core"),
        *(f"{size / 2**30:,g} GiB {what}" for what, size in _sizes(request) if size),
    ]
    hours, minutes = request.time // 3600, request.time // 60 % 60
    return f"{', '.join(parts)}; {hours}:{minutes:02d} hours"


def _looks(plan: Plan) -> str:
    evaluation = plan.job.evaluation
    by = f"strict accuracy of {count(evaluation.requests, 'request')}" if evaluation.asks else "test loss"
    ends = f"; ends after {count(evaluation.stop_after, 'look')} without gain" if evaluation.stop_after else ""
    return f"every {count(evaluation.eval_steps, 'step')}, by {by}; the model is the {evaluation.keep}{ends}"


def _export(export: ExportSpec) -> str:
    judged = f"judged by {count(export.requests, 'test row')}" if export.requests else "not judged"
    return f"{', '.join(export.gguf)}{' and a Modelfile' if export.ollama else ''}; {judged}"


def _sizes(request: ResourceRequest) -> list[tuple[str, int | None]]:
    return [
        ("memory", request.memory),
        ("of it in /dev/shm", request.shared_memory),
        ("disk", request.ephemeral_storage),
    ]


def _interval(plan: Plan) -> str:
    save_steps = plan.job.checkpoints.save_steps
    if save_steps != "auto":
        return f"every {count(save_steps, 'step')}" if save_steps else "at the end of each epoch"
    stated = plan.cluster_spec.mean_time_between_failures
    mtbf = seconds(stated) if stated else ASSUMED_MTBF_SECONDS
    text = f"every √(2 × save × {mtbf / 3600:g} h), measured as it runs"
    if not stated:
        text += "; mean_time_between_failures is not stated for the cluster"
    if size := next_checkpoint(RunDirectory(Path(plan.paths.run)), plan):
        save = size / WRITE_BYTES_PER_SECOND
        text += f"; about every {best_seconds(save, mtbf) / 60:.0f} min if a save takes {save:.0f} s"
    return text
