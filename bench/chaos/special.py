"""Faults with an outcome of their own: a disk that is full, a rank that is stopped, numbers that are not finite."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from bench.chaos.jobs import KINDS, adopt, plan_of
from bench.chaos.runner import Ended, Wrong, attempt, check_same, undisturbed
from hatrain.contract.run import RunDirectory
from hatrain.runtime import checkpoints, progress, seal

SILENCE_SECONDS = 10


def full_disk(inputs: Path, folder: Path) -> str:
    """A disk of some megabytes: 75 with one reason, the newest checkpoint whole, no partial one, and the run finishes
    once there is room."""
    disk = folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=80m", "hatrain-chaos", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        return "skipped: mounting a disk needs root"
    try:
        kind = KINDS["LoRA"]
        whole = adopt(plan_of(kind, inputs, folder / "runs", "whole-disk", checkpoints__save_total_limit=2))
        attempt(whole)
        run = adopt(plan_of(kind, inputs, disk / "runs", "disk", checkpoints__save_total_limit=2))
        filler = disk / "filler"
        ended = _attempt_on_filling_disk(run, filler)
        _expect(ended, 75, "the disk of")
        if list(run.checkpoints.glob(".partial-*")):
            raise Wrong("a partial checkpoint is left on the full disk")
        newest = checkpoints.newest(run.checkpoints, run.plan().identity)
        if newest is None:
            raise Wrong("no whole checkpoint on the full disk")
        _expect(attempt(run), 75, "free, needs")
        filler.unlink()
        _expect(attempt(run), 0, f"resuming from {newest.name}")
        check_same(run, whole)
        return f"75, {newest.name} whole; then bit-equal with room"
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def _attempt_on_filling_disk(run: RunDirectory, filler: Path) -> Ended:
    """Make an attempt, and fill its disk once two checkpoints are sealed."""

    def fill() -> None:
        while sum(event["event"] == "checkpoint sealed" for event in run.events()) < 2:
            time.sleep(0.005)
        with filler.open("wb", buffering=0) as file:
            for size in (2**20, 2**12):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    continue

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    return attempt(run)


def stopped_rank(inputs: Path, folder: Path) -> str:
    """One of two ranks stops for good: the run ends after some silence, names it, and goes on from its checkpoint."""
    kind = KINDS["two ranks"]
    whole = undisturbed(kind, inputs, folder / "runs")
    run = adopt(plan_of(kind, inputs, folder / "runs", "hung"))
    os.environ["HATRAIN_HANG_SECONDS"] = str(SILENCE_SECONDS)
    try:
        stopped: list[float] = []
        ended = _attempt_with(run, lambda: _stop_rank(run, stopped))
        seconds = time.monotonic() - stopped[0]
    finally:
        del os.environ["HATRAIN_HANG_SECONDS"]
    _expect(ended, 1, "rank 1 hangs")
    if seconds > SILENCE_SECONDS + 30:
        raise Wrong(f"a stopped rank ended the run only after {seconds:.0f} s")
    if attempt(run).code:
        raise Wrong("the run did not go on after its stopped rank")
    check_same(run, whole)
    return f"named after {seconds:.0f} s (HATRAIN_HANG_SECONDS={SILENCE_SECONDS}); then bit-equal"


def _stop_rank(run: RunDirectory, stopped: list[float]) -> None:
    attempts = run.all_attempts()
    beat = progress.read(attempts[-1].folder, 1) if attempts else None
    if not stopped and beat and beat.phase == progress.STEP and beat.step >= 4:
        os.kill(beat.pid, signal.SIGSTOP)
        stopped.append(time.monotonic())


def _attempt_with(run: RunDirectory, act: Callable[[], None]) -> Ended:
    done = threading.Event()

    def loop() -> None:
        while not done.wait(0.002):
            act()

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        return attempt(run)
    finally:
        done.set()
        thread.join()


def not_finite(inputs: Path, folder: Path) -> str:
    """Numbers that are not finite end the run for good, and spoil no checkpoint."""
    plan = plan_of(KINDS["SFT"], inputs, folder / "runs", "diverged", learning_rate=1e18, gradient_clip=0)
    run = adopt(plan)
    ended = attempt(run)
    _expect(ended, 78, "not a finite number", "not finite")
    for _, path in checkpoints.by_step(run.checkpoints):
        if damage := seal.verify(path):
            raise Wrong(f"{path}: {damage}")
    return "78, and every checkpoint is whole"


def _expect(ended: Ended, code: int, *texts: str) -> None:
    if ended.code != code or not any(text in ended.output for text in texts):
        raise Wrong(f"expected {code} and one of {texts}, found {ended.code}:\n{ended.output[-3000:]}")


CHECKS: dict[str, Callable[[Path, Path], str]] = {
    "a disk of some megabytes": full_disk,
    "a rank that is stopped": stopped_rank,
    "numbers that are not finite": not_finite,
}
