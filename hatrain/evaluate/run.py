"""`python -m hatrain.evaluate.run RUN`: evaluates the base and the trained model on the test requests. hatrain.entry
starts it; it writes evaluation.json, the failures, and its exit report."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hatrain.contract.inputs import resolve
from hatrain.contract.plan import Plan
from hatrain.contract.run import Attempt, Exit, RunDirectory
from hatrain.contract.stage import run_stage, stopped
from hatrain.errors import BadInput
from hatrain.model import revision
from hatrain.model.quiet import quiet
from hatrain.runtime import seal
from hatrain.runtime.counting import Counting
from hatrain.runtime.waiting import waiting
from hatrain.text import count


def main(folder: str, number: str) -> Exit:
    """Evaluate the run and return its exit code; the reason is in `rank-evaluation.json`."""
    return run_stage("evaluation", folder, number, evaluate_run)


def evaluate_run(plan: Plan, run: RunDirectory, attempt: Attempt) -> tuple[Exit, str]:
    """Write evaluation.json: figures `before` and `after` training. Those of an earlier attempt are kept.

    A test set that cannot be judged does not fail the run: the reason is recorded as `skipped`.
    """
    with waiting("loading torch and transformers"):
        quiet()
        from hatrain.data.rows import read_rows
        from hatrain.evaluate.requests import sample
        from hatrain.evaluate.results import in_words
        from hatrain.evaluate.sources import load  # noqa: F401  for what it imports

    os.chdir(plan.paths.workdir)
    job = plan.job
    figures = _read(run.evaluation)
    if job.method.kind == "dpo":
        return _skipped(run, "the test set holds pairs, not requests")
    rows = list(read_rows(resolve(job.data.test or "", plan.paths.workdir)))
    rows = sample(rows, job.evaluation.requests, job.seed)
    losses = {event["when"]: event["loss"] for event in run.events() if event.get("event") == "test loss"}
    for when in ("before", "after"):
        if when in figures:
            continue
        try:
            evaluation = _evaluate(plan, run, attempt, when, rows)
        except BadInput as error:
            return _skipped(run, error.problems[0])
        if not evaluation.complete:
            return stopped(attempt, f"evaluating the model {when} training")
        figures[when] = {"loss": losses.get(when), **evaluation.to_dict()}
        failures = [json.dumps(failure, ensure_ascii=False) + "\n" for failure in evaluation.failures()]
        seal.write_text(run.folder / f"failures-{when}.jsonl", "".join(failures))
        seal.write_json(run.evaluation, figures)
        print(f"{when} training: {in_words(evaluation.score)}", flush=True)
    return Exit.FINISHED, "evaluated"


def _evaluate(plan: Plan, run: RunDirectory, attempt: Attempt, when: str, rows: Sequence[Any]) -> Any:
    from hatrain.evaluate import evaluate_model
    from hatrain.evaluate.sources import Source, load

    if when == "after":
        result = run.result(plan.job)
        model, tokenizer = load(Source(run.name, str(result), run))
    else:
        model, tokenizer = _untrained(revision.pinned(plan, run))
    print(f"evaluating the requests of {count(len(rows), 'test row')} {when} training", flush=True)

    def say(line: str) -> None:
        print(line, flush=True)

    progress = Counting(f"evaluation {when} training", "requests", say).at
    options: dict[str, Any] = {"progress": progress, "say": say, "today": run.today()}
    return evaluate_model(model, tokenizer, rows, should_stop=lambda: attempt.stop() is not None, **options)


def _untrained(plan: Plan) -> tuple[Any, Any]:
    """The base model at the start of training: quantised, with new tokens, its adapters at zero."""
    import torch

    from hatrain.model import token_rows
    from hatrain.model.prepare import prepare
    from hatrain.model.tokenizer import tokenizer_of

    spec = plan.job.model
    device = "cuda" if plan.device == "cuda" else "cpu"
    tokenizer = tokenizer_of(spec)
    model: Any = prepare(spec, plan.job.method.lora, tokenizer, device)[0]
    token_rows.settle(model)
    if spec.quantization is None:
        model = model.to(device, torch.bfloat16 if device == "cuda" and spec.dtype == "bf16" else model.dtype)
    return model.eval(), tokenizer


def _read(path: Path) -> dict[str, Any]:
    return {key: value for key, value in seal.read_object(path).items() if key in ("before", "after")}


def _skipped(run: RunDirectory, reason: str) -> tuple[Exit, str]:
    seal.write_json(run.evaluation, {"skipped": reason})
    print(f"not evaluated: {reason}", flush=True)
    return Exit.FINISHED, f"not evaluated: {reason}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], os.environ["HATRAIN_ATTEMPT"]))
