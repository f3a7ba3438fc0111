"""A stage after training: how it ends, and what it reports."""

import json
import os
import signal
from collections.abc import Iterator

import pytest

from hatrain.contract.run import Attempt, Exit, RunDirectory
from hatrain.contract.stage import run_stage, stopped
from hatrain.errors import BadInput
from hatrain.runtime.stop import SIGNALS, Stop
from tests.plans import a_plan


@pytest.fixture
def run(tmp_path) -> Iterator[RunDirectory]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    made = RunDirectory(tmp_path / "runs/a")
    made.adopt(a_plan(tmp_path), {})
    yield made
    for number, handler in before.items():
        signal.signal(number, handler)


def ended(run: RunDirectory, work) -> tuple[Exit, str]:
    """The exit code of a stage that does `work`, and the reason that it reports."""
    attempt = run.new_attempt()
    code = run_stage("export", str(run.folder), str(attempt.number), work)
    report = json.loads((attempt.folder / "rank-export.json").read_text())
    assert report["code"] == code
    return code, report["reason"]


def test_a_stage_ends_as_its_work_says(run):
    assert ended(run, lambda plan, run, attempt: (Exit.FINISHED, plan.job.name)) == (Exit.FINISHED, run.plan().job.name)


def test_bad_input_is_fatal_with_all_its_lines(run):
    def work(*_):
        raise BadInput(["one", "two"])

    assert ended(run, work) == (Exit.FATAL, "one\ntwo")


def test_anything_else_is_a_fault_with_its_traceback(run, capsys):
    def work(*_):
        raise OSError("no room")

    assert ended(run, work) == (Exit.FAULT, "OSError: no room")
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, Exit.REQUEUE), (signal.SIGINT, Exit.STOPPED)])
def test_a_signal_stops_it(run, number, code):
    def work(plan, run, attempt):
        os.kill(os.getpid(), number)
        assert attempt.stop() is not None
        return stopped(attempt, "exporting")

    assert ended(run, work) == (code, "stopped while exporting")


@pytest.mark.parametrize("requeue", [True, False])
def test_a_stop_that_was_requested_elsewhere_says_whether_to_go_on_later(run, requeue):
    attempt: Attempt = run.new_attempt()
    attempt.request_stop(Stop("the test", requeue=requeue))
    assert stopped(attempt, "x") == (Exit.REQUEUE if requeue else Exit.STOPPED, "stopped while x")
