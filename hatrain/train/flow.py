"""One attempt at a run, top to bottom: tokenizer, rows, model, resume, train, and the finished model."""

import os
from pathlib import Path

import torch
from transformers import set_seed

from hatrain.contract.plan import Plan
from hatrain.contract.run import Attempt, Exit, RunDirectory
from hatrain.contract.sync import PATIENCE_AT_STOP_SECONDS, PATIENCE_SECONDS
from hatrain.errors import BadInput
from hatrain.evaluate.describe import describe
from hatrain.model import revision, unchanged
from hatrain.model.prepare import prepare
from hatrain.model.tokenizer import tokenizer_of
from hatrain.runtime import checkpoints, progress, seal
from hatrain.runtime.progress import Progress
from hatrain.text import count
from hatrain.train import peak, sharding
from hatrain.train.build import build, rank
from hatrain.train.collectives import from_all_ranks, from_rank_zero
from hatrain.train.rows import check_same_everywhere, check_unchanged, load_rows, summary
from hatrain.train.save_model import save_model
from hatrain.train.trainer import EndedEarly, StopRequested


def train(plan: Plan, run: RunDirectory, attempt: Attempt) -> tuple[Exit, str]:
    """Run one attempt in this rank. Returns its exit code and the reason.

    Raises BadInput and NotFiniteError for what no retry can fix; any other exception is a fault.
    """
    Progress(attempt.folder, rank())  # loading
    plan = revision.pinned(plan, run)
    job = plan.job
    os.chdir(plan.paths.workdir)
    if rank() == 0:
        unchanged.check(job.model, run, what_stands_on_the_base(run))
    settings = sharding.configure(plan, run)  # keep: transformers asks it how to load weights
    tokenizer = tokenizer_of(job.model)
    rows = load_rows(plan, tokenizer, run)
    if rank() == 0:
        print(summary(rows), flush=True)
    set_seed(job.seed)  # for new adapters; the trainer seeds again before the first step
    model, added = prepare(job.model, job.method.lora, tokenizer, device(plan))
    if added and rank() == 0:
        print(f"new tokens {' '.join(added)}: their embeddings begin at the mean of the others", flush=True)
    trainer = build(plan, run, attempt, model, tokenizer, rows)
    del settings
    check_same_everywhere(from_all_ranks(rows.files))
    resume = from_rank_zero(newest_checkpoint(run, attempt, plan.identity) if rank() == 0 else None)
    if resume:
        check_unchanged(resume, rows.files)
        sharding.check_strategy(resume, plan)
        if rank() == 0:
            print(f"resuming from {resume.name}", flush=True)
            say_if_ranks_changed(resume, plan, run, attempt)
    try:
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    except StopRequested:
        return stopped(attempt, "before the first step")
    except EndedEarly:
        if rank() == 0:
            print(f"training ended before, after step {trainer.state.global_step}", flush=True)
    finally:
        trainer.saver.settle()
    trainer.saver.wait()
    sync = trainer.context.sync
    if rank() == 0:
        peak.record(plan, run, attempt, ended="trained")
    if trainer.state.global_step < trainer.state.max_steps and not trainer.looks.have_ended():
        if sync:
            sync.wait(PATIENCE_AT_STOP_SECONDS)
        return stopped(attempt, f"after step {trainer.state.global_step}")
    # A stop may have cut the look at the last step short. Without it another step could be kept.
    if trainer.looks.was_interrupted():
        return stopped(attempt, "after the last step")
    trainer.looks.keep()
    if not trainer.record_test_loss("after"):
        return stopped(attempt, "after the last step")
    if rank() == 0:
        trainer.progress.at(progress.FINISHING, trainer.state.global_step)
        describe(plan, run, tokenizer, rows.files)
    save_model(trainer, added)
    if sync:
        sync.wait(PATIENCE_SECONDS)
    return Exit.FINISHED, "trained"


def say_if_ranks_changed(checkpoint: Path, plan: Plan, run: RunDirectory, attempt: Attempt) -> None:
    """Say, and record, that a result will not be equal to the bit: the rows go on from the same place, but dropout and
    the order of sums follow the ranks."""
    before = seal.facts(checkpoint).get("ranks", plan.world_size)
    if before == plan.world_size:
        return
    print(
        f"{checkpoint.name} was saved by {count(before, 'rank')} and is resumed by {plan.world_size}: no row is missed "
        "or seen twice, but the result is no longer equal to the bit",
        flush=True,
    )
    run.record("ranks changed", attempt=attempt.number, checkpoint=checkpoint.name, before=before, now=plan.world_size)


def what_stands_on_the_base(run: RunDirectory) -> str | None:
    """The newest checkpoint, or the reference of preference training; None before either is written."""
    if saved := checkpoints.by_step(run.checkpoints):
        return saved[-1][1].name
    reference = run.folder / "reference.safetensors"
    return reference.name if reference.exists() else None


def device(plan: Plan) -> str:
    if plan.device == "mps" and not torch.backends.mps.is_available():
        raise BadInput("hardware.gpu: mps, but torch finds no such GPU on this machine; write cpu")
    return plan.device if plan.device != "cuda" else f"cuda:{os.environ.get('LOCAL_RANK', '0')}"


def newest_checkpoint(run: RunDirectory, attempt: Attempt, identity: str) -> Path | None:
    """Return the newest whole checkpoint of this run. Each newer one is named, with the reason, in log and record, and
    set aside."""

    def report(path: Path, reason: str) -> None:
        try:
            place = checkpoints.set_aside(path).relative_to(run.folder)
        except OSError as error:
            place = None
            reason = f"{reason} (it stays where it is: {error.strerror})"
        print(f"skipped {path.name}: {reason}" + (f"; it is now {place}" if place else ""), flush=True)
        run.record("checkpoint passed over", attempt=attempt.number, checkpoint=path.name, reason=reason)

    return checkpoints.newest(run.checkpoints, identity, report)


def stopped(attempt: Attempt, where: str) -> tuple[Exit, str]:
    stop = attempt.stop()
    assert stop is not None
    return (Exit.REQUEUE if stop.requeue else Exit.STOPPED), f"stopped {where}: {stop.reason}"
