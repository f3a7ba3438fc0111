"""Choosing a checkpoint by looks at the test rows during training: which jobs cannot, and what a plan says about it."""

from collections.abc import Iterator

from hatrain.contract.plan import Plan
from hatrain.contract.spec import JobSpec
from hatrain.text import count
from launch.backends.protocol import Reason


def refusals(job: JobSpec) -> Iterator[Reason]:
    """(key, reason) of each setting of the evaluation that cannot do what it says."""
    evaluation = job.evaluation
    asked = {
        "evaluation.keep": "best" if evaluation.keep == "best" else None,
        "evaluation.metric": "accuracy" if evaluation.asks else None,
        "evaluation.stop_after": evaluation.stop_after,
    }
    if job.data.test is None:
        for key, value in asked.items():
            if value is not None:
                yield key, f"found {value} without data.test, and so without looks; name a test set, or remove it"
        return
    if not evaluation.asks:
        return
    if job.method.kind == "dpo":
        yield "evaluation.metric", "found accuracy with kind: dpo, whose test rows are pairs, not requests; write loss"
    if not evaluation.requests:
        yield (
            "evaluation.requests",
            "found 0 with metric: accuracy, which asks some; write 200, or metric: loss",
        )
    if job.checkpoints.state == "sharded":
        yield (
            "checkpoints.state",
            "found sharded with evaluation.metric: accuracy: no rank has all weights to answer requests with; write "
            "full, or metric: loss",
        )


def notes(made: Plan) -> Iterator[str]:
    """What a user should know, one line each."""
    evaluation, steps = made.job.evaluation, made.steps
    if made.job.data.test is None or not evaluation.chooses:
        return
    if evaluation.stop_after and evaluation.keep == "last":
        yield (
            f"evaluation.stop_after: with keep: last the model is that of the last step, "
            f"{count(evaluation.stop_after, 'look')} past the best; keep: best keeps the best"
        )
    if steps and evaluation.eval_steps >= steps.total:
        yield (
            f"evaluation.eval_steps: {evaluation.eval_steps}, but the run has {count(steps.total, 'step')}: there is "
            "nothing to choose from; write a smaller number"
        )
