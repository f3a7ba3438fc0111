"""A run with `after:` waits until its parent is DONE, can be stopped meanwhile, and fails when the parent cannot
finish."""

import signal

import pytest

from hatrain.contract.inputs import missing
from hatrain.contract.run import Exit, RunDirectory
from hatrain.runtime import seal
from tests.harness import Harness, calls, exit_codes, still_running, wait_for_line

AFTER = {"after": "earlier", "model__base": "models/earlier"}


@pytest.fixture
def harness(tmp_path):
    with Harness(tmp_path) as harness:
        yield harness


def parent(harness: Harness, *codes: int) -> RunDirectory:
    """Create a parent that was submitted and whose attempts ended with these exit codes."""
    run = harness.adopt(name="earlier")
    run.record("submitted")
    for code in codes:
        run.record("attempt begun", attempt=1)
        run.record("outcome", attempt=1, code=code, reasons={})
    return run


def finish(harness: Harness, run: RunDirectory) -> None:
    (harness.folder / "models/earlier").mkdir(parents=True)
    seal.write_json(run.done, {})


def start(harness: Harness, run: RunDirectory, **environment: str):
    return harness.start(run.folder, POLL="0.05", **environment)


def test_a_child_waits_until_its_parent_is_done_and_logs_it_once(harness):
    first, run = parent(harness), harness.adopt(**AFTER)
    child = start(harness, run)
    wait_for_line(child, "waiting for earlier to finish")
    assert calls(run) == []
    finish(harness, first)
    _, err = child.communicate(timeout=600)
    assert child.returncode == 0
    assert "waiting for earlier" not in err
    assert calls(run) == ["training finish"]


def test_a_parent_that_is_done_is_not_waited_for(harness):
    finish(harness, parent(harness))
    child = start(harness, harness.adopt(**AFTER))
    assert "waiting" not in child.communicate(timeout=600)[1]
    assert child.returncode == 0


@pytest.mark.parametrize("codes", [(), (1,), (75,), (78, 1)])
def test_a_parent_that_may_still_finish_is_waited_for(harness, codes):
    first, run = parent(harness, *codes), harness.adopt(**AFTER)
    child = start(harness, run)
    wait_for_line(child, "waiting for earlier")
    assert still_running(child, 0.5)
    finish(harness, first)
    assert exit_codes(child) == [0]


@pytest.mark.parametrize(("code", "why"), [(78, "cannot succeed"), (130, "was stopped")])
def test_a_parent_that_ended_for_good_fails_its_child(harness, code, why):
    first, run = parent(harness, code), harness.adopt(**AFTER)
    child = start(harness, run)
    _, err = child.communicate(timeout=600)
    assert child.returncode == 78
    assert f"after: earlier: it {why}" in err
    assert f"(exit code {code}), and was not submitted since; see {first.record_file}" in err
    assert run.fruitless().own == 0


@pytest.mark.parametrize("code", [None, 75])
def test_a_cancelled_parent_fails_its_child_whatever_its_exit_code(harness, code):
    first, run = parent(harness), harness.adopt(**AFTER)
    first.record("cancelled", job="7", user="ada")
    if code:
        first.record("outcome", attempt=1, code=code, reasons={})
    child = start(harness, run)
    assert "after: earlier: it was cancelled, and was not" in child.communicate(timeout=600)[1]
    assert child.returncode == 78


def test_a_parent_submitted_again_is_waited_for(harness):
    first, run = parent(harness, 78), harness.adopt(**AFTER)
    first.record("submitted")
    child = start(harness, run)
    wait_for_line(child, "waiting for earlier")
    with first.lease.held():
        # Refused once more, and a new attempt is running.
        first.record("outcome", code=78, reasons={})
        assert still_running(child, 0.5)
    assert exit_codes(child) == [78]


def test_a_chain_ends_when_its_first_run_cannot_start(harness):
    first = harness.adopt(name="earlier", data__train="nowhere.jsonl")
    run = harness.adopt(**AFTER)
    child = start(harness, run)
    wait_for_line(child, "waiting for earlier")
    assert exit_codes(start(harness, first)) == [78]
    assert exit_codes(child) == [78]


def test_a_parent_without_a_run_directory_is_waited_for_with_a_limit(harness):
    run = harness.adopt(**AFTER)
    child = start(harness, run, HATRAIN_PARENT_PATIENCE="0.5")
    _, err = child.communicate(timeout=600)
    assert child.returncode == 78
    folder = harness.folder / "runs" / "earlier"
    assert f"after: earlier: no such run: {folder} did not appear within 0.5 s" in err


def test_a_parent_that_appears_later_is_waited_for(harness):
    child = start(harness, harness.adopt(**AFTER))
    wait_for_line(child, "waiting for earlier")
    finish(harness, parent(harness))
    assert exit_codes(child) == [0]


def test_a_run_does_not_wait_for_itself(harness):
    child = start(harness, harness.adopt(name="kitchen", after="kitchen"))
    assert "cannot come after itself" in child.communicate(timeout=600)[1]
    assert child.returncode == 78


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_waiting_child_can_be_stopped_without_losing_a_retry(harness, number, code):
    parent(harness)
    run = harness.adopt(**AFTER)
    child = start(harness, run)
    wait_for_line(child, "waiting for earlier")
    child.send_signal(number)
    assert exit_codes(child) == [code]
    assert run.fruitless().own == 0
    assert [event["code"] for event in run.events() if event["event"] == "outcome"] == [code]


def test_a_stop_file_ends_the_wait(harness):
    parent(harness)
    run = harness.adopt(**AFTER)
    child = start(harness, run)
    wait_for_line(child, "waiting for earlier")
    assert run.lease.holder()
    seal.write_json(run.all_attempts()[-1].folder / "STOP", {"reason": "a person", "requeue": False})
    assert exit_codes(child) == [Exit.STOPPED]


def test_a_waiting_child_that_lost_its_lease_leaves_the_run_to_its_new_holder(harness):
    parent(harness)
    run = harness.adopt(**AFTER)
    child = start(harness, run, BEAT="0.1")
    wait_for_line(child, "waiting for earlier")
    seal.write_json(run.lease.path, {"host": "far", "pid": 1, "started": "1", "namespace": "x"})
    assert exit_codes(child) == [75]
    assert "superseded" in child.stderr.read()


def test_inputs_that_the_parent_does_not_make_are_checked_before_the_wait(harness):
    parent(harness)
    run = harness.adopt(**AFTER, data__test="nowhere.jsonl")
    child = start(harness, run)
    _, err = child.communicate(timeout=600)
    assert child.returncode == 78
    assert "data.test: nowhere.jsonl: no such file" in err
    assert "waiting" not in err


def test_inputs_that_the_parent_did_not_leave_are_missing_after_it(harness):
    seal.write_json(parent(harness).done, {})
    child = start(harness, harness.adopt(**AFTER))
    assert "model.base: models/earlier: no such folder" in child.communicate(timeout=600)[1]
    assert child.returncode == 78


def test_several_nodes_wait_for_the_parent_together(harness):
    first = parent(harness)
    run = harness.adopt(nodes=2, **AFTER)
    environment = {"HATRAIN_NODE_PATIENCE": "1"}
    leader = harness.node(0, run, **environment)
    wait_for_line(leader, "waiting for earlier")
    follower = harness.node(1, run, **environment)
    assert still_running(follower, 2)
    finish(harness, first)
    assert exit_codes(leader, follower) == [0, 0]


# --- checked before submission ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "base", ["models/earlier", "runs/earlier/adapter", "./models/earlier/part", "{folder}/models/earlier"]
)
def test_outputs_of_an_unfinished_parent_are_not_missing(tmp_path, base):
    plan = Harness(tmp_path).plan(after="earlier", model__base=base.format(folder=tmp_path))
    assert missing(plan) == []
    (tmp_path / "runs/earlier").mkdir(parents=True)
    seal.write_json(tmp_path / "runs/earlier/DONE", {})
    assert [problem.split(":")[0] for problem in missing(plan)] == ["model.base"]


def test_a_base_that_no_run_makes_is_missing(tmp_path):
    plan = Harness(tmp_path).plan(after="earlier", model__base="models/earlier-2")
    (problem,) = missing(plan)
    assert problem.startswith(f"model.base: models/earlier-2: no such folder (from {tmp_path}); accepted: ")
