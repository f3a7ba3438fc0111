"""What happens to a run: kills and stops at chosen moments, and damage to its checkpoints."""

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatrain.contract.run import Attempt, RunDirectory
from hatrain.runtime import checkpoints, orphans, progress, seal

# --- moments ------------------------------------------------------------------------------------------------

Moment = Callable[[RunDirectory, Attempt, random.Random], Callable[[], bool]]
"""Draws a moment of an attempt. What it returns is asked until it is true."""


def _after(shortest: float, longest: float) -> Moment:
    def drawn(run: RunDirectory, attempt: Attempt, draw: random.Random) -> Callable[[], bool]:
        moment = time.monotonic() + draw.uniform(shortest, longest)
        return lambda: time.monotonic() >= moment

    return drawn


def _in(phase: str, most_steps: int = 0) -> Moment:
    """In a phase, after up to `most_steps` more steps, and then some milliseconds."""

    def drawn(run: RunDirectory, attempt: Attempt, draw: random.Random) -> Callable[[], bool]:
        steps, delay = draw.randint(0, most_steps), draw.choice([0, 0, draw.uniform(0, 0.02)])
        first: list[int] = []

        def is_now() -> bool:
            beat = progress.read(attempt.folder, 0)
            if beat is None or beat.phase != phase:
                return False
            first[:] = first or [beat.step]
            if beat.step < first[0] + steps:
                return False
            time.sleep(delay)
            return True

        return is_now

    return drawn


def _while_there_is(pattern: str, most: int = 0) -> Moment:
    """While a file of this pattern is in the run, the first or a later one that appears."""

    def drawn(run: RunDirectory, attempt: Attempt, draw: random.Random) -> Callable[[], bool]:
        skip, delay, seen = draw.randint(0, most), draw.choice([0, draw.uniform(0, 0.03)]), set[str]()

        def is_now() -> bool:
            seen.update(path.name for path in run.folder.glob(pattern))
            if len(seen) <= skip:
                return False
            time.sleep(delay)
            return True

        return is_now

    return drawn


def _in_evaluation(run: RunDirectory, attempt: Attempt, draw: random.Random) -> Callable[[], bool]:
    after = draw.uniform(0, 8)
    begun: list[float] = []

    def is_now() -> bool:
        if run.model.exists() and attempt.has_reported(0):
            begun[:] = begun or [time.monotonic()]
        return bool(begun) and time.monotonic() >= begun[0] + after

    return is_now


MOMENTS: dict[str, Moment] = {
    "while it loads": _after(0.5, 5),
    "in a step": _in(progress.STEP, 20),
    "while a checkpoint is written": _while_there_is("checkpoints/.partial-*", 4),
    "while it copies for a checkpoint": _in(progress.SAVING, 12),
    "in the test loss": _in(progress.TEST, 10),
    "in the reference": _in(progress.REFERENCE),
    "while the model is saved": _while_there_is(".partial-*"),
    "in the evaluation": _in_evaluation,
}

# --- kills --------------------------------------------------------------------------------------------------


def processes(run: RunDirectory) -> list[int]:
    mark = f"HATRAIN_RUN={run.folder}".encode()
    return orphans.processes_with(lambda variables: mark in variables)


def _kill_all(run: RunDirectory, attempt: Attempt, entry: int) -> bool:
    """The machine is lost."""
    orphans.kill([entry, *processes(run)])
    return True


def _kill_entry(run: RunDirectory, attempt: Attempt, entry: int) -> bool:
    """The ranks go on without their entry until the next attempt ends them."""
    os.kill(entry, signal.SIGKILL)
    return True


def _kill_rank(run: RunDirectory, attempt: Attempt, entry: int) -> bool:
    """The rank, or the process of a later stage."""
    beat = progress.read(attempt.folder, 0)
    found = [beat.pid] if beat and not attempt.has_reported(0) else processes(run)
    orphans.kill(found)
    return bool(found)


def _signal(number: signal.Signals) -> Callable[[RunDirectory, Attempt, int], bool]:
    def strike(run: RunDirectory, attempt: Attempt, entry: int) -> bool:
        os.kill(entry, number)
        return True

    return strike


@dataclass(frozen=True)
class Kill:
    strike: Callable[[RunDirectory, Attempt, int], bool]
    """Returns whether there was anything to strike."""
    codes: tuple[int, ...]
    """The exit codes of entry that are right."""


KILLS = {
    "SIGKILL to everything": Kill(_kill_all, (-9,)),
    "SIGKILL to entry": Kill(_kill_entry, (-9,)),
    "SIGKILL to a rank": Kill(_kill_rank, (1, 0)),
    "SIGTERM": Kill(_signal(signal.SIGTERM), (75, 0)),
    "SIGHUP": Kill(_signal(signal.SIGHUP), (75, 0)),
    "SIGINT": Kill(_signal(signal.SIGINT), (130, 0)),
}
HARD = ("SIGKILL to everything", "SIGKILL to entry", "SIGKILL to a rank")

# --- damage -------------------------------------------------------------------------------------------------


def _cut(pattern: str) -> Callable[[Path, random.Random], None]:
    def damage(checkpoint: Path, draw: random.Random) -> None:
        file = draw.choice(sorted(checkpoint.glob(pattern)))
        content = file.read_bytes()
        file.write_bytes(content[: draw.randint(0, len(content) - 1)])

    return damage


def _flip(pattern: str) -> Callable[[Path, random.Random], None]:
    def damage(checkpoint: Path, draw: random.Random) -> None:
        file = draw.choice(sorted(path for path in checkpoint.glob(pattern) if path.is_file() and path.stat().st_size))
        content = bytearray(file.read_bytes())
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        file.write_bytes(content)

    return damage


def _rewrite_manifest(change: Callable[[dict[str, Any]], object]) -> Callable[[Path, random.Random], None]:
    def damage(checkpoint: Path, draw: random.Random) -> None:
        manifest = json.loads((checkpoint / seal.MANIFEST).read_text())
        (checkpoint / seal.MANIFEST).write_text(json.dumps(change(manifest["content"])))

    return damage


def _replace(put: Callable[[Path], None]) -> Callable[[Path, random.Random], None]:
    def damage(checkpoint: Path, draw: random.Random) -> None:
        shutil.rmtree(checkpoint)
        put(checkpoint)

    return damage


def _of_another_job(checkpoint: Path, draw: random.Random) -> None:
    facts = seal.facts(checkpoint)
    partial = checkpoint.with_name(".partial-another")
    shutil.copytree(checkpoint, partial)
    (partial / seal.MANIFEST).unlink()
    seal.seal(partial, checkpoint, **{**facts, "identity": "0" * 64})


def _unreadable(checkpoint: Path, draw: random.Random) -> None:
    """Root reads every file, but not this one."""
    (checkpoint / seal.MANIFEST).unlink()
    (checkpoint / seal.MANIFEST).symlink_to("/proc/self/mem")


DAMAGES: dict[str, Callable[[Path, random.Random], None]] = {
    "a file cut short": _cut("*.*"),
    "a flipped bit": _flip("*"),
    "a flipped bit of the manifest": _flip(seal.MANIFEST),
    "no manifest": lambda checkpoint, draw: (checkpoint / seal.MANIFEST).unlink(),
    "a manifest with files: null": _rewrite_manifest(lambda content: {**content, "files": None}),
    "an entry without a size": _rewrite_manifest(lambda content: {"files": {name: {} for name in content["files"]}}),
    "a deeply nested manifest": lambda checkpoint, draw: _write(checkpoint / seal.MANIFEST, "[" * 100_000),
    "a manifest that cannot be read": _unreadable,
    "an empty folder": _replace(Path.mkdir),
    "a dangling link": _replace(lambda path: path.symlink_to("nowhere")),
    "a file in its place": _replace(lambda path: _write(path, "notes")),
    "another job's checkpoint": _of_another_job,
}  # fmt: skip

ODD = {
    ".partial-99 as a file": lambda folder: _write(folder / ".partial-99", ""),
    "checkpoint-999 as a file": lambda folder: _write(folder / "checkpoint-999", ""),
    "checkpoint-998 as a dangling link": lambda folder: (folder / "checkpoint-998").symlink_to("nowhere"),
}
"""Entries beside the checkpoints."""


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def damage_newest(run: RunDirectory, draw: random.Random) -> str | None:
    """Damage the newest checkpoint, where there is another; None where there is none."""
    whole = [path for _, path in checkpoints.by_step(run.checkpoints) if seal.verify(path) is None]
    if len(whole) < 2:
        return None
    name = draw.choice(sorted(DAMAGES))
    DAMAGES[name](whole[-1], draw)
    return name


def add_odd(run: RunDirectory, draw: random.Random) -> str | None:
    """Put an odd entry beside the checkpoints, unless one is there."""
    name = draw.choice(sorted(ODD))
    try:
        ODD[name](run.checkpoints)
    except OSError:
        return None
    return name
