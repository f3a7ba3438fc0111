"""stop.sh, which runs in a pod before Kubernetes ends it and when the user asks for a stop. Here another process than
the first of a pod takes entry's part."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hatrain.contract.run import RunDirectory, Stop
from hatrain.runtime import seal
from launch.backends.kubernetes.pod import STOP

SCRIPT = Path(__file__).parents[2] / "launch/backends/kubernetes/stop.sh"
USERS = json.dumps({"reason": 'hatrain stop by ada; said "now"', "requeue": False})
ENTRY = """
import signal, sys, time
time.sleep(float(sys.argv[1]))
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, frame: sys.exit(100 + number))
time.sleep(600)
"""


@pytest.fixture
def entry():
    started = []

    def start(deaf_for=0.0):
        process = subprocess.Popen([sys.executable, "-c", ENTRY, str(deaf_for)])
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def stop(process, run, word):
    script = SCRIPT.read_text()
    assert script.count("entry=1 ") == 1
    ours = script.replace("entry=1 ", f"entry={process.pid} ")
    told = subprocess.run(
        ["bash", "-c", ours, "stop.sh", str(run.folder), word], capture_output=True, text=True, timeout=60
    )
    assert told.returncode == 0, told.stderr
    return told.stdout


def a_run(tmp_path, attempts):
    run = RunDirectory(tmp_path / "runs of $HOME" / "a run")
    for _ in range(attempts):
        run.new_attempt()
    seal.write_json(run.lease.path, {"host": "pod", "pid": 1})
    return run


def test_the_newest_attempt_is_asked_and_the_others_are_not(tmp_path, entry):
    run = a_run(tmp_path, 11)
    assert stop(entry(), run, STOP) == "attempt 11 saves a checkpoint at its next step and leaves\n"
    *earlier, newest = run.all_attempts()
    assert newest.stop() == Stop("Kubernetes ends the pod", requeue=True)
    assert [attempt.stop() for attempt in earlier] == [None] * 10
    assert {path.name for path in newest.folder.iterdir()} == {"STOP"}


@pytest.mark.parametrize("words", [(USERS, STOP), (STOP, USERS), (STOP, STOP, USERS, STOP)])
def test_the_word_of_the_user_is_never_overruled(tmp_path, entry, words):
    run, process = a_run(tmp_path, 1), entry()
    for word in words:
        stop(process, run, word)
    assert run.all_attempts()[0].stop() == Stop('hatrain stop by ada; said "now"', requeue=False)


@pytest.mark.parametrize("attempts", [0, 1])
def test_before_an_attempt_the_user_is_heard_by_entry_itself_and_kubernetes_sends_its_own_signal(
    tmp_path, entry, attempts
):
    run, process = a_run(tmp_path, attempts), entry()
    run.lease.path.unlink()
    assert stop(process, run, STOP) == ""
    assert process.poll() is None
    assert stop(process, run, USERS) == "leaves before an attempt has begun\n"
    assert process.wait(timeout=60) == 100 + signal.SIGINT
    assert all(attempt.stop() is None for attempt in run.all_attempts())


def test_a_signal_that_follows_finds_an_entry_that_listens(tmp_path, entry):
    run, process = a_run(tmp_path, 0), entry(deaf_for=1.0)
    began = time.monotonic()
    stop(process, run, STOP)
    assert time.monotonic() - began > 0.5
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 100 + signal.SIGTERM
