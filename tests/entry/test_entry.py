"""What entry promises a launcher: exit codes, retries, signals, the lease. Real processes, a pretended trainer."""

import json
import os
import signal
from pathlib import Path

import pytest

from hatrain.contract.run import RunDirectory, Stop
from hatrain.runtime import seal
from tests.plans import a_cluster, a_plan
from tests.stage import Stage, alive, begun, calls, outcome, stays, until


@pytest.fixture
def stage(tmp_path):
    with Stage(tmp_path) as stage:
        yield stage


# --- how a run ends -----------------------------------------------------------------------------------------


def test_a_finished_run_leaves_0_and_done_and_a_link_to_its_model(stage):
    run = stage.adopt()
    code, out, _ = stage.enter(run.folder)
    assert code == 0
    assert json.loads(run.done.read_text())["attempt"] == 1
    assert (stage.folder / "models" / "kitchen" / "weights").read_text() == "trained"
    assert "train finish in attempt 1" in out
    assert "train finish in attempt 1" in (run.attempts / "1" / "log.txt").read_text()
    assert [event["event"] for event in run.events()] == ["attempt begun", "model sealed", "done", "outcome"]


def test_a_finished_run_is_left_alone(stage):
    run = stage.adopt()
    stage.enter(run.folder)
    done = run.done.read_bytes()
    code, _, err = stage.enter(run.folder, "fault")
    assert code == 0
    assert "finished before" in err
    assert run.done.read_bytes() == done
    assert calls(run) == ["train finish"]


def test_a_finished_run_needs_neither_its_rows_nor_the_lease(stage):
    run = stage.adopt()
    stage.enter(run.folder)
    (stage.folder / "train.jsonl").unlink()
    with run.lease.held():
        assert stage.enter(run.folder)[0] == 0


def test_a_rank_that_died_without_a_word_is_a_fault(stage):
    run = stage.adopt()
    code, _, err = stage.enter(run.folder, "die")
    assert code == 1
    assert "rank 0: ended without an exit report" in err
    assert outcome(run)["code"] == 1
    assert not run.done.exists()


def test_a_word_that_nothing_can_help_becomes_78_with_its_reason(stage):
    run = stage.adopt()
    code, _, err = stage.enter(run.folder, "fatal")
    assert code == 78
    assert "out of GPU memory; lower method.micro_batch_size" in err
    assert outcome(run)["reasons"] == {"rank 0": "out of GPU memory; lower method.micro_batch_size"}


def test_a_rank_that_says_finished_and_left_no_model_is_a_fault(stage):
    run = stage.adopt()
    code, _, err = stage.enter(run.folder, "forget")
    assert code == 1
    assert "model is not whole" in err
    assert not run.done.exists()


def test_a_real_folder_in_the_way_of_the_link_is_left_alone(stage):
    run = stage.adopt()
    mine = stage.folder / "models" / "kitchen"
    mine.mkdir(parents=True)
    code, _, err = stage.enter(run.folder)
    assert code == 0
    assert "a real folder is in the way" in err
    assert not mine.is_symlink()


def test_a_run_goes_on_when_nobody_reads_its_output(stage):
    run = stage.adopt()
    process = stage.start(run.folder)
    process.stdout.close()
    process.stderr.close()
    assert process.wait(timeout=60) == 0
    assert "train finish" in (run.attempts / "1" / "log.txt").read_text()


# --- evaluation ---------------------------------------------------------------------------------------------


def with_test_rows(stage: Stage) -> RunDirectory:
    (stage.folder / "test.jsonl").write_text('{"text": "hello"}\n')
    return stage.adopt(data__test="test.jsonl", evaluation__requests=10)


def test_a_trained_model_is_judged_before_done(stage):
    run = with_test_rows(stage)
    assert stage.enter(run.folder)[0] == 0
    assert calls(run) == ["train finish", "evaluate finish"]


def test_an_evaluation_that_died_is_made_again_without_training_again(stage):
    run = with_test_rows(stage)
    assert stage.enter(run.folder, ACT_EVALUATE="die")[0] == 1
    assert not run.done.exists()
    code, _, err = stage.enter(run.folder)
    assert code == 0
    assert "trained before" in err
    assert calls(run) == ["train finish", "evaluate die", "evaluate finish"]


def test_a_model_damaged_since_is_trained_again(stage):
    run = with_test_rows(stage)
    stage.enter(run.folder, ACT_EVALUATE="die")
    (run.model / "weights").write_text("trainee")
    assert stage.enter(run.folder)[0] == 0
    assert calls(run)[2:] == ["train finish", "evaluate finish"]


def test_an_evaluation_may_take_longer_than_a_stop_may(stage):
    run = with_test_rows(stage)
    assert stage.enter(run.folder, ACT_EVALUATE="slow", HATRAIN_STOP_GRACE="0.2")[0] == 0


def test_an_evaluation_stops_like_training(stage):
    run = with_test_rows(stage)
    process = stage.start(run.folder, ACT_EVALUATE="stop")
    until(lambda: "evaluate stop" in calls(run), "evaluation begins")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 75
    assert outcome(run)["reasons"] == {"evaluation": "saved"}


def test_a_stop_while_training_ends_does_not_begin_an_evaluation(stage):
    run = with_test_rows(stage)
    process = stage.start(run.folder, "finish-on-stop")
    until(begun(run), "training begins")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert calls(run) == ["train finish-on-stop"]
    assert not run.done.exists()


# --- retries ------------------------------------------------------------------------------------------------


def test_attempts_that_come_to_nothing_are_counted_and_end_with_78(stage):
    run = stage.adopt(limits__retries=1)
    assert stage.enter(run.folder, "fault")[0] == 1
    assert stage.enter(run.folder, "fault")[0] == 1
    code, _, err = stage.enter(run.folder, "fault")
    assert code == 78
    assert "2 attempts in a row sealed no checkpoint" in err
    assert len(calls(run)) == 2


def test_a_run_that_makes_progress_may_be_started_as_often_as_it_likes(stage):
    run = stage.adopt(limits__retries=0)
    for _ in range(3):
        assert stage.enter(run.folder, "progress")[0] == 1
    assert stage.enter(run.folder, "progress,progress,progress,finish")[0] == 0


def test_a_new_submission_counts_anew(stage):
    run = stage.adopt(limits__retries=0)
    stage.enter(run.folder, "fault")
    assert stage.enter(run.folder, "fault")[0] == 78
    run.record("submitted")
    assert stage.enter(run.folder, "fault,finish")[0] == 0


# --- stopping -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "requeue", "code"),
    [(signal.SIGTERM, True, 75), (signal.SIGUSR1, True, 75), (signal.SIGINT, False, 130)],
)
def test_a_signal_becomes_a_stop_file_and_an_exit_code(stage, number, requeue, code):
    run = stage.adopt()
    process = stage.start(run.folder, "stop")
    until(begun(run), "training begins")
    process.send_signal(number)
    assert process.wait(timeout=30) == code
    assert json.loads((run.attempts / "1" / "STOP").read_text()) == {
        "reason": signal.Signals(number).name,
        "requeue": requeue,
    }


@pytest.mark.parametrize(("requeue", "code"), [(True, 75), (False, 130)])
def test_a_stop_file_means_queue_again_or_the_end(stage, requeue, code):
    run = stage.adopt()
    process = stage.start(run.folder, "stop")
    until(begun(run), "training begins")
    seal.write_json(run.attempts / "1" / "STOP", {"reason": "a test", "requeue": requeue})
    assert process.wait(timeout=30) == code


def test_a_second_interrupt_does_not_cost_the_checkpoint(stage):
    run = stage.adopt()
    process = stage.start(run.folder, "slow-stop")
    until(begun(run), "training begins")
    process.send_signal(signal.SIGINT)
    until((run.attempts / "1" / "STOP").exists, "the stop file")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert outcome(run)["reasons"] == {"rank 0": "saved"}


def test_a_users_stop_is_not_overruled_by_a_scheduler(stage):
    run = stage.adopt()
    process = stage.start(run.folder, "slow-stop")
    until(begun(run), "training begins")
    process.send_signal(signal.SIGINT)
    until((run.attempts / "1" / "STOP").exists, "the stop file")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 130


def test_a_user_overrules_a_schedulers_stop(stage):
    run = stage.adopt()
    process = stage.start(run.folder, "slow-stop")
    until(begun(run), "training begins")
    process.send_signal(signal.SIGTERM)
    until((run.attempts / "1" / "STOP").exists, "the stop file")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 1), (signal.SIGINT, 130)])
def test_a_trainer_deaf_to_a_stop_is_made_to_leave(stage, number, code):
    run = stage.adopt()
    process = stage.start(run.folder, "deaf", HATRAIN_STOP_GRACE="0.3")
    until(begun(run), "training begins")
    process.send_signal(number)
    assert process.wait(timeout=60) == code
    assert "was killed" in outcome(run)["reasons"]["entry"]


def test_a_signal_before_the_attempt_begins_begins_none(stage):
    run = stage.adopt()
    with run.lease.held():
        process = stage.start(run.folder)
        line = process.stderr.readline()
        assert "waiting for the attempt of process" in line
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 75
    assert run.all_attempts() == []


# --- one attempt at a time ----------------------------------------------------------------------------------


def test_a_second_attempt_beside_a_live_one_is_refused_by_name(stage):
    run = stage.adopt()
    with run.lease.held():
        code, _, err = stage.enter(run.folder, PATIENCE="0.2")
    assert code == 78
    assert f"process {os.getpid()} on" in err
    assert calls(run) == []


def test_an_attempt_waits_for_an_earlier_one_to_leave(stage):
    run = stage.adopt()
    with run.lease.held():
        process = stage.start(run.folder)
        assert "waiting" in process.stderr.readline()
    assert process.wait(timeout=30) == 0


def test_an_attempt_that_was_asked_to_stop_is_waited_for_longer(stage):
    run = stage.adopt()
    run.new_attempt().request_stop(Stop("a test", requeue=True))
    with run.lease.held():
        process = stage.start(run.folder, "fault,finish", PATIENCE="0.1")
        assert "waiting" in process.stderr.readline()
        assert stays(process, 1.5)
    assert process.wait(timeout=30) == 0


def test_an_attempt_that_waited_for_one_that_finished_trains_nothing(stage):
    run = stage.adopt()
    with run.lease.held():
        process = stage.start(run.folder)
        assert "waiting" in process.stderr.readline()
        seal.write_json(run.done, {"time": "now"})
    assert process.wait(timeout=30) == 0
    assert calls(run) == []


def test_an_attempt_that_lost_its_lease_ends_its_trainer_and_finishes_nothing(stage):
    run = stage.adopt()
    process = stage.start(run.folder, "deaf", BEAT="0.1")
    until(begun(run), "training begins")
    taken = {"host": "far", "pid": 1, "started": "1", "namespace": "x"}
    seal.write_json(run.lease.path, taken)
    assert process.wait(timeout=30) == 1
    assert "lost the lease" in outcome(run)["reasons"]["entry"]
    assert json.loads(run.lease.path.read_text()) == taken


def test_nothing_of_a_dead_attempt_goes_on_training(stage):
    run = stage.adopt()
    assert stage.enter(run.folder, "orphan")[0] == 1
    pid = json.loads((run.folder / "orphan").read_text())
    until(lambda: not alive(pid), "the orphan ends")


def test_a_trainer_whose_entry_was_killed_ends_before_the_next_attempt(stage):
    run = stage.adopt()
    process = stage.start(run.folder, "deaf")
    until(begun(run), "training begins")
    process.kill()
    process.wait()
    code, _, err = stage.enter(run.folder, "deaf,finish")
    assert code == 0
    assert "left over from an earlier attempt" in err


# --- what must be there -------------------------------------------------------------------------------------


def test_everything_that_is_missing_is_named_at_once(stage):
    run = stage.adopt(
        data__test="test.jsonl",
        model__base="models/earlier",
        model__chat_template="chat.jinja",
    )
    (stage.folder / "train.jsonl").unlink()
    code, _, err = stage.enter(run.folder)
    assert code == 78
    for problem in (
        "data.train: train.jsonl: no such file",
        "data.test: test.jsonl: no such file",
        "model.chat_template: chat.jinja: no such file",
        "model.base: models/earlier: no such folder",
    ):
        assert problem in err
    assert run.all_attempts() == []


def test_a_parent_that_is_done_lets_its_child_begin(stage):
    run = stage.adopt(after="earlier")
    seal.write_json(stage.folder / "runs" / "earlier" / "DONE", {})
    assert stage.enter(run.folder)[0] == 0


def test_a_base_on_the_hub_is_not_looked_for_here(stage):
    assert stage.enter(stage.adopt(model__base="someone/model").folder)[0] == 0


def test_a_folder_that_is_no_run_is_one_clear_line(stage):
    code, _, err = stage.enter(stage.folder / "nowhere")
    assert code == 78
    assert "is not a run" in err
    assert len(err.splitlines()) == 1


def test_a_broken_plan_is_one_clear_line(stage):
    run = stage.adopt()
    run.plan_file.write_text('{"version": 7}')
    code, _, err = stage.enter(run.folder)
    assert code == 78
    assert "not a plan that this version reads" in err
    assert "Traceback" not in err


def test_a_grace_that_is_no_number_is_one_clear_line(stage):
    code, _, err = stage.enter(stage.adopt().folder, HATRAIN_STOP_GRACE="soon")
    assert code == 78
    assert "HATRAIN_STOP_GRACE: found 'soon'" in err


# --- a plan from elsewhere ----------------------------------------------------------------------------------


def carried(stage: Stage, **changes: object) -> Path:
    """Write a plan and the files beside it outside of any run directory, as `hatrain render --out` does."""
    there = stage.folder / "carried"
    seal.write_text(there / "plan.json", stage.plan(**changes).model_dump_json())
    seal.write_text(there / "job.yaml", "name: kitchen\n")
    seal.write_text(there / "launch" / "node.sh", "true\n")
    return there / "plan.json"


def test_a_plan_from_elsewhere_becomes_a_run_directory(stage):
    code, _, _ = stage.enter(carried(stage))
    run = RunDirectory(stage.folder / "runs" / "kitchen")
    assert code == 0
    assert run.done.exists()
    assert run.job_file.read_text() == "name: kitchen\n"
    assert (run.launch / "node.sh").stat().st_mode & 0o111


def test_a_plan_from_elsewhere_resumes_the_same_run(stage):
    plan = carried(stage)
    assert stage.enter(plan, "fault")[0] == 1
    assert stage.enter(plan, "fault,finish")[0] == 0
    assert len(RunDirectory(stage.folder / "runs" / "kitchen").all_attempts()) == 2


def test_another_job_under_the_same_name_is_refused_with_the_difference(stage):
    stage.enter(carried(stage))
    code, _, err = stage.enter(carried(stage, method__learning_rate=2e-5))
    assert code == 78
    assert "method.learning_rate: 1e-05 → 2e-05" in err


def test_what_is_no_part_of_a_runs_identity_may_change(stage):
    stage.enter(carried(stage), "fault")
    assert stage.enter(carried(stage, method__micro_batch_size=4), "fault,finish")[0] == 0


# --- the children's surroundings ----------------------------------------------------------------------------


def test_children_find_the_attempt_the_clusters_environment_and_their_share_of_the_cores(stage):
    place = a_cluster(environment={"HF_HOME": "/some where", "ACT": "surroundings"})
    plan = a_plan(stage.folder, place, evaluation__requests=0)
    run = RunDirectory(Path(plan.paths.run))
    run.adopt(plan, {})
    stage.enter(run.folder, OMP_NUM_THREADS="")
    around = json.loads((run.folder / "environ").read_text())
    assert around["HATRAIN_ATTEMPT"] == "1"
    assert around["HF_HOME"] == "/some where"
    assert int(around["OMP_NUM_THREADS"]) == len(os.sched_getaffinity(0))
    assert int(around["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"]) == 600
