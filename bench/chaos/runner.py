"""Makes attempts at a run, strikes at the chosen moment, and checks what must hold after each: the exit code, the
checkpoint that is resumed from, and in the end every bit of the result."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.chaos import faults
from bench.chaos.faults import HARD, KILLS, MOMENTS
from bench.chaos.jobs import Kind, adopt, plan_of
from hatrain.contract.run import Attempt, RunDirectory
from hatrain.runtime import checkpoints, progress, seal

POLL_SECONDS = 0.001
LONGEST_ATTEMPT_SECONDS = 900.0


class Wrong(AssertionError):
    """Something that must hold does not."""


@dataclass
class Tally:
    """What happened to the runs of one kind."""

    kills: Counter[str] = field(default_factory=Counter)
    moments: Counter[str] = field(default_factory=Counter)
    damages: Counter[str] = field(default_factory=Counter)
    finished: int = 0
    resumes: int = 0
    steps: int = 0
    """Steps that count."""
    repeated: int = 0
    """Steps that were trained again."""
    bytes_lost: int = 0
    """Of whole checkpoints that were not resumed from."""
    to_resume: list[float] = field(default_factory=list)
    """Seconds from the start of an attempt that resumed to its first step."""
    wall: float = 0.0
    training: float = 0.0
    """Seconds that the same steps take without a fault."""

    def __iadd__(self, other: "Tally") -> "Tally":
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self

    @property
    def strikes(self) -> int:
        return sum(self.kills.values())


@dataclass
class Ended:
    code: int
    output: str
    seconds: float
    to_first_step: float | None
    struck: bool


def attempt(run: RunDirectory, moment: str | None = None, kill: str | None = None, draw: Any = None) -> Ended:
    """Make one attempt, and strike at a moment of it."""
    number = run.all_attempts()[-1].number + 1 if run.all_attempts() else 1
    current = Attempt(run.attempts / str(number))
    is_now = MOMENTS[moment](run, current, draw) if moment else None
    started, first_step, struck = time.monotonic(), None, False
    with tempfile.TemporaryFile() as output:  # not in the run's folder, whose disk may be full
        process = subprocess.Popen(
            [sys.executable, "-m", "hatrain.entry", str(run.folder)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=_hear_all_signals,
        )
        while process.poll() is None:
            if first_step is None:
                beat = progress.read(current.folder, 0)
                first_step = time.monotonic() - started if beat and beat.phase == progress.STEP else None
            if is_now is not None and not struck and is_now() and process.poll() is None:
                struck = KILLS[kill or ""].strike(run, current, process.pid)
            if time.monotonic() - started > LONGEST_ATTEMPT_SECONDS:
                process.kill()
                raise Wrong(f"{run.name}: attempt {number} did not end")
            time.sleep(POLL_SECONDS)
        output.seek(0)
        text = output.read().decode(errors="replace")
    if _has_traceback(text) and kill != "SIGKILL to a rank":
        raise Wrong(f"{run.name}: a traceback in attempt {number} ({moment}, {kill}):\n{text[-3000:]}")
    return Ended(process.returncode, text, time.monotonic() - started, first_step, struck)


def _hear_all_signals() -> None:
    """This may run under nohup, and entry leaves a SIGHUP ignored that it finds ignored."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _has_traceback(text: str) -> bool:
    """Whether there is a traceback beside torchrun's own, which it prints when a rank leaves with a code."""
    _, *found = text.split("Traceback (most recent call last)")
    return any("torch/distributed/run.py" not in each[:600] for each in found)


def undisturbed(kind: Kind, inputs: Path, runs: Path) -> RunDirectory:
    """Train a run of a kind without a fault, unless that is done."""
    run = adopt(plan_of(kind, inputs, runs, f"whole-{kind.name.replace(' ', '-').lower()}"))
    ended = attempt(run)
    if ended.code:
        raise Wrong(f"{kind.name} without a fault ended with {ended.code}:\n{ended.output[-3000:]}")
    return run


def disturb(
    kind: Kind,
    whole: RunDirectory,
    inputs: Path,
    draw: random.Random,
    kills: int,
    tally: Tally,
    say: Callable[[str], None],
) -> None:
    """Disturb one more run of a kind, until it finishes or `kills` faults have struck in all. Raises Wrong."""
    plan = plan_of(kind, inputs, whole.root, f"{whole.name.removeprefix('whole-')}-{tally.finished + 1}")
    run, so_far = adopt(plan), Tally()
    _disturb(run, plan.identity, draw, kills - tally.strikes, so_far, say)
    check_same(run, whole)
    trained = _trained_steps(run)
    so_far.finished = 1
    so_far.steps = len(set(trained))
    so_far.repeated = len(trained) - len(set(trained))
    so_far.training = seconds_of_training(whole)
    tally += so_far


MOST_STRIKES = 6
"""Of one run: then it may finish."""


def _disturb(
    run: RunDirectory, identity: str, draw: random.Random, kills: int, tally: Tally, say: Callable[[str], None]
) -> None:
    while True:
        expected = checkpoints.newest(run.checkpoints, identity)
        moment = kill = None
        if tally.strikes < min(MOST_STRIKES, kills):
            moment = draw.choice(_possible(run))
            kill = draw.choice(HARD if draw.random() < 0.7 else sorted(KILLS))
        ended = attempt(run, moment, kill, draw)
        tally.wall += ended.seconds
        _check_resumed(run, expected, ended, tally)
        if not ended.struck:
            if ended.code:
                raise Wrong(f"{run.name}: ended with {ended.code} without a fault:\n{ended.output[-3000:]}")
            return
        tally.kills[str(kill)] += 1
        tally.moments[str(moment)] += 1
        say(f"{run.name}: {kill} {moment}: {ended.code}")
        if ended.code not in KILLS[str(kill)].codes:
            raise Wrong(f"{run.name}: {kill} {moment} ended with {ended.code}:\n{ended.output[-3000:]}")
        if run.done.exists():
            return
        _damage(run, draw, tally, say)


def _possible(run: RunDirectory) -> list[str]:
    """The moments that the next attempt may have."""
    kind = run.job().method.kind
    moments = set(MOMENTS) - ({"in the reference"} if kind != "dpo" or any(run.checkpoints.glob("c*")) else set())
    if kind == "dpo" or not run.job().evaluation.requests:
        moments.discard("in the evaluation")
    return sorted(moments)


def _damage(run: RunDirectory, draw: random.Random, tally: Tally, say: Callable[[str], None]) -> None:
    done = []
    if draw.random() < 0.4:
        # An entry that was killed leaves its ranks behind: they must not write while this does.
        faults.orphans.kill(faults.processes(run))
        done.append(faults.damage_newest(run, draw))
    if draw.random() < 0.2 and run.checkpoints.is_dir():
        done.append(faults.add_odd(run, draw))
    for name in done:
        if name:
            tally.damages[name] += 1
            say(f"{run.name}: {name}")


def _check_resumed(run: RunDirectory, expected: Path | None, ended: Ended, tally: Tally) -> None:
    found = re.search(r"resuming from checkpoint-(\d+)", ended.output)
    if found:
        tally.resumes += 1
        if ended.to_first_step is not None:
            tally.to_resume.append(ended.to_first_step)
    if expected is None or (not found and ended.to_first_step is None):
        return
    step = int(expected.name.rpartition("-")[2])
    # The ranks of a killed entry may have sealed more after `expected` was looked for.
    if not found or int(found[1]) < step:
        size = sum(path.stat().st_size for path in expected.rglob("*") if path.is_file())
        tally.bytes_lost += size or 1


def check_same(run: RunDirectory, whole: RunDirectory) -> None:
    """Compare the results of two runs, to the bit. Raises Wrong."""
    for name in ("model", "adapter"):
        for file in sorted((whole.folder / name).rglob("*.safetensors")):
            other = run.folder / name / file.relative_to(whole.folder / name)
            if not other.exists() or other.read_bytes() != file.read_bytes():
                raise Wrong(f"{run.name}: {name}/{file.name} differs from that of {whole.name}")
    for what in (_losses, _test_losses, _figures, _choice):
        if what(run) != what(whole):
            raise Wrong(f"{run.name}: {what.__name__.strip('_')} differ from those of {whole.name}")


def _lines(run: RunDirectory) -> list[dict[str, Any]]:
    return seal.read_lines(run.metrics)


def _trained_steps(run: RunDirectory) -> list[int]:
    return [line["step"] for line in _lines(run) if "loss" in line]


def _losses(run: RunDirectory) -> dict[int, float]:
    return {line["step"]: line["loss"] for line in _lines(run) if "loss" in line}


def _test_losses(run: RunDirectory) -> dict[int, float]:
    return {line["step"]: line["test_loss"] for line in _lines(run) if "test_loss" in line}


def _figures(run: RunDirectory) -> Any:
    if not run.evaluation.exists():
        return None
    figures = json.loads(run.evaluation.read_text())
    return {when: figures[when].get("strict_accuracy") for when in figures}


def _choice(run: RunDirectory) -> Any:
    """What was chosen, and why, apart from when."""
    kept: dict[str, Any] = next((event for event in reversed(run.events()) if event["event"] == "kept"), {})
    return {name: value for name, value in kept.items() if name not in ("time", "attempt")}


def seconds_of_training(run: RunDirectory) -> float:
    """The seconds of an attempt that nothing disturbed, from its start to its model."""
    times = [event["time"] for event in run.events() if event["event"] in ("attempt begun", "model sealed")]
    assert len(times) == 2, times
    begun, ended = (datetime.fromisoformat(time) for time in times)
    return (ended - begun).total_seconds()
