"""Parts 4 and 5: runs as processes of their own, stopped, killed and resumed."""

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from bench.gpu import figures
from bench.gpu.inputs import Inputs, adopt, last_step
from bench.gpu.part import Part
from hatrain.contract.run import Attempt, Exit, RunDirectory
from hatrain.entry.process import torchrun
from hatrain.runtime import checkpoints
from hatrain.runtime.orphans import end_orphans
from hatrain.runtime.stop import Stop

# cuBLAS chooses its algorithms by the state of a workspace unless its size is fixed.
DETERMINISTIC = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}

STEPS = 60
SAVE_STEPS = 10
POLL_SECONDS = 0.05


# --- part 4 -------------------------------------------------------------------------------------------------


def stops(part: Part) -> None:
    """Two undisturbed runs and a disturbed one, side by side: what two equal runs differ by is the yardstick."""
    inputs = Inputs(part.work, part.short)
    method = {"micro_batch_size": 2, "batch_size": 4, "gradient_checkpointing": False, "learning_rate": 1e-3}
    base = inputs.base(inputs.shape("small"))
    rows = inputs.longest(4 * STEPS)
    Path(rows).write_text("".join(_lines(inputs.train, 4 * STEPS)), encoding="utf-8")
    options: dict[str, Any] = {"checkpoints": {"save_steps": SAVE_STEPS}, "logging": {"logging_steps": 1}}
    runs = [
        adopt(inputs.plan(name, base, {**method, "train": rows}, **options))
        for name in ("undisturbed", "undisturbed-again", "disturbed")
    ]
    with ThreadPoolExecutor(3) as pool:
        ends = [pool.submit(_enter_to_the_end, run) for run in runs[:2]]
        events = pool.submit(_disturb, runs[2])
        codes = [end.result() for end in ends]
        part.record("disturbed run", note=events.result())
    if codes != [Exit.FINISHED, Exit.FINISHED]:
        raise RuntimeError(f"the undisturbed runs ended with exit codes {codes}")
    first, again, disturbed = (_last_weights(run) for run in runs)
    part.record("two undisturbed runs", **compared(again, first))
    part.record("stopped, resumed, killed and resumed, against undisturbed", **compared(disturbed, first))


def compared(found: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """Whether weights are equal, and how far apart they are."""
    distance = figures.distance(found, expected)
    return {"verdict": "equal" if distance == 0 else "different", "weight_distance": distance}


def _lines(path: str, count: int) -> list[str]:
    with Path(path).open(encoding="utf-8") as stream:
        lines = [line for line, _ in zip(stream, range(count), strict=False)]
    return [lines[index % len(lines)] for index in range(count)]


def _enter_to_the_end(run: RunDirectory) -> int:
    with _entry(run) as process:
        return process.wait()


def _disturb(run: RunDirectory) -> str:
    """Stop a run by SIGTERM, resume it, kill it, resume it. Returns what happened."""
    with _entry(run) as process:
        _until(lambda: last_step(run) >= SAVE_STEPS + 2, process)
        process.send_signal(signal.SIGTERM)
        code = process.wait()
    if code != Exit.REQUEUE:
        raise RuntimeError(f"after SIGTERM the run ended with exit code {code}, expected 75")
    stopped = _newest(run)
    with _entry(run) as process:
        _until(lambda: last_step(run) >= stopped + SAVE_STEPS + 2, process)
        process.kill()
        end_orphans(str(run.folder), 0, 0)
        process.wait()
    killed, sealed = last_step(run), _newest(run)
    code = _enter_to_the_end(run)
    if code != Exit.FINISHED:
        raise RuntimeError(f"the last attempt ended with exit code {code}, expected 0")
    return f"SIGTERM: sealed step {stopped}, exit code 75; SIGKILL at step {killed}: resumed from {sealed}, finished"


@contextlib.contextmanager
def _entry(run: RunDirectory) -> Iterator[subprocess.Popen[bytes]]:
    """An attempt at a run, as a launcher makes it."""
    with (run.folder / "entry.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "hatrain.entry", str(run.folder)],
            env={**os.environ, **DETERMINISTIC},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def _until(true: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Wait for a condition. Raises RuntimeError when the process ends first; the part's time limit ends a hang."""
    while not true():
        if process.poll() is not None:
            raise RuntimeError(f"the run ended too early, with exit code {process.returncode}")
        time.sleep(POLL_SECONDS)


def _newest(run: RunDirectory) -> int:
    found = checkpoints.newest(run.checkpoints, run.plan().identity)
    if found is None:
        raise RuntimeError(f"{run.name}: no whole checkpoint")
    return int(found.name.rpartition("-")[2])


def _last_weights(run: RunDirectory) -> dict[str, Any]:
    """The trained weights of the last checkpoint, in fp32; those of model/ are rounded."""
    folder = run.checkpoints / checkpoints.folder_name(STEPS)
    return {
        name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(str(file)).items()
    }


# --- part 5 -------------------------------------------------------------------------------------------------

STRATEGIES = ("fsdp", "ddp", "zero1", "zero2", "zero3")


def strategies(part: Part) -> None:
    """Each sharding strategy on one rank with NCCL (gloo on the CPU): all side by side, for starting takes longest."""
    inputs = Inputs(part.work, part.short)
    base = inputs.base(inputs.shape("small"))
    wanted = []
    for strategy in STRATEGIES:
        if strategy == "fsdp" and inputs.device == "cpu":
            part.skip(strategy, "needs CUDA: accelerate shards on GPUs only")
        elif strategy.startswith("zero") and importlib.util.find_spec("deepspeed") is None:
            part.skip(strategy, "deepspeed is not installed")
        elif part.short and strategy in ("zero1", "zero3"):
            part.skip(strategy, "left out of the short form; zero2 stands for it")
        else:
            wanted.append(strategy)

    def measure(strategy: str) -> None:
        with part.item(strategy):
            part.record(strategy, note=_train_stop_resume(inputs, base, strategy))

    with ThreadPoolExecutor(len(wanted)) as pool:
        list(pool.map(measure, wanted))


def _train_stop_resume(inputs: Inputs, base: str, strategy: str) -> str:
    method = {"micro_batch_size": 2, "batch_size": 4, "gradient_checkpointing": False}
    options: dict[str, Any] = {"checkpoints": {"save_steps": SAVE_STEPS}, "logging": {"logging_steps": 1}}
    rows = inputs.work / f"rows-{strategy}.jsonl"
    rows.write_text("".join(_lines(inputs.train, 4 * STEPS)), encoding="utf-8")
    plan = inputs.plan(f"one-rank-{strategy}", base, {**method, "train": str(rows)}, **options)
    run = adopt(plan.model_copy(update={"sharding": strategy}))
    first = _rank(run, 1, stop_after=2)
    if first != Exit.REQUEUE:
        raise RuntimeError(f"the stopped attempt reported {first}, expected 75: {_reason(run, 1)}")
    sealed = _newest(run)
    second = _rank(run, 2)
    if second != Exit.FINISHED:
        raise RuntimeError(f"the resumed attempt reported {second}, expected 0: {_reason(run, 2)}")
    if f"resuming from checkpoint-{sealed}" not in (run.folder / "rank.log").read_text(encoding="utf-8"):
        raise RuntimeError(f"the second attempt did not resume from checkpoint-{sealed}")
    if not (run.model / "config.json").exists():
        raise RuntimeError("model/ was not saved")
    return f"trains, saves at step {sealed} of {STEPS}, resumes, ends with model/"


def _rank(run: RunDirectory, number: int, stop_after: int | None = None) -> int:
    """Run one attempt of a single rank under torchrun, and return what it reported."""
    attempt = Attempt(run.attempts / str(number))
    attempt.folder.mkdir(parents=True)
    with (run.folder / "rank.log").open("ab") as log:
        process = subprocess.Popen(
            torchrun(run.plan(), "bench.gpu.one_rank", run.folder, 0),
            env={**os.environ, **DETERMINISTIC, "HATRAIN_ATTEMPT": str(number)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            if stop_after:
                _until(lambda: last_step(run) >= stop_after, process)
                attempt.request_stop(Stop("the measurement", requeue=True))
            process.wait()
        finally:
            if process.poll() is None:
                process.kill()
    return int(attempt.outcomes([0])[0][0])


def _reason(run: RunDirectory, number: int) -> str:
    return Attempt(run.attempts / str(number)).outcomes([0])[0][1]


if __name__ == "__main__":
    this = Part.of(sys.argv[1:])
    {"stops": stops, "strategies": strategies}[this.name](this)
