"""Telling a hung rank from a slow one, and saying which it is and where it stands."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from hatrain.contract.run import Attempt
from hatrain.entry import watchdog
from hatrain.entry.watchdog import LEAST_SECONDS, LOADING_SECONDS, MULTIPLE, PATIENT_SECONDS, Watchdog
from hatrain.runtime import progress
from hatrain.runtime.progress import LOADING, SAVING, STEP, Beat, Progress


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def attempt(tmp_path, monkeypatch):
    monkeypatch.setattr(watchdog, "STACK_SIGNAL", 0)
    monkeypatch.setattr(watchdog, "STACK_SECONDS", 0)
    (tmp_path / "attempts" / "1").mkdir(parents=True)
    return Attempt(tmp_path / "attempts" / "1")


def wait(dog, clock, seconds, every=5.0):
    """Poll for so many seconds. Returns (the reason, after how long)."""
    begun = clock.now
    while clock.now < begun + seconds:
        if reason := dog.why_hung():
            return reason, clock.now - begun
        clock.now += every
    return None, seconds


def beat(rank=0, phase=STEP, step=3, slowest=2.0):
    return Beat(rank, "here", os.getpid(), phase, step, 1, slowest)


@pytest.mark.parametrize(
    ("beats", "silence", "limit"),
    [
        ([beat()], None, LEAST_SECONDS),
        ([beat(slowest=100.0), beat(1, slowest=90.0)], None, MULTIPLE * 100),
        ([beat()], 60.0, 60.0),
        ([beat(slowest=0.0)], None, PATIENT_SECONDS),
        ([beat(), beat(1, SAVING)], None, PATIENT_SECONDS),
        ([beat(phase=SAVING)], 7000.0, 7000.0),
        ([beat(phase=LOADING, step=0, slowest=0.0)], 60.0, LOADING_SECONDS),
    ],
)
def test_the_silence_that_ends_a_run_follows_the_slowest_step_and_the_phase(attempt, beats, silence, limit):
    assert Watchdog(attempt, [0], silence).limit(beats) == limit


def test_a_rank_that_goes_on_never_hangs_and_one_that_stops_is_named(attempt, clock):
    ranks = [Progress(attempt.folder, rank) for rank in (0, 1)]
    dog = Watchdog(attempt, [0, 1], 60.0, clock)
    for step in range(30):
        ranks[0].at(STEP, step)
        ranks[0].at(STEP, step)
        ranks[1].at(STEP, min(step, 20))
        assert wait(dog, clock, 30)[0] is None
    reason, after = wait(dog, clock, 1000)
    assert 60 - 30 <= after <= 75
    assert reason.startswith(f"rank 1 hangs (process {os.getpid()} on {socket.gethostname()}): no sign of life for ")
    assert "after step 20, in a training step" in reason
    assert "\n" not in reason


def test_a_stopped_rank_is_named_though_the_other_came_less_far(attempt, clock):
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom hatrain.runtime.progress import *\n"
        "mine = Progress(Path(sys.argv[1]), 1)\nmine.at(STEP, 5)\nmine.at(STEP, 5)\nprint('ready', flush=True)\n"
        "time.sleep(600)"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(attempt.folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "ready\n"
        mine = Progress(attempt.folder, 0)
        mine.at(STEP, 4)
        mine.at(STEP, 4)
        child.send_signal(signal.SIGSTOP)
        os.waitpid(child.pid, os.WUNTRACED)
        reason, _ = wait(Watchdog(attempt, [0, 1], 60.0, clock), clock, 1000)
        assert reason.startswith(f"rank 1 hangs (process {child.pid} on ")
        assert "its process is stopped (SIGSTOP)" in reason
    finally:
        child.kill()
        child.wait()


def test_the_time_for_which_the_whole_machine_was_suspended_does_not_count(attempt, clock):
    mine = Progress(attempt.folder, 0)
    mine.at(STEP, 1)
    mine.at(STEP, 1)
    dog = Watchdog(attempt, [0], 60.0, clock)
    assert wait(dog, clock, 30)[0] is None
    clock.now += 100_000
    assert dog.why_hung() is None
    reason, after = wait(dog, clock, 1000)
    assert reason
    assert 20 <= after <= 45


def test_ranks_that_have_not_said_anything_yet_are_waited_for(attempt, clock):
    Progress(attempt.folder, 0).at(STEP, 1)
    assert wait(Watchdog(attempt, [0, 1], 60.0, clock), clock, 10_000)[0] is None


def test_a_sign_of_life_that_cannot_be_written_or_read_ends_nothing(tmp_path):
    lost = Progress(tmp_path / "nowhere", 0)
    lost.at(STEP, 3)
    assert progress.read(tmp_path / "nowhere", 0) is None
    progress.file_of(tmp_path, 0).write_bytes(b'{"rank": 0}')
    assert progress.read(tmp_path, 0) is None


def test_the_slowest_time_is_that_between_signs_of_life_within_steps(tmp_path, monkeypatch):
    times = iter([0.0, 0.0, 100.0, 101.0, 103.0, 200.0, 201.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times))
    mine = Progress(tmp_path, 0)
    for phase in (STEP, STEP, STEP, SAVING, STEP):
        mine.at(phase, 1)
    assert progress.read(tmp_path, 0).slowest == 2.0
