"""Several nodes make one attempt: they wait for each other, notice when one is lost, and leave with one exit code. Each
node is an entry process on this machine, with a fake trainer."""

import json
import signal
from pathlib import Path

import pytest

from hatrain.contract.run import RunDirectory
from hatrain.entry import nodes
from hatrain.runtime import orphans, seal
from tests.harness import Harness, calls, exit_codes, outcome, until, wait_for_line


@pytest.fixture
def harness(tmp_path):
    with Harness(tmp_path) as harness:
        yield harness


def wait_for_trainers(run: RunDirectory, count: int = 2) -> None:
    """Wait until so many trainers run."""
    until(lambda: len(calls(run)) == count, f"{count} trainers")


def attempts(run: RunDirectory) -> list[int]:
    return [attempt.number for attempt in run.all_attempts()]


# --- one attempt, one code ----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3])
def test_nodes_make_one_attempt_together(harness, count):
    run = harness.adopt(nodes=count)
    started = [harness.node(rank, run) for rank in reversed(range(count))]
    assert exit_codes(*started) == [0] * count
    assert run.done.exists()
    assert attempts(run) == [1]
    assert sorted(calls(run)) == sorted(["training finish", *(f"training finish on node {n}" for n in range(1, count))])
    assert [event["event"] for event in run.events()] == ["attempt begun", "model sealed", "done", "outcome"]
    assert "training finish" in (run.attempts / "1" / "log.txt").read_text()
    assert "training finish" in (run.attempts / "1" / "log-1.txt").read_text()


def test_the_others_wait_for_a_node_that_starts_late(harness):
    run = harness.adopt(nodes=3)
    first, second = harness.node(0, run), harness.node(2, run)
    assert "waiting for node" in wait_for_line(first, "waiting")
    assert calls(run) == []
    assert exit_codes(first, second, harness.node(1, run, HOST="n1")) == [0, 0, 0]
    assert run.events()[0]["hosts"][1] == "n1"


def test_a_node_waits_for_node_0(harness):
    run = harness.adopt(nodes=2)
    follower = harness.node(1, run)
    wait_for_line(follower, "node 1 of 2 waits for node 0")
    assert exit_codes(harness.node(0, run), follower) == [0, 0]


def test_a_plan_from_elsewhere_becomes_a_run_directory_once(harness):
    plan = harness.plan().model_copy(update={"nodes": 2})
    carried = harness.folder / "carried" / "plan.json"
    seal.write_text(carried, plan.model_dump_json())
    run = RunDirectory(Path(plan.paths.run))
    environment = {"POLL": "0.05", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}
    follower = harness.start(carried, **environment, HATRAIN_NODE_RANK="1")
    wait_for_line(follower, "waits for node 0")
    assert exit_codes(harness.start(carried, **environment), follower) == [0, 0]
    assert run.done.exists()


@pytest.mark.parametrize(
    ("acts", "code", "reason"),
    [
        (("finish", "fault"), 1, {"rank 1": "ended without an exit report"}),
        (("fatal", "die"), 78, {"rank 0": "out of GPU memory; lower method.micro_batch_size"}),
        (("die", "fatal"), 78, {"rank 1": "out of GPU memory; lower method.micro_batch_size"}),
        (("full", "die"), 75, {"rank 0": "the disk is full"}),
        (("die", "full"), 75, {"rank 1": "the disk is full"}),
    ],
)
def test_the_worst_exit_code_of_all_nodes_is_every_nodes_exit_code(harness, acts, code, reason):
    run = harness.adopt(nodes=2)
    nodes = [harness.node(rank, run, act, LOST_PEER="30") for rank, act in enumerate(acts)]
    assert exit_codes(*nodes) == [code, code]
    assert outcome(run)["code"] == code
    assert reason.items() <= outcome(run)["reasons"].items()


def test_every_node_logs_the_reason_of_the_outcome(harness):
    run = harness.adopt(nodes=2)
    harness.node(0, run, "fatal")
    _, err = harness.node(1, run, "die").communicate(timeout=600)
    assert "kitchen: fatal (78)" in err
    assert "rank 0: out of GPU memory" in err


# --- a node that is lost ------------------------------------------------------------------------------------


def test_a_trainer_that_dies_on_one_node_ends_the_others_in_their_collectives(harness):
    run = harness.adopt(nodes=3)
    acts = ("ignore-stops", "die", "ignore-stops")
    assert exit_codes(*(harness.node(rank, run, act) for rank, act in enumerate(acts))) == [1, 1, 1]
    assert outcome(run)["reasons"] == {
        "node 0": "ended its ranks: node 1 left before",
        "rank 1": "ended without an exit report",
        "node 2": "did not leave in time; ended",
    }
    assert not run.done.exists()


def test_a_lost_node_ends_the_attempt(harness):
    run = harness.adopt(nodes=2)
    leader, follower = harness.node(0, run, "ignore-stops"), harness.node(1, run, "ignore-stops")
    wait_for_trainers(run)
    follower.kill()
    assert exit_codes(leader) == [1]
    assert outcome(run)["reasons"]["node 1"].startswith(f"no longer answers (process {follower.pid} on ")


def test_a_node_whose_leader_is_lost_leaves_with_a_fault(harness):
    run = harness.adopt(nodes=2)
    leader, follower = harness.node(0, run, "ignore-stops"), harness.node(1, run, "ignore-stops")
    wait_for_trainers(run)
    leader.kill()
    _, err = follower.communicate(timeout=600)
    assert follower.returncode == 1
    assert "node 0 no longer answers" in err


def test_a_node_that_stays_after_all_others_finished_is_ended(harness):
    run = harness.adopt(nodes=2)
    environment = {"HATRAIN_STOP_GRACE": "0.3"}
    assert exit_codes(harness.node(0, run, **environment), harness.node(1, run, "ignore-stops", **environment)) == [
        1,
        1,
    ]
    assert outcome(run)["reasons"] == {"node 1": "did not leave in time; ended"}


def test_the_next_attempt_kills_orphans_of_lost_nodes(harness):
    run = harness.adopt(nodes=2)
    first = [harness.node(rank, run, "ignore-stops") for rank in (0, 1)]
    wait_for_trainers(run)
    for process in first:
        process.kill()
    exit_codes(*first)
    leader, follower = (harness.node(rank, run, "ignore-stops,finish") for rank in (0, 1))
    stderr = leader.communicate(timeout=600)[1] + follower.communicate(timeout=600)[1]
    assert exit_codes(leader, follower) == [0, 0]
    # On one machine either of them may be the first to look, or both.
    assert stderr.count("of an earlier attempt") >= 2
    assert orphans.end_orphans(str(run.folder), 3, 0) == []


def test_a_replaced_node_waits_for_the_next_attempt(harness):
    run = harness.adopt(nodes=2)
    leader, follower = (
        harness.node(0, run, "ignore-stops", LOST_PEER="1.5"),
        harness.node(1, run, "ignore-stops"),
    )
    wait_for_trainers(run)
    follower.kill()
    follower.wait()
    replaced = harness.node(1, run, "finish")
    wait_for_line(replaced, "node 1 of 2 waits for node 0")
    assert leader.poll() is None, "the old attempt is still ending"
    assert exit_codes(leader) == [1]
    assert len(calls(run)) == 2
    assert exit_codes(harness.node(0, run, "finish"), replaced) == [0, 0]
    assert attempts(run) == [1, 2]


def test_a_replaced_node_0_starts_no_attempt_with_a_node_of_the_old_one(harness):
    run = harness.adopt(nodes=2)
    # The follower checks its leader so rarely that the next leader comes first.
    leader, old = harness.node(0, run, "ignore-stops"), harness.node(1, run, "ignore-stops", LEASE_POLL="2")
    wait_for_trainers(run)
    leader.kill()
    leader.wait()
    replaced = harness.node(0, run, "ignore-stops,finish")
    wait_for_line(replaced, "waiting for node 1 of 2")
    new = harness.node(1, run, "ignore-stops,finish")
    assert exit_codes(old) == [1]
    assert exit_codes(replaced, new) == [0, 0]
    assert attempts(run) == [1, 2]


# --- stopping -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "requeue", "code"),
    [(signal.SIGTERM, True, 75), (signal.SIGUSR1, True, 75), (signal.SIGINT, False, 130)],
)
def test_a_signal_to_one_node_stops_all(harness, number, requeue, code):
    run = harness.adopt(nodes=2)
    leader, follower = harness.node(0, run, "stop"), harness.node(1, run, "stop")
    wait_for_trainers(run)
    follower.send_signal(number)
    assert exit_codes(leader, follower) == [code, code]
    assert json.loads((run.attempts / "1" / "STOP").read_text()) == {
        "reason": signal.Signals(number).name,
        "requeue": requeue,
    }


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_stop_while_waiting_for_nodes_counts_no_attempt(harness, number, code):
    run = harness.adopt(nodes=3)
    leader, follower = harness.node(0, run), harness.node(1, run)
    wait_for_line(leader, "waiting for node")
    wait_for_line(follower, "waits for node 0")
    leader.send_signal(number)
    assert exit_codes(leader, follower) == [code, code]
    assert run.fruitless().own == 0
    assert calls(run) == []


def test_a_stop_file_ends_the_wait_for_nodes(harness):
    run = harness.adopt(nodes=2)
    leader = harness.node(0, run)
    wait_for_line(leader, "waiting for node 1")
    seal.write_json(run.all_attempts()[-1].folder / "STOP", {"reason": "a person", "requeue": False})
    assert exit_codes(leader) == [130]


def test_a_waiting_node_that_is_stopped_leaves_alone_and_may_come_back(harness):
    run = harness.adopt(nodes=2)
    follower = harness.node(1, run)
    wait_for_line(follower, "waits for node 0")
    follower.send_signal(signal.SIGTERM)
    assert exit_codes(follower) == [75]
    leader = harness.node(0, run)
    wait_for_line(leader, "waiting for node 1")
    assert exit_codes(leader, harness.node(1, run)) == [0, 0]


# --- patience, and nodes that cannot start ------------------------------------------------------------------


@pytest.mark.parametrize(("start", "code", "counted"), [("7.0", 1, 1), ("", 75, 0)])
def test_a_node_that_never_appears_is_named_and_is_a_fault_where_all_start_at_once(harness, start, code, counted):
    """Where each starts as there is room, there may be none for it yet."""
    run = harness.adopt(nodes=3)
    follower = harness.node(1, run, HATRAIN_START=start)
    wait_for_line(follower, "waits for node 0")
    leader = harness.node(0, run, HATRAIN_START=start, HATRAIN_NODE_PATIENCE="1")
    assert exit_codes(leader, follower) == [code, code]
    assert list(outcome(run)["reasons"]) == ["node 2"]
    assert "did not appear within 1 s" in outcome(run)["reasons"]["node 2"]
    assert run.fruitless().own == counted


def test_waits_for_a_node_that_never_appears_have_a_bound_of_their_own(harness):
    run = harness.adopt(nodes=2)
    for _ in range(46):
        run.record("outcome", code=75, reasons={"node 1": "did not appear"}, absent=True)
    environment = {"HATRAIN_NODE_PATIENCE": "0.3"}
    assert exit_codes(harness.node(0, run, **environment)) == [75]
    leader = harness.node(0, run, **environment)
    assert exit_codes(leader) == [78]
    assert "node 1: did not appear in 48 waits in a row; is there room for all 2" in leader.stderr.read()
    # A new submission begins anew.
    run.record("submitted")
    assert exit_codes(harness.node(0, run, **environment)) == [75]


def test_a_node_whose_leader_never_appears_leaves_to_be_started_again(harness):
    run = harness.adopt(nodes=2)
    follower = harness.node(1, run, HATRAIN_NODE_PATIENCE="0.3")
    _, err = follower.communicate(timeout=600)
    assert follower.returncode == 75
    assert "node 0: did not appear within 0.3 s" in err
    assert attempts(run) == []


def test_an_input_that_one_node_misses_fails_all_and_names_the_node(harness):
    (harness.folder / "there").mkdir()
    (harness.folder / "there" / "train.jsonl").write_text('{"text": "hello"}\n')
    run = harness.adopt(nodes=2, data__train="~/train.jsonl")
    leader = harness.node(0, run, HOME=str(harness.folder / "there"))
    follower = harness.node(1, run, HOME=str(harness.folder / "elsewhere"))
    _, err = leader.communicate(timeout=600)
    assert exit_codes(leader, follower) == [78, 78]
    assert "node 1 (" in err
    assert "data.train: ~/train.jsonl: no such file" in err
    assert calls(run) == []


def test_the_waiting_nodes_leave_with_a_leader_that_may_not_start(harness):
    run = harness.adopt(nodes=2, limits__retries=0)
    run.record("attempt begun", attempt=1)
    run.new_attempt()
    follower = harness.node(1, run)
    wait_for_line(follower, "waits for node 0")
    leader = harness.node(0, run)
    _, err = follower.communicate(timeout=600)
    assert exit_codes(leader, follower) == [78, 78]
    assert "retries used up" in err


def test_a_node_that_starts_after_its_leader_refused_leaves_too(harness):
    run = harness.adopt(nodes=2)
    (harness.folder / "train.jsonl").rename(harness.folder / "aside")
    for environment in ({"HATRAIN_START": "7"}, {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "2"}):
        assert exit_codes(harness.node(0, run, **environment)) == [78]
        (harness.folder / "aside").rename(harness.folder / "train.jsonl")
        assert exit_codes(harness.node(1, run, **environment)) == [78]
        (harness.folder / "train.jsonl").rename(harness.folder / "aside")


@pytest.mark.parametrize("start", [("", ""), ("7.0", "7.1")])
def test_a_refusal_of_an_earlier_start_does_not_concern_a_later_one(harness, start):
    run = harness.adopt(nodes=2)
    (harness.folder / "train.jsonl").rename(harness.folder / "aside")
    assert exit_codes(harness.node(0, run, HATRAIN_START=start[0])) == [78]
    (harness.folder / "aside").rename(harness.folder / "train.jsonl")
    follower = harness.node(1, run, HATRAIN_START=start[1])
    wait_for_line(follower, "waits for node 0")
    assert exit_codes(harness.node(0, run, HATRAIN_START=start[1]), follower) == [0, 0]


@pytest.mark.parametrize("variable", ["HATRAIN_START", "MASTER_PORT"])
def test_two_jobs_of_the_same_run_do_not_mix(harness, variable):
    run = harness.adopt(nodes=2)
    mine, other = ({variable: number, "PATIENCE": "0.5"} for number in ("7", "8"))
    leader = harness.node(0, run, **mine)
    wait_for_line(leader, "waiting for node 1")
    stranger = harness.node(1, run, **other)
    wait_for_line(stranger, "waits for node 0")
    assert exit_codes(harness.node(0, run, **other), stranger) == [78, 78]
    assert exit_codes(leader, harness.node(1, run, **mine)) == [0, 0]


def test_the_leader_of_another_job_is_not_waited_for(harness):
    run = harness.adopt(nodes=2)
    leader = harness.node(0, run)
    wait_for_line(leader, "waiting for node 1")
    stranger = harness.node(1, run, MASTER_PORT="8", HATRAIN_NODE_PATIENCE="0.3")
    assert exit_codes(stranger) == [75]
    assert leader.poll() is None


@pytest.mark.parametrize("rank", ["2", "-1", "x"])
def test_a_node_rank_outside_the_plan_is_refused(harness, rank):
    run = harness.adopt(nodes=2)
    process = harness.node(0, run, HATRAIN_NODE_RANK=rank)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 78
    assert f"HATRAIN_NODE_RANK: found '{rank}'; accepted: 0 to 1" in err


@pytest.mark.parametrize("rank", [0, 1])
def test_nodes_without_a_rendezvous_are_refused_before_they_wait(harness, rank):
    run = harness.adopt(nodes=2)
    process = harness.node(rank, run, MASTER_PORT="")
    _, err = process.communicate(timeout=600)
    assert process.returncode == 78
    assert "MASTER_PORT: not set" in err


# --- when training is over ----------------------------------------------------------------------------------


def with_test_rows(harness: Harness) -> RunDirectory:
    (harness.folder / "test.jsonl").write_text('{"text": "hello"}\n')
    return harness.adopt(nodes=2, data__test="test.jsonl", evaluation__requests=10)


def test_every_node_leaves_a_finished_run(harness):
    run = harness.adopt(nodes=2)
    exit_codes(*(harness.node(rank, run) for rank in (0, 1)))
    assert exit_codes(*(harness.node(rank, run, "fault") for rank in (0, 1))) == [0, 0]
    assert len(calls(run)) == 2


def test_nodes_do_not_wait_for_the_evaluation(harness):
    run = with_test_rows(harness)
    leader, follower = (harness.node(rank, run, ACT_EVALUATION="stop") for rank in (0, 1))
    assert exit_codes(follower) == [0]
    until(lambda: "evaluation stop" in calls(run), "evaluation")
    assert exit_codes(harness.node(1, run)) == [0], "one that starts only now has nothing to do"
    assert leader.poll() is None
    leader.send_signal(signal.SIGTERM)
    assert exit_codes(leader) == [75]


@pytest.mark.parametrize("follower_first", [True, False])
def test_an_evaluation_alone_needs_only_node_0(harness, follower_first):
    run = with_test_rows(harness)
    exit_codes(*(harness.node(rank, run, ACT_EVALUATION="die") for rank in (0, 1)))
    assert not run.done.exists()
    trained = calls(run)
    if follower_first:
        follower = harness.node(1, run)
        wait_for_line(follower, "waits for node 0")
        leader = harness.node(0, run, ACT_EVALUATION="stop")
    else:
        leader = harness.node(0, run, ACT_EVALUATION="stop")
        until(lambda: "evaluation stop" in calls(run), "evaluation")
        follower = harness.node(1, run)
    assert exit_codes(follower) == [0]
    leader.send_signal(signal.SIGINT)
    assert exit_codes(leader) == [130]
    assert calls(run) == [*trained, "evaluation stop"]
    assert exit_codes(harness.node(0, run)) == [0]
    assert run.done.exists()


# --- file servers that cache -----------------------------------------------------------------------


def test_refreshing_a_missing_folder_is_no_error(tmp_path):
    nodes.refresh(tmp_path, tmp_path / "nowhere")


@pytest.mark.parametrize("lost", [0, 1])
def test_nodes_on_other_machines_are_alive_while_their_heartbeat_is(harness, lost):
    run = harness.adopt(nodes=2)
    environment = {"BEAT": "0.1", "STALE": "4"}
    started = [harness.node(rank, run, "ignore-stops", HOST=f"n{rank}", **environment) for rank in (0, 1)]
    wait_for_trainers(run)
    started[lost].kill()
    stderr = started[1 - lost].communicate(timeout=600)[1]
    assert started[1 - lost].returncode == 1
    assert f"node {lost}" in stderr
    assert "no longer answers" in stderr
