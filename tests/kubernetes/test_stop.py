"""stop.sh, which runs in a pod before Kubernetes ends it, and when the user asks for a stop. Here another process than
the first of a pod stands in for hatrain.entry."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hatrain.contract.run import RunDirectory
from hatrain.runtime import seal
from hatrain.runtime.stop import Stop
from launch.backends.kubernetes.pod import STOP

SCRIPT = Path(__file__).parents[2] / "launch/backends/kubernetes/stop.sh"
FROM_USER = json.dumps({"reason": 'hatrain stop by "ada"', "requeue": False})
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

    def start(without_handlers_for=0.0):
        process = subprocess.Popen([sys.executable, "-c", ENTRY, str(without_handlers_for)])
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def stop(process, run, request):
    script = SCRIPT.read_text()
    assert script.count("entry=1 ") == 1
    script = script.replace("entry=1 ", f"entry={process.pid} ")
    result = subprocess.run(
        ["bash", "-c", script, "stop.sh", str(run.folder), request],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def a_run(tmp_path, attempts):
    run = RunDirectory(tmp_path / "runs of $HOME" / "a run")
    for _ in range(attempts):
        run.new_attempt()
    seal.write_json(run.lease.path, {"host": "pod", "pid": 1})
    return run


def test_only_the_newest_attempt_is_asked_to_stop(tmp_path, entry):
    run = a_run(tmp_path, 11)
    assert stop(entry(), run, STOP) == "attempt 11 saves a checkpoint after its current step and exits\n"
    *earlier, newest = run.all_attempts()
    assert newest.stop() == Stop("Kubernetes ends the pod", requeue=True)
    assert [attempt.stop() for attempt in earlier] == [None] * 10
    assert {path.name for path in newest.folder.iterdir()} == {"STOP"}


@pytest.mark.parametrize("requests", [(FROM_USER, STOP), (STOP, FROM_USER), (STOP, STOP, FROM_USER, STOP)])
def test_the_request_of_the_user_is_never_overridden(tmp_path, entry, requests):
    run, process = a_run(tmp_path, 1), entry()
    for request in requests:
        stop(process, run, request)
    assert run.all_attempts()[0].stop() == Stop('hatrain stop by "ada"', requeue=False)


@pytest.mark.parametrize("attempts", [0, 1])
def test_before_an_attempt_the_request_of_the_user_becomes_a_signal(tmp_path, entry, attempts):
    run, process = a_run(tmp_path, attempts), entry()
    run.lease.path.unlink()
    assert stop(process, run, STOP) == ""
    assert process.poll() is None
    assert stop(process, run, FROM_USER) == "exits before an attempt starts\n"
    assert process.wait(timeout=600) == 100 + signal.SIGINT
    assert all(attempt.stop() is None for attempt in run.all_attempts())


def test_stop_waits_until_signals_are_handled(tmp_path, entry):
    run, process = a_run(tmp_path, 0), entry(without_handlers_for=1.0)
    start = time.monotonic()
    stop(process, run, STOP)
    assert time.monotonic() - start > 0.5
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=600) == 100 + signal.SIGTERM
