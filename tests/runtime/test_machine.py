"""Processes and cores of this machine: from /proc, and by ps where there is none, as on macOS."""

import os
import subprocess
import sys

import pytest

from hatrain.runtime import machine, memory
from tests.require import need

BOTH = pytest.mark.parametrize("has_proc", [True, False], ids=["proc", "ps"])


@pytest.fixture
def system(has_proc, monkeypatch, tmp_path):
    if not has_proc:
        need("ps")
        monkeypatch.setattr(machine, "PROC", tmp_path / "no-proc")


@pytest.fixture
def child():
    """A process that waits for its input to end."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    yield process
    process.kill()
    process.communicate()


@BOTH
def test_a_process_keeps_its_start_while_it_lives(system, child):
    started = machine.process_start(child.pid)
    assert started and started == machine.process_start(child.pid)
    assert not set(started) & set("._ ")  # it stands in the ids of local jobs
    assert machine.process_state(child.pid) is not None


@BOTH
def test_one_that_has_ended_has_none_also_while_its_parent_has_not_read_its_end(system, child):
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert machine.process_start(child.pid) is None
    assert machine.process_state(child.pid) == "Z"
    child.wait()
    assert machine.process_start(child.pid) is None
    assert machine.process_state(child.pid) is None


def test_a_listing_of_ps_is_read_into_variables_whose_values_may_hold_blanks():
    listing = (
        "    1 /sbin/launchd\n"
        "  812 /opt/python -m hatrain.train /Users/ada/my runs/kitchen HATRAIN_RUN=/Users/ada/my runs/kitchen "
        "HATRAIN_ATTEMPT=2 PATH=/usr/bin:/bin\n"
        "broken\n"
    )
    (first, _), (pid, variables) = machine.in_listing(listing)
    assert (first, pid) == (1, 812)
    assert variables[1:] == [b"HATRAIN_RUN=/Users/ada/my runs/kitchen", b"HATRAIN_ATTEMPT=2", b"PATH=/usr/bin:/bin"]


def test_without_the_programs_nothing_is_known_and_nothing_fails(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "PROC", tmp_path / "no-proc")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.process_start(os.getpid()) is None
    assert list(machine.environments()) == []


def test_cores_and_memory_are_known_where_linux_own_calls_are_missing(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_SELF", tmp_path / "cgroup")
    assert machine.cores() == os.cpu_count()
    assert memory.available() == machine.physical_memory() // 2 > 0
