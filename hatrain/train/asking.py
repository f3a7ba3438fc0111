"""Requests to the model that is being trained: how many it meets says which checkpoint is the best. Every rank answers
its share, and nothing of training changes."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from peft import PeftModel

from hatrain.contract.inputs import resolve
from hatrain.data.replies import ReplyFinder
from hatrain.data.rows import Row, read_rows
from hatrain.errors import BadInput
from hatrain.evaluate import evaluate_model
from hatrain.evaluate.requests import read_requests, sample
from hatrain.model import attention
from hatrain.model.base import DTYPES
from hatrain.runtime import progress
from hatrain.runtime.counting import Counting
from hatrain.train.collectives import from_all_ranks
from hatrain.train.compiled import without_compiled_layers

STOP_SECONDS = 0.2
"""Between two looks for a stop that another rank has seen already."""


class Asker:
    """Asks the model of a trainer the test requests of the job, again at each look."""

    def __init__(self, trainer: Any):
        """Raises BadInput for rows that cannot be judged: now, and not at the first look."""
        self.trainer, self.today = trainer, trainer.context.run.today()
        job, workdir = trainer.context.plan.job, trainer.context.plan.paths.workdir
        path = resolve(job.data.test, workdir)
        self.rows, self.apart = rows_to_ask(list(read_rows(path)), job.evaluation.requests, job.seed)
        self.requests = len(read_requests(self.rows, ReplyFinder(trainer.processing_class, self.today)))
        if not self.requests:
            raise BadInput(f"evaluation.metric: found accuracy, but {path} has no requests; write loss")
        self._say: Callable[[str], None] | None = trainer._say

    def accuracy(self) -> float | None:
        """Return the strict accuracy of the requests, the same on all ranks, or None if a stop came first. A collective
        call; the random state, the modes and the attention of the model stay as they are."""
        trainer = self.trainer
        args, step = trainer.args, trainer.state.global_step
        started = time.monotonic()
        own = self.rows[args.process_index :: args.world_size]
        counting = Counting(f"requests at step {step}", "requests", trainer._say)
        with _as_evaluated(trainer):
            evaluation = evaluate_model(
                trainer.accelerator.unwrap_model(trainer.model_wrapped),
                trainer.processing_class,
                own,
                should_stop=self._should_stop,
                progress=lambda done, total, work: self._beat(counting, done, total, work),
                say=self._say,
                today=self.today,
            )
        self._say = None  # why a model answers slowly is said once
        score = evaluation.score
        shares = from_all_ranks((evaluation.complete, score.all.right, score.requests))
        if not all(complete for complete, _, _ in shares):
            # The first rank decides about a stop, and may see the file later than another.
            while not trainer.stop.poll():
                time.sleep(STOP_SECONDS)
            return None
        strict, requests = sum(share[1] for share in shares), sum(share[2] for share in shares)
        trainer._say(f"step {step}: {strict} of {requests} requests met, in {time.monotonic() - started:.0f} s")
        return strict / max(requests, 1)

    def _should_stop(self) -> bool:
        return self.trainer.context.attempt.stop() is not None

    def _beat(self, counting: Counting, done: int, total: int, work: float) -> None:
        self.trainer.progress.at(progress.TEST, self.trainer.state.global_step)
        counting.at(done, total, work)


def rows_to_ask(rows: Sequence[Row], requests: int, seed: int) -> tuple[list[Row], bool]:
    """Return the rows to ask during training, and whether they are apart from those of the evaluation after it: a model
    that was chosen by some requests looks better on them than on others. They are where the test set has twice as many
    rows."""
    evaluated = {row.where for row in sample(rows, requests, seed)}
    others = [row for row in rows if row.where not in evaluated]
    if len(others) >= requests:
        return sample(others, requests, seed), True
    return sample(rows, requests, seed), False


@contextlib.contextmanager
def _as_evaluated(trainer: Any) -> Iterator[None]:
    """Run the model as an evaluation does: in the dtype of the job, with transformers' own attention, without compiled
    layers. All of it is restored, the random state too."""
    model = trainer.accelerator.unwrap_model(trainer.model_wrapped)
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    device, dtype = trainer.args.device, DTYPES[trainer.context.plan.job.model.dtype]
    was_training, own = model.training, base.config._attn_implementation
    try:
        if own == attention.NAME:
            base.set_attn_implementation("sdpa")
        with (
            torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
            torch.autocast(device.type, dtype, enabled=dtype is not torch.float32),
            without_compiled_layers(base),
        ):
            yield
    finally:
        if own == attention.NAME:
            base.set_attn_implementation(own)
        model.train(was_training)
        if device.type == "cuda":
            torch.cuda.empty_cache()
