"""A run that comes after another waits for its DONE, hears a stop meanwhile, and gives up when it cannot come."""

import signal
from pathlib import Path

import pytest

from hatrain.contract.inputs import missing
from hatrain.contract.run import Exit, RunDirectory
from hatrain.runtime import seal
from tests.stage import Stage, calls, ends, hear, stays

AFTER = {"after": "earlier", "model__base": "models/earlier"}


@pytest.fixture
def stage(tmp_path):
    with Stage(tmp_path) as stage:
        yield stage


def parent(stage: Stage, *codes: int) -> RunDirectory:
    """Make a parent that was submitted, and whose attempts left with these codes."""
    run = stage.adopt(name="earlier")
    run.record("submitted")
    for code in codes:
        run.record("attempt begun", attempt=1)
        run.record("outcome", attempt=1, code=code, reasons={})
    return run


def finish(stage: Stage, run: RunDirectory) -> None:
    (stage.folder / "models/earlier").mkdir(parents=True)
    seal.write_json(run.done, {})


def start(stage: Stage, run: RunDirectory, **around: str):
    return stage.start(run.folder, LOOK="0.05", **around)


def test_a_child_waits_until_its_parent_is_done_and_says_so_once(stage):
    first, run = parent(stage), stage.adopt(**AFTER)
    child = start(stage, run)
    hear(child, "waiting for earlier to finish")
    assert calls(run) == []
    finish(stage, first)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 0
    assert "waiting for earlier" not in err
    assert calls(run) == ["train finish"]


def test_a_parent_that_is_done_is_not_waited_for(stage):
    finish(stage, parent(stage))
    child = start(stage, stage.adopt(**AFTER))
    assert "waiting" not in child.communicate(timeout=60)[1]
    assert child.returncode == 0


@pytest.mark.parametrize("codes", [(), (1,), (75,), (78, 1)])
def test_a_parent_that_may_come_yet_is_waited_for(stage, codes):
    first, run = parent(stage, *codes), stage.adopt(**AFTER)
    child = start(stage, run)
    hear(child, "waiting for earlier")
    assert stays(child, 0.5)
    finish(stage, first)
    assert ends(child) == [0]


@pytest.mark.parametrize(("code", "why"), [(78, "can never succeed"), (130, "was stopped")])
def test_a_parent_that_ended_for_good_fails_its_child(stage, code, why):
    first, run = parent(stage, code), stage.adopt(**AFTER)
    child = start(stage, run)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 78
    assert f"after: earlier: it {why}" in err
    assert f"(exit code {code}), and nothing was submitted since; see {first.record_file}" in err
    assert run.attempts_without_progress() == 0


@pytest.mark.parametrize("code", [None, 75])
def test_a_cancelled_parent_fails_its_child_however_it_left(stage, code):
    first, run = parent(stage), stage.adopt(**AFTER)
    first.record("cancelled", job="7", user="ada")
    if code:
        first.record("outcome", attempt=1, code=code, reasons={})
    child = start(stage, run)
    assert "after: earlier: it was cancelled, and nothing was" in child.communicate(timeout=60)[1]
    assert child.returncode == 78


def test_a_parent_submitted_again_is_waited_for(stage):
    first, run = parent(stage, 78), stage.adopt(**AFTER)
    first.record("submitted")
    child = start(stage, run)
    hear(child, "waiting for earlier")
    with first.lease.held():
        # Refused once more, and somebody is at it again.
        first.record("outcome", code=78, reasons={})
        assert stays(child, 0.5)
    assert ends(child) == [78]


def test_a_chain_ends_when_its_first_link_cannot_begin(stage):
    first = stage.adopt(name="earlier", data__train="nowhere.jsonl")
    run = stage.adopt(**AFTER)
    child = start(stage, run)
    hear(child, "waiting for earlier")
    assert ends(start(stage, first)) == [78]
    assert ends(child) == [78]


def test_a_parent_of_which_there_is_no_trace_is_waited_for_for_a_while(stage):
    run = stage.adopt(**AFTER)
    child = start(stage, run, HATRAIN_PARENT_PATIENCE="0.5")
    _, err = child.communicate(timeout=60)
    assert child.returncode == 78
    folder = stage.folder / "runs" / "earlier"
    assert f"after: earlier: no such run: {folder} did not appear within 0.5 s" in err


def test_a_parent_that_appears_later_is_waited_for(stage):
    child = start(stage, stage.adopt(**AFTER))
    hear(child, "waiting for earlier")
    finish(stage, parent(stage))
    assert ends(child) == [0]


def test_a_run_does_not_wait_for_itself(stage):
    child = start(stage, stage.adopt(name="kitchen", after="kitchen"))
    assert "cannot come after itself" in child.communicate(timeout=60)[1]
    assert child.returncode == 78


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_waiting_child_can_be_stopped_and_loses_no_try(stage, number, code):
    parent(stage)
    run = stage.adopt(**AFTER)
    child = start(stage, run)
    hear(child, "waiting for earlier")
    child.send_signal(number)
    assert ends(child) == [code]
    assert run.attempts_without_progress() == 0
    assert [event["code"] for event in run.events() if event["event"] == "outcome"] == [code]


def test_a_waiting_child_hears_the_stop_file(stage):
    parent(stage)
    run = stage.adopt(**AFTER)
    child = start(stage, run)
    hear(child, "waiting for earlier")
    assert run.lease.holder()
    seal.write_json(run.all_attempts()[-1].folder / "STOP", {"reason": "a person", "requeue": False})
    assert ends(child) == [Exit.STOPPED]


def test_a_waiting_child_that_lost_its_lease_leaves_the_run_to_its_new_holder(stage):
    parent(stage)
    run = stage.adopt(**AFTER)
    child = start(stage, run, BEAT="0.1")
    hear(child, "waiting for earlier")
    seal.write_json(run.lease.path, {"host": "far", "pid": 1, "started": "1", "namespace": "x"})
    assert ends(child) == [1]
    assert "lost the lease" in child.stderr.read()


def test_what_the_parent_does_not_make_is_missed_before_the_wait(stage):
    parent(stage)
    run = stage.adopt(**AFTER, data__test="nowhere.jsonl")
    child = start(stage, run)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 78
    assert "data.test: nowhere.jsonl: no such file" in err
    assert "waiting" not in err


def test_what_the_parent_did_not_leave_is_missed_after_it(stage):
    seal.write_json(parent(stage).done, {})
    child = start(stage, stage.adopt(**AFTER))
    assert "model.base: models/earlier: no such folder" in child.communicate(timeout=60)[1]
    assert child.returncode == 78


def test_several_nodes_wait_for_the_parent_together(stage):
    first = parent(stage)
    run = stage.adopt(nodes=2, **AFTER)
    around = {"HATRAIN_NODE_PATIENCE": "1"}
    leader = stage.node(0, run, **around)
    hear(leader, "waiting for earlier")
    follower = stage.node(1, run, **around)
    assert stays(follower, 2)
    finish(stage, first)
    assert ends(leader, follower) == [0, 0]


# --- what a door may ask ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "base", ["models/earlier", "runs/earlier/adapter", "./models/earlier/part", "{here}/models/earlier"]
)
def test_what_an_unfinished_parent_will_make_is_not_missing(tmp_path, base):
    plan = Stage(tmp_path).plan(after="earlier", model__base=base.format(here=tmp_path))
    assert missing(plan) == []
    (tmp_path / "runs/earlier").mkdir(parents=True)
    seal.write_json(tmp_path / "runs/earlier/DONE", {})
    assert [problem.split(":")[0] for problem in missing(plan)] == ["model.base"]


def test_what_nobody_will_make_is_missing(tmp_path):
    plan = Stage(tmp_path).plan(after="earlier", model__base="models/earlier-2")
    assert missing(plan) == [f"model.base: models/earlier-2: no such folder (from {Path(tmp_path)})"]
