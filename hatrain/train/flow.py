"""One attempt at a run, top to bottom: tokenizer, rows, model, resume, train, and the finished model."""

import os
from typing import Any

import torch.distributed as dist
from transformers import set_seed

from hatrain.contract.plan import Plan
from hatrain.contract.run import Attempt, Exit, RunDirectory
from hatrain.model import revision
from hatrain.model.prepare import prepare
from hatrain.model.tokenizer import tokenizer_of
from hatrain.train import sharding
from hatrain.train.build import build, rank
from hatrain.train.finish import finish
from hatrain.train.rows import check_unchanged, described, load_rows
from hatrain.train.trainer import StopRequested, newest_checkpoint


def train(plan: Plan, run: RunDirectory, attempt: Attempt) -> tuple[Exit, str]:
    """Run one attempt in this rank. Returns how it left, and why.

    Raises BadInput and NotFiniteError for what no retry can mend; anything else that is raised is a fault.
    """
    plan = revision.pinned(plan, run)
    job = plan.job
    os.chdir(plan.paths.workdir)
    spread = sharding.begin(plan, run)  # kept: transformers asks it how to read weights
    tokenizer = tokenizer_of(job.model)
    rows = load_rows(plan, tokenizer)
    if rank() == 0:
        print(described(rows), flush=True)
    set_seed(job.seed)  # of fresh adapters; the trainer seeds again before the first step
    model, added = prepare(job.model, job.method.lora, tokenizer, device(plan))
    trainer = build(plan, run, attempt, model, tokenizer, rows)
    del spread
    resume = from_rank_zero(newest_checkpoint(run, attempt.number) if rank() == 0 else None)
    if resume:
        check_unchanged(resume, rows.files)
        sharding.check_strategy(resume, plan)
        if rank() == 0:
            print(f"resuming from {resume.name}", flush=True)
    try:
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    except StopRequested:
        return stopped(attempt, "before the first step")
    if trainer.state.global_step < trainer.state.max_steps:
        return stopped(attempt, f"after step {trainer.state.global_step}")
    # From here on a stop only shortens what is left: the weights are ready, and writing them is the quickest end.
    trainer.note_test_loss("after")
    finish(trainer, plan, run, added)
    return Exit.FINISHED, "trained"


def device(plan: Plan) -> str:
    """Return the device of this rank, as torch names it."""
    return "cpu" if plan.device == "cpu" else f"cuda:{os.environ.get('LOCAL_RANK', '0')}"


def from_rank_zero(value: Any) -> Any:
    """Return rank 0's value on every rank."""
    if not (dist.is_available() and dist.is_initialized()):
        return value
    told = [value]
    dist.broadcast_object_list(told, src=0)
    return told[0]


def stopped(attempt: Attempt, where: str) -> tuple[Exit, str]:
    """Return how an attempt leaves that was asked to stop."""
    stop = attempt.stop()
    assert stop is not None
    return (Exit.REQUEUE if stop.requeue else Exit.STOPPED), f"stopped {where}: {stop.reason}"
