"""Several nodes make one attempt: they wait for each other, see each other's end, and leave with one code. Each node is
a process of entry on this machine, with a pretended trainer."""

import json
import signal
from pathlib import Path

import pytest

from hatrain.contract.run import RunDirectory
from hatrain.entry import nodes
from hatrain.runtime import orphans, seal
from tests.stage import Stage, calls, ends, hear, outcome, until


@pytest.fixture
def stage(tmp_path):
    with Stage(tmp_path) as stage:
        yield stage


def at_work(run: RunDirectory, count: int = 2) -> None:
    """Wait until so many pretended trainers are at work."""
    until(lambda: len(calls(run)) == count, f"{count} trainers at work")


def attempts(run: RunDirectory) -> list[int]:
    return [attempt.number for attempt in run.all_attempts()]


# --- one attempt, one code ----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3])
def test_nodes_make_one_attempt_together(stage, count):
    run = stage.adopt(nodes=count)
    started = [stage.node(rank, run) for rank in reversed(range(count))]
    assert ends(*started) == [0] * count
    assert run.done.exists()
    assert attempts(run) == [1]
    assert sorted(calls(run)) == sorted(
        ["train finish", *(f"train finish on node {n}" for n in range(1, count))]
    )
    assert [event["event"] for event in run.events()] == ["attempt begun", "model sealed", "done", "outcome"]
    assert "train finish" in (run.attempts / "1" / "log.txt").read_text()
    assert "train finish" in (run.attempts / "1" / "log-1.txt").read_text()


def test_a_node_that_comes_late_is_waited_for(stage):
    run = stage.adopt(nodes=3)
    first, second = stage.node(0, run), stage.node(2, run)
    assert "waiting for node" in hear(first, "waiting")
    assert calls(run) == []
    assert ends(first, second, stage.node(1, run, HOST="n1")) == [0, 0, 0]
    assert run.events()[0]["hosts"][1] == "n1"


def test_a_node_waits_for_node_0(stage):
    run = stage.adopt(nodes=2)
    follower = stage.node(1, run)
    hear(follower, "node 1 of 2 waits for node 0")
    assert ends(stage.node(0, run), follower) == [0, 0]


def test_a_plan_from_elsewhere_becomes_a_run_directory_once(stage):
    plan = stage.plan().model_copy(update={"nodes": 2})
    carried = stage.folder / "carried" / "plan.json"
    seal.write_text(carried, plan.model_dump_json())
    run = RunDirectory(Path(plan.paths.run))
    around = {"LOOK": "0.05", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}
    follower = stage.start(carried, **around, HATRAIN_NODE_RANK="1")
    hear(follower, "waits for node 0")
    assert ends(stage.start(carried, **around), follower) == [0, 0]
    assert run.done.exists()


@pytest.mark.parametrize(
    ("acts", "code", "reason"),
    [
        (("finish", "fault"), 1, {"rank 1": "ended without an exit report"}),
        (("fatal", "die"), 78, {"rank 0": "out of GPU memory; lower method.micro_batch_size"}),
        (("die", "fatal"), 78, {"rank 1": "out of GPU memory; lower method.micro_batch_size"}),
    ],
)
def test_the_worst_word_of_all_nodes_is_every_nodes_code(stage, acts, code, reason):
    run = stage.adopt(nodes=2)
    nodes = [stage.node(rank, run, act, PEER="30") for rank, act in enumerate(acts)]
    assert ends(*nodes) == [code, code]
    assert outcome(run)["code"] == code
    assert reason.items() <= outcome(run)["reasons"].items()


def test_every_node_says_why_it_leaves(stage):
    run = stage.adopt(nodes=2)
    stage.node(0, run, "fatal")
    _, err = stage.node(1, run, "die").communicate(timeout=60)
    assert "kitchen: fatal (78)" in err
    assert "rank 0: out of GPU memory" in err


# --- a node that is lost ------------------------------------------------------------------------------------


def test_a_trainer_that_dies_on_one_node_ends_the_others_in_their_collectives(stage):
    run = stage.adopt(nodes=3)
    acts = ("deaf", "die", "deaf")
    assert ends(*(stage.node(rank, run, act) for rank, act in enumerate(acts))) == [1, 1, 1]
    assert outcome(run)["reasons"] == {
        "node 0": "ended its ranks: node 1 left before",
        "rank 1": "ended without an exit report",
        "node 2": "still at work; ended",
    }
    assert not run.done.exists()


def test_a_node_that_fell_silent_ends_the_attempt(stage):
    run = stage.adopt(nodes=2)
    leader, follower = stage.node(0, run, "deaf"), stage.node(1, run, "deaf")
    at_work(run)
    follower.kill()
    assert ends(leader) == [1]
    assert outcome(run)["reasons"]["node 1"].startswith(f"fell silent (process {follower.pid} on ")


def test_a_node_whose_leader_fell_silent_leaves_with_a_fault(stage):
    run = stage.adopt(nodes=2)
    leader, follower = stage.node(0, run, "deaf"), stage.node(1, run, "deaf")
    at_work(run)
    leader.kill()
    _, err = follower.communicate(timeout=60)
    assert follower.returncode == 1
    assert "node 0 fell silent" in err


def test_a_node_that_stays_when_all_others_have_finished_is_ended(stage):
    run = stage.adopt(nodes=2)
    around = {"HATRAIN_STOP_GRACE": "0.3"}
    assert ends(stage.node(0, run, **around), stage.node(1, run, "deaf", **around)) == [1, 1]
    assert outcome(run)["reasons"] == {"node 1": "still at work; ended"}


def test_the_next_attempt_ends_what_each_lost_node_left_running(stage):
    run = stage.adopt(nodes=2)
    first = [stage.node(rank, run, "deaf") for rank in (0, 1)]
    at_work(run)
    for process in first:
        process.kill()
    ends(*first)
    leader, follower = (stage.node(rank, run, "deaf,finish") for rank in (0, 1))
    said = leader.communicate(timeout=60)[1] + follower.communicate(timeout=60)[1]
    assert ends(leader, follower) == [0, 0]
    # On one machine either of them may be the first to look, or both.
    assert said.count("left over from an earlier attempt") >= 2
    assert orphans.end_orphans(str(run.folder), 3, 0) == []


def test_a_replaced_node_waits_for_the_next_attempt(stage):
    run = stage.adopt(nodes=2)
    leader, follower = stage.node(0, run, "deaf", PEER="1.5"), stage.node(1, run, "deaf")
    at_work(run)
    follower.kill()
    follower.wait()
    replaced = stage.node(1, run, "finish")
    hear(replaced, "node 1 of 2 waits for node 0")
    assert leader.poll() is None, "the old attempt is still dying"
    assert ends(leader) == [1]
    assert len(calls(run)) == 2
    assert ends(stage.node(0, run, "finish"), replaced) == [0, 0]
    assert attempts(run) == [1, 2]


def test_a_replaced_node_0_begins_no_attempt_with_a_node_of_the_old_one(stage):
    run = stage.adopt(nodes=2)
    # The follower looks for its leader so rarely that the next leader comes first.
    leader, old = stage.node(0, run, "deaf"), stage.node(1, run, "deaf", LOOK_LEASE="2")
    at_work(run)
    leader.kill()
    leader.wait()
    replaced = stage.node(0, run, "deaf,finish")
    hear(replaced, "waiting for node 1 of 2")
    new = stage.node(1, run, "deaf,finish")
    assert ends(old) == [1]
    assert ends(replaced, new) == [0, 0]
    assert attempts(run) == [1, 2]


# --- stopping -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "requeue", "code"),
    [(signal.SIGTERM, True, 75), (signal.SIGUSR1, True, 75), (signal.SIGINT, False, 130)],
)
def test_a_stop_that_one_node_hears_stops_all(stage, number, requeue, code):
    run = stage.adopt(nodes=2)
    leader, follower = stage.node(0, run, "stop"), stage.node(1, run, "stop")
    at_work(run)
    follower.send_signal(number)
    assert ends(leader, follower) == [code, code]
    assert json.loads((run.attempts / "1" / "STOP").read_text()) == {
        "reason": signal.Signals(number).name,
        "requeue": requeue,
    }


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_stop_while_nodes_are_waited_for_counts_no_attempt(stage, number, code):
    run = stage.adopt(nodes=3)
    leader, follower = stage.node(0, run), stage.node(1, run)
    hear(leader, "waiting for node")
    hear(follower, "waits for node 0")
    leader.send_signal(number)
    assert ends(leader, follower) == [code, code]
    assert run.attempts_without_progress() == 0
    assert calls(run) == []


def test_a_stop_file_is_heard_while_nodes_are_waited_for(stage):
    run = stage.adopt(nodes=2)
    leader = stage.node(0, run)
    hear(leader, "waiting for node 1")
    seal.write_json(run.all_attempts()[-1].folder / "STOP", {"reason": "a person", "requeue": False})
    assert ends(leader) == [130]


def test_a_waiting_node_that_is_stopped_leaves_alone_and_may_come_back(stage):
    run = stage.adopt(nodes=2)
    follower = stage.node(1, run)
    hear(follower, "waits for node 0")
    follower.send_signal(signal.SIGTERM)
    assert ends(follower) == [75]
    leader = stage.node(0, run)
    hear(leader, "waiting for node 1")
    assert ends(leader, stage.node(1, run)) == [0, 0]


# --- patience, and nodes that cannot begin ------------------------------------------------------------------


def test_a_node_that_never_comes_is_named_and_counts_as_an_attempt(stage):
    run = stage.adopt(nodes=3)
    around = {"HATRAIN_NODE_PATIENCE": "1"}
    follower = stage.node(1, run)
    hear(follower, "waits for node 0")
    leader = stage.node(0, run, **around)
    assert ends(leader, follower) == [1, 1]
    assert list(outcome(run)["reasons"]) == ["node 2"]
    assert "did not come within 1 s" in outcome(run)["reasons"]["node 2"]
    assert run.attempts_without_progress() == 1


def test_a_node_whose_leader_never_comes_leaves_with_a_fault(stage):
    run = stage.adopt(nodes=2)
    follower = stage.node(1, run, HATRAIN_NODE_PATIENCE="0.3")
    _, err = follower.communicate(timeout=60)
    assert follower.returncode == 1
    assert "node 0: did not come within 0.3 s" in err
    assert attempts(run) == []


def test_what_one_node_misses_is_told_with_its_name_and_fails_all(stage):
    (stage.folder / "there").mkdir()
    (stage.folder / "there" / "train.jsonl").write_text('{"text": "hello"}\n')
    run = stage.adopt(nodes=2, data__train="~/train.jsonl")
    leader = stage.node(0, run, HOME=str(stage.folder / "there"))
    follower = stage.node(1, run, HOME=str(stage.folder / "elsewhere"))
    _, err = leader.communicate(timeout=60)
    assert ends(leader, follower) == [78, 78]
    assert "node 1 (" in err
    assert "data.train: ~/train.jsonl: no such file" in err
    assert calls(run) == []


def test_a_leader_that_may_not_begin_takes_the_waiting_nodes_with_it(stage):
    run = stage.adopt(nodes=2, limits__retries=0)
    run.record("attempt begun", attempt=1)
    run.new_attempt()
    follower = stage.node(1, run)
    hear(follower, "waits for node 0")
    leader = stage.node(0, run)
    _, err = follower.communicate(timeout=60)
    assert ends(leader, follower) == [78, 78]
    assert "retries used up" in err


def test_a_node_that_comes_after_its_leader_refused_leaves_as_well(stage):
    run = stage.adopt(nodes=2)
    (stage.folder / "train.jsonl").rename(stage.folder / "aside")
    for around in ({"HATRAIN_START": "7"}, {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "2"}):
        assert ends(stage.node(0, run, **around)) == [78]
        (stage.folder / "aside").rename(stage.folder / "train.jsonl")
        assert ends(stage.node(1, run, **around)) == [78]
        (stage.folder / "train.jsonl").rename(stage.folder / "aside")


@pytest.mark.parametrize("start", [("", ""), ("7.0", "7.1")])
def test_what_a_leader_said_before_does_not_concern_a_later_start(stage, start):
    run = stage.adopt(nodes=2)
    (stage.folder / "train.jsonl").rename(stage.folder / "aside")
    assert ends(stage.node(0, run, HATRAIN_START=start[0])) == [78]
    (stage.folder / "aside").rename(stage.folder / "train.jsonl")
    follower = stage.node(1, run, HATRAIN_START=start[1])
    hear(follower, "waits for node 0")
    assert ends(stage.node(0, run, HATRAIN_START=start[1]), follower) == [0, 0]


@pytest.mark.parametrize("told", ["HATRAIN_START", "MASTER_PORT"])
def test_two_jobs_that_make_the_same_run_do_not_mix(stage, told):
    run = stage.adopt(nodes=2)
    mine, other = ({told: number, "PATIENCE": "0.5"} for number in ("7", "8"))
    leader = stage.node(0, run, **mine)
    hear(leader, "waiting for node 1")
    stranger = stage.node(1, run, **other)
    hear(stranger, "waits for node 0")
    assert ends(stage.node(0, run, **other), stranger) == [78, 78]
    assert ends(leader, stage.node(1, run, **mine)) == [0, 0]


def test_another_jobs_leader_is_nobody_to_wait_for(stage):
    run = stage.adopt(nodes=2)
    leader = stage.node(0, run)
    hear(leader, "waiting for node 1")
    stranger = stage.node(1, run, MASTER_PORT="8", HATRAIN_NODE_PATIENCE="0.3")
    assert ends(stranger) == [1]
    assert leader.poll() is None


@pytest.mark.parametrize("rank", ["2", "-1", "x"])
def test_a_node_that_the_plan_has_no_place_for_is_refused(stage, rank):
    run = stage.adopt(nodes=2)
    process = stage.node(0, run, HATRAIN_NODE_RANK=rank)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 78
    assert f"HATRAIN_NODE_RANK: found '{rank}'; the plan has nodes 0 to 1" in err


@pytest.mark.parametrize("rank", [0, 1])
def test_nodes_that_have_nowhere_to_meet_are_refused_before_they_wait(stage, rank):
    run = stage.adopt(nodes=2)
    process = stage.node(rank, run, MASTER_PORT="")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 78
    assert "MASTER_PORT: not set" in err


# --- when training is over ----------------------------------------------------------------------------------


def with_test_rows(stage: Stage) -> RunDirectory:
    (stage.folder / "test.jsonl").write_text('{"text": "hello"}\n')
    return stage.adopt(nodes=2, data__test="test.jsonl", evaluation__requests=10)


def test_a_finished_run_is_left_by_every_node(stage):
    run = stage.adopt(nodes=2)
    ends(*(stage.node(rank, run) for rank in (0, 1)))
    assert ends(*(stage.node(rank, run, "fault") for rank in (0, 1))) == [0, 0]
    assert len(calls(run)) == 2


def test_nodes_do_not_wait_for_the_evaluation(stage):
    run = with_test_rows(stage)
    leader, follower = (stage.node(rank, run, ACT_EVALUATE="stop") for rank in (0, 1))
    assert ends(follower) == [0]
    until(lambda: "evaluate stop" in calls(run), "evaluation")
    assert ends(stage.node(1, run)) == [0], "one that comes only now has nothing to do"
    assert leader.poll() is None
    leader.send_signal(signal.SIGTERM)
    assert ends(leader) == [75]


@pytest.mark.parametrize("follower_first", [True, False])
def test_an_evaluation_that_is_all_that_is_left_needs_node_0_alone(stage, follower_first):
    run = with_test_rows(stage)
    ends(*(stage.node(rank, run, ACT_EVALUATE="die") for rank in (0, 1)))
    assert not run.done.exists()
    trained = calls(run)
    if follower_first:
        follower = stage.node(1, run)
        hear(follower, "waits for node 0")
        leader = stage.node(0, run, ACT_EVALUATE="stop")
    else:
        leader = stage.node(0, run, ACT_EVALUATE="stop")
        until(lambda: "evaluate stop" in calls(run), "evaluation")
        follower = stage.node(1, run)
    assert ends(follower) == [0]
    leader.send_signal(signal.SIGINT)
    assert ends(leader) == [130]
    assert calls(run) == [*trained, "evaluate stop"]
    assert ends(stage.node(0, run)) == [0]
    assert run.done.exists()


# --- what a file server may show late -----------------------------------------------------------------------


def test_looking_at_a_folder_that_is_not_there_is_no_error(tmp_path):
    nodes.look(tmp_path, tmp_path / "nowhere")


@pytest.mark.parametrize("lost", [0, 1])
def test_nodes_on_other_machines_are_known_by_their_heartbeats(stage, lost):
    run = stage.adopt(nodes=2)
    around = {"BEAT": "0.1", "STALE": "4"}
    started = [stage.node(rank, run, "deaf", HOST=f"n{rank}", **around) for rank in (0, 1)]
    at_work(run)
    started[lost].kill()
    said = started[1 - lost].communicate(timeout=60)[1]
    assert started[1 - lost].returncode == 1
    assert f"node {lost}" in said
    assert "fell silent" in said
