"""One live attempt at a time: a holder on this machine is known by its process, one elsewhere by its heartbeat."""

import json
import os
import subprocess
import sys
import time

import pytest

from hatrain.runtime import lease as leases
from hatrain.runtime.lease import Lease, LeaseHeld


@pytest.fixture
def lease(tmp_path):
    return Lease(tmp_path / "run" / "lease.json")


def test_a_lease_is_held_for_a_with_block_and_names_its_holder(lease):
    lease.path.parent.mkdir()
    assert lease.holder() is None
    with lease.held(attempt=3):
        owner = lease.holder()
        assert (owner["pid"], owner["attempt"]) == (os.getpid(), 3)
    assert lease.holder() is None


def test_a_second_holder_is_refused(lease):
    with lease.held():
        with pytest.raises(LeaseHeld, match=f"process {os.getpid()} on"), lease.held():
            pass
        assert lease.holder() is not None


def test_an_exception_releases_the_lease(lease):
    with pytest.raises(ZeroDivisionError), lease.held():
        raise ZeroDivisionError
    assert lease.holder() is None


def test_one_of_many_processes_gets_the_lease(lease):
    script = (
        "import sys\nfrom pathlib import Path\nfrom hatrain.runtime.lease import *\n"
        "try:\n    with Lease(Path(sys.argv[1])).held():\n        print('held', flush=True); sys.stdin.read()\n"
        "except LeaseHeld:\n    print('refused', flush=True)\n"
    )
    command = [sys.executable, "-c", script, str(lease.path)]
    started = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    answers = [process.stdout.readline().strip() for process in started]
    for process in started:
        process.communicate()
    assert sorted(answers) == ["held"] + ["refused"] * 5


def test_a_killed_holder_on_this_machine_is_known_to_be_dead_at_once(lease):
    script = (
        "import sys\nfrom pathlib import Path\nfrom hatrain.runtime.lease import *\n"
        "with Lease(Path(sys.argv[1])).held():\n    print('held', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(lease.path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    assert lease.holder()["pid"] == process.pid
    process.kill()
    process.communicate()
    assert lease.path.exists()
    assert lease.holder() is None
    with lease.held():
        assert lease.holder()["pid"] == os.getpid()


def elsewhere(lease, age: float, **facts):
    """Write the lease of a process on another machine that was whose last heartbeat was `age` seconds ago."""
    lease.path.parent.mkdir(exist_ok=True)
    owner = {"host": "far", "pid": 1, "started": "1", "namespace": "pid:[1]", **facts}
    lease.path.write_text(json.dumps(owner))
    beat = time.time() - age
    os.utime(lease.path, (beat, beat))


def test_a_holder_elsewhere_is_alive_while_its_heartbeat_is_recent(lease):
    elsewhere(lease, leases.STALE_SECONDS - 5)
    assert lease.holder()["host"] == lease.contender()["host"] == "far"
    with pytest.raises(LeaseHeld, match="process 1 on far"), lease.held():
        pass
    elsewhere(lease, leases.STALE_SECONDS + 5)
    assert lease.contender() is None
    elsewhere(lease, leases.STALE_SECONDS + leases.SKEW_SECONDS + 5)
    assert lease.holder() is None


def test_a_lease_stamped_in_the_future_is_stale(lease):
    """A wrong clock left it; a live holder renews the stamp at its next heartbeat."""
    elsewhere(lease, -1e9)
    assert lease.holder() is lease.contender() is None
    with lease.held():
        assert lease.holder()["pid"] == os.getpid()


def test_looking_at_a_lease_writes_nothing(lease):
    elsewhere(lease, 5)
    written = []

    def audit(event, arguments):
        if looking and (event in ("os.remove", "os.rename", "os.mkdir") or (event == "open" and arguments[2] & 3)):
            written.append((event, arguments))

    looking = False
    sys.addaudithook(audit)
    looking = True
    try:
        assert lease.holder()["host"] == "far"
        assert not written
        lease.contender()
        assert written
    finally:
        looking = False


def test_a_pod_of_the_same_name_on_another_machine_is_judged_by_its_heartbeat(lease):
    mine = leases._this_process()
    numbers = mine["namespace"].partition(" ")[2]
    elsewhere(lease, 0, **{**mine, "started": "1", "namespace": f"another-boot {numbers}"})
    assert lease.holder()["started"] == "1"


def test_a_reused_process_id_is_not_the_holder(lease):
    lease.path.parent.mkdir()
    mine = leases._this_process()
    lease.path.write_text(json.dumps({**mine, "started": "1"}))
    assert lease.holder() is None


def test_a_holder_renews_its_heartbeat(lease, monkeypatch):
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.05)
    with lease.held():
        os.utime(lease.path, (1, 1))
        deadline = time.monotonic() + 600
        while lease.path.stat().st_mtime < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_lease_that_another_took_over_is_lost_and_not_released(lease, monkeypatch):
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.05)
    with lease.held() as lost:
        assert not lost.wait(0.2)
        elsewhere(lease, 0)
        assert lost.wait(600)
    assert lease.holder()["host"] == "far"


def test_a_lease_that_another_took_and_released_is_lost(lease, monkeypatch):
    """The other may have finished before this holder looked."""
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.05)
    with lease.held(token="first") as lost:
        assert not lease.is_taken("first")
        with lease.held(supersedes=lambda owner: True, token="second"):
            assert lease.is_taken("first") and not lease.is_taken("second")
        assert lease.is_taken("first")
        assert lost.wait(600)


def test_a_lease_file_that_cannot_be_read_does_not_end_its_holder(lease, monkeypatch):
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.05)
    with lease.held(token="first") as lost:
        lease.path.write_text("{")
        assert not lost.wait(0.3) and not lease.is_taken("first")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}"])
def test_a_torn_lease_has_no_holder(lease, text):
    lease.path.parent.mkdir()
    lease.path.write_text(text)
    os.utime(lease.path, (1, 1))
    assert lease.holder() is None
    with lease.held():
        assert lease.holder()["pid"] == os.getpid()
