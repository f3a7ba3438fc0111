"""What entry promises a launcher: exit codes, retries, signals, the lease. Real processes, a fake trainer."""

import json
import os
import signal
from pathlib import Path

import pytest

from hatrain.contract.run import RunDirectory
from hatrain.runtime import seal
from hatrain.runtime.stop import Stop
from tests.harness import Harness, alive, calls, has_started, outcome, still_running, until
from tests.plans import a_cluster, a_plan


@pytest.fixture
def harness(tmp_path):
    with Harness(tmp_path) as harness:
        yield harness


# --- how a run ends -----------------------------------------------------------------------------------------


def test_a_finished_run_exits_0_with_done_and_a_link_to_its_model(harness):
    run = harness.adopt()
    code, out, _ = harness.enter(run.folder)
    assert code == 0
    assert json.loads(run.done.read_text())["attempt"] == 1
    assert (harness.folder / "models" / "kitchen" / "weights").read_text() == "trained"
    assert "training finish in attempt 1" in out
    assert "training finish in attempt 1" in (run.attempts / "1" / "log.txt").read_text()
    assert [event["event"] for event in run.events()] == ["attempt begun", "model sealed", "done", "outcome"]


def test_a_finished_run_is_not_started_again(harness):
    run = harness.adopt()
    harness.enter(run.folder)
    done = run.done.read_bytes()
    code, _, err = harness.enter(run.folder, "fault")
    assert code == 0
    assert "finished before" in err
    assert run.done.read_bytes() == done
    assert calls(run) == ["training finish"]


def test_a_finished_run_needs_neither_its_rows_nor_the_lease(harness):
    run = harness.adopt()
    harness.enter(run.folder)
    (harness.folder / "train.jsonl").unlink()
    with run.lease.held():
        assert harness.enter(run.folder)[0] == 0


def test_a_rank_without_an_exit_report_is_a_fault(harness):
    run = harness.adopt()
    code, _, err = harness.enter(run.folder, "die")
    assert code == 1
    assert "rank 0: ended without an exit report" in err
    assert outcome(run)["code"] == 1
    assert not run.done.exists()


def test_a_fatal_exit_report_becomes_78_with_its_reason(harness):
    run = harness.adopt()
    code, _, err = harness.enter(run.folder, "fatal")
    assert code == 78
    assert "out of GPU memory; lower method.micro_batch_size" in err
    assert outcome(run)["reasons"] == {"rank 0": "out of GPU memory; lower method.micro_batch_size"}


def test_a_rank_that_reports_finished_without_a_model_is_a_fault(harness):
    run = harness.adopt()
    code, _, err = harness.enter(run.folder, "forget")
    assert code == 1
    assert "training finished, but left" in err
    assert not run.done.exists()


def test_a_real_folder_in_the_way_of_the_link_is_left_alone(harness):
    run = harness.adopt()
    mine = harness.folder / "models" / "kitchen"
    mine.mkdir(parents=True)
    code, _, err = harness.enter(run.folder)
    assert code == 0
    assert "a real folder is in the way" in err
    assert not mine.is_symlink()


def test_a_run_goes_on_when_nobody_reads_its_output(harness):
    run = harness.adopt()
    process = harness.start(run.folder)
    process.stdout.close()
    process.stderr.close()
    assert process.wait(timeout=600) == 0
    assert "training finish" in (run.attempts / "1" / "log.txt").read_text()


# --- evaluation ---------------------------------------------------------------------------------------------


def with_test_rows(harness: Harness) -> RunDirectory:
    (harness.folder / "test.jsonl").write_text('{"text": "hello"}\n')
    return harness.adopt(data__test="test.jsonl", evaluation__requests=10)


def test_a_trained_model_is_evaluated_before_done(harness):
    run = with_test_rows(harness)
    assert harness.enter(run.folder)[0] == 0
    assert calls(run) == ["training finish", "evaluation finish"]


def test_a_model_gets_its_card_at_the_end_of_each_attempt(harness):
    run = with_test_rows(harness)
    assert harness.enter(run.folder, ACT_EVALUATION="die")[0] == 1
    card = run.model / "README.md"
    assert "Not evaluated: the run has no evaluation." in card.read_text()
    assert " in 1 attempt, evaluation and export included" in card.read_text()
    assert harness.enter(run.folder)[0] == 0
    assert " in 2 attempts, evaluation and export included" in card.read_text()
    assert str(harness.folder) not in card.read_text()


def test_an_evaluation_that_failed_is_repeated_without_training_again(harness):
    run = with_test_rows(harness)
    assert harness.enter(run.folder, ACT_EVALUATION="die")[0] == 1
    assert not run.done.exists()
    code, _, err = harness.enter(run.folder)
    assert code == 0
    assert "training is done" in err
    assert calls(run) == ["training finish", "evaluation die", "evaluation finish"]


def test_a_model_damaged_since_is_trained_again(harness):
    run = with_test_rows(harness)
    harness.enter(run.folder, ACT_EVALUATION="die")
    (run.model / "weights").write_text("trainee")
    assert harness.enter(run.folder)[0] == 0
    assert calls(run)[2:] == ["training finish", "evaluation finish"]


def test_a_later_stage_that_failed_is_repeated_without_the_stages_before_it(harness):
    run = with_test_rows(harness)
    assert harness.enter(run.folder, LATER_STAGE="1", ACT_REPORT="fault")[0] == 1
    assert outcome(run)["reasons"] == {"report": "ended without an exit report"}
    assert not run.done.exists()
    code, _, err = harness.enter(run.folder, LATER_STAGE="1")
    assert code == 0
    assert "training is done" in err and "evaluation is done" in err
    assert calls(run) == ["training finish", "evaluation finish", "report fault", "report finish"]


def test_a_run_of_a_version_without_a_stage_stays_finished(harness):
    run = with_test_rows(harness)
    assert harness.enter(run.folder)[0] == 0
    assert harness.enter(run.folder, LATER_STAGE="1")[0] == 0
    assert calls(run) == ["training finish", "evaluation finish"]


def with_export(harness: Harness) -> RunDirectory:
    (harness.folder / "test.jsonl").write_text('{"text": "hello"}\n')
    changes = {"data__test": "test.jsonl", "evaluation__requests": 10, "export__gguf": ["f16", "q4_k_m"]}
    return harness.adopt(**changes)


def test_a_trained_model_is_exported_after_its_evaluation(harness):
    run = with_export(harness)
    assert harness.enter(run.folder)[0] == 0
    assert calls(run) == ["training finish", "evaluation finish", "export finish"]
    assert run.done.exists()


def test_a_failed_export_never_trains_again(harness):
    run = with_export(harness)
    assert harness.enter(run.folder, ACT_EXPORT="fatal")[0] == 78
    assert not run.done.exists()
    code, _, err = harness.enter(run.folder)
    assert code == 0
    assert "training is done" in err and "evaluation is done" in err
    assert calls(run) == ["training finish", "evaluation finish", "export fatal", "export finish"]


def test_an_export_of_a_model_that_was_trained_again_is_repeated(harness):
    run = with_export(harness)
    assert harness.enter(run.folder, LATER_STAGE="1", ACT_REPORT="die")[0] == 1
    partial = run.folder / ".partial"
    seal.write_text(partial / "weights", "trained otherwise")
    seal.seal(partial, run.model)
    assert harness.enter(run.folder, LATER_STAGE="1")[0] == 0
    assert calls(run)[2:] == ["export finish", "report die", "export finish", "report finish"]


def test_an_evaluation_may_take_longer_than_a_stop_may(harness):
    run = with_test_rows(harness)
    assert harness.enter(run.folder, ACT_EVALUATION="slow", HATRAIN_STOP_GRACE="0.2")[0] == 0


def test_an_evaluation_stops_like_training(harness):
    run = with_test_rows(harness)
    process = harness.start(run.folder, ACT_EVALUATION="stop")
    until(lambda: "evaluation stop" in calls(run), "evaluation starts")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=600) == 75
    assert outcome(run)["reasons"] == {"evaluation": "saved"}


def test_a_stop_at_the_end_of_training_starts_no_evaluation(harness):
    run = with_test_rows(harness)
    process = harness.start(run.folder, "finish-on-stop")
    until(has_started(run), "training starts")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=600) == 130
    assert calls(run) == ["training finish-on-stop"]
    assert not run.done.exists()


# --- retries ------------------------------------------------------------------------------------------------


def test_attempts_without_progress_are_counted_and_end_with_78(harness):
    run = harness.adopt(limits__retries=1)
    assert harness.enter(run.folder, "fault")[0] == 1
    assert harness.enter(run.folder, "fault")[0] == 1
    code, _, err = harness.enter(run.folder, "fault")
    assert code == 78
    assert "2 attempts in a row sealed no checkpoint" in err
    assert len(calls(run)) == 2


def test_a_run_that_makes_progress_is_started_without_limit(harness):
    run = harness.adopt(limits__retries=0)
    for _ in range(3):
        assert harness.enter(run.folder, "progress")[0] == 1
    assert harness.enter(run.folder, "progress,progress,progress,finish")[0] == 0


def test_every_attempt_records_the_date_of_the_first(harness):
    run = harness.adopt()
    harness.enter(run.folder, "progress")
    (first,) = (event for event in run.events() if event["event"] == "attempt begun")
    lines = run.record_file.read_text().replace(first["date"], "2026-02-27")
    run.record_file.write_text(lines)
    harness.enter(run.folder, "progress,finish")
    assert [event["date"] for event in run.events() if event["event"] == "attempt begun"] == ["2026-02-27"] * 2


def test_a_submission_resets_the_count(harness):
    run = harness.adopt(limits__retries=0)
    harness.enter(run.folder, "fault")
    assert harness.enter(run.folder, "fault")[0] == 78
    run.record("submitted")
    assert harness.enter(run.folder, "fault,finish")[0] == 0


# --- stopping -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "requeue", "code"),
    [
        (signal.SIGTERM, True, 75),
        (signal.SIGUSR1, True, 75),
        (signal.SIGHUP, True, 75),
        (signal.SIGINT, False, 130),
    ],
)
def test_a_signal_becomes_a_stop_file_and_an_exit_code(harness, number, requeue, code):
    run = harness.adopt()
    process = harness.start(run.folder, "stop")
    until(has_started(run), "training starts")
    process.send_signal(number)
    assert process.wait(timeout=600) == code
    assert json.loads((run.attempts / "1" / "STOP").read_text()) == {
        "reason": signal.Signals(number).name,
        "requeue": requeue,
    }


@pytest.mark.parametrize(("requeue", "code"), [(True, 75), (False, 130)])
def test_a_stop_file_says_whether_to_queue_again(harness, requeue, code):
    run = harness.adopt()
    process = harness.start(run.folder, "stop")
    until(has_started(run), "training starts")
    seal.write_json(run.attempts / "1" / "STOP", {"reason": "a test", "requeue": requeue})
    assert process.wait(timeout=600) == code


def test_a_second_interrupt_does_not_cost_the_checkpoint(harness):
    run = harness.adopt()
    process = harness.start(run.folder, "slow-stop")
    until(has_started(run), "training starts")
    process.send_signal(signal.SIGINT)
    until((run.attempts / "1" / "STOP").exists, "the stop file")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=600) == 130
    assert outcome(run)["reasons"] == {"rank 0": "saved"}


def test_a_scheduler_does_not_replace_a_users_stop(harness):
    run = harness.adopt()
    process = harness.start(run.folder, "slow-stop")
    until(has_started(run), "training starts")
    process.send_signal(signal.SIGINT)
    until((run.attempts / "1" / "STOP").exists, "the stop file")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=600) == 130


def test_a_user_replaces_a_schedulers_stop(harness):
    run = harness.adopt()
    process = harness.start(run.folder, "slow-stop")
    until(has_started(run), "training starts")
    process.send_signal(signal.SIGTERM)
    until((run.attempts / "1" / "STOP").exists, "the stop file")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=600) == 130


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_trainer_that_ignores_a_stop_is_killed(harness, number, code):
    run = harness.adopt()
    process = harness.start(run.folder, "ignore-stops", HATRAIN_STOP_GRACE="0.3")
    until(has_started(run), "training starts")
    process.send_signal(number)
    assert process.wait(timeout=600) == code
    assert "was killed" in outcome(run)["reasons"]["entry"]


def test_a_fault_before_a_stop_stays_one_though_what_is_left_is_killed(harness):
    run = harness.adopt()
    process = harness.start(run.folder, "fault-and-stay", HATRAIN_STOP_GRACE="0.3")
    until((run.attempts / "1" / "rank-0.json").exists, "the fault")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=600) == 1
    assert outcome(run)["reasons"]["rank 0"] == "a link went down"


def test_a_signal_before_the_attempt_starts_prevents_it(harness):
    run = harness.adopt()
    with run.lease.held():
        process = harness.start(run.folder)
        line = process.stderr.readline()
        assert "waiting for the attempt of process" in line
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=600) == 75
    assert run.all_attempts() == []


# --- one attempt at a time ----------------------------------------------------------------------------------


def test_a_second_attempt_beside_a_live_one_is_refused_by_name(harness):
    run = harness.adopt()
    with run.lease.held():
        code, _, err = harness.enter(run.folder, PATIENCE="0.2")
    assert code == 78
    assert f"process {os.getpid()} on" in err
    assert calls(run) == []


def test_an_attempt_waits_for_an_earlier_one_to_leave(harness):
    run = harness.adopt()
    with run.lease.held():
        process = harness.start(run.folder)
        assert "waiting" in process.stderr.readline()
    assert process.wait(timeout=600) == 0


def test_an_attempt_that_is_stopping_is_waited_for_longer(harness):
    run = harness.adopt()
    run.new_attempt().request_stop(Stop("a test", requeue=True))
    with run.lease.held():
        process = harness.start(run.folder, "fault,finish", PATIENCE="0.1")
        assert "waiting" in process.stderr.readline()
        assert still_running(process, 1.5)
    assert process.wait(timeout=600) == 0


def test_an_attempt_that_waited_for_one_that_finished_trains_nothing(harness):
    run = harness.adopt()
    with run.lease.held():
        process = harness.start(run.folder)
        assert "waiting" in process.stderr.readline()
        seal.write_json(run.done, {"time": "now"})
    assert process.wait(timeout=600) == 0
    assert calls(run) == []


def test_an_attempt_that_lost_its_lease_ends_its_trainer_and_writes_nothing_more(harness):
    run = harness.adopt()
    process = harness.start(run.folder, "ignore-stops", BEAT="0.1")
    until(has_started(run), "training starts")
    taken = {"host": "far", "pid": 1, "started": "1", "namespace": "x"}
    seal.write_json(run.lease.path, taken)
    before = run.record_file.read_text()
    assert process.wait(timeout=600) == 75
    assert "superseded" in process.stderr.read()
    assert run.record_file.read_text() == before
    assert json.loads(run.lease.path.read_text()) == taken


@pytest.mark.parametrize(("act", "earlier"), [("stop", [75, 0]), ("ignore-stops", [0])])
def test_an_earlier_start_of_the_same_job_is_asked_to_stop_then_superseded(harness, act, earlier):
    """Slurm starts a job again when it loses the node, where the processes live on."""
    run = harness.adopt()
    first = harness.start(run.folder, act, HATRAIN_START="7.0", HOST="lost")
    until(has_started(run), "training starts")
    waits = {"PATIENCE": "0.2", "HATRAIN_STOP_GRACE": "2"}
    second = harness.start(run.folder, "finish", HATRAIN_START="7.1", HOST="next", **waits)
    assert (second.wait(timeout=600), first.wait(timeout=600)) == (0, 75)
    assert "started the job again" in json.loads((run.attempts / "1" / "STOP").read_text())["reason"]
    assert [event["code"] for event in run.events() if event["event"] == "outcome"] == earlier


@pytest.mark.parametrize("other", ["8.0", "7.2", "17.0"])
def test_a_later_start_and_another_job_are_not_superseded(harness, other):
    run = harness.adopt()
    with run.lease.held(nodes=other):
        code, _, err = harness.enter(run.folder, PATIENCE="0.2", HATRAIN_START="7.1")
    assert code == 78 and "an attempt is running" in err
    assert run.all_attempts() == []


def test_a_stop_that_comes_before_the_ranks_are_started_starts_none(harness):
    run = harness.adopt()
    process = harness.start(run.folder, "stop", HUB_ANSWER=str(harness.folder / "answer"))
    until(lambda: [event for event in run.events() if event["event"] == "attempt begun"], "the attempt begins")
    process.send_signal(signal.SIGUSR1)
    (harness.folder / "answer").touch()
    assert process.wait(timeout=600) == 75
    assert calls(run) == [] and outcome(run)["reasons"] == {"training": "not started: SIGUSR1"}


def test_no_process_of_a_failed_attempt_survives(harness):
    run = harness.adopt()
    assert harness.enter(run.folder, "orphan")[0] == 1
    pid = json.loads((run.folder / "orphan").read_text())
    until(lambda: not alive(pid), "the orphan ends")


def test_a_trainer_whose_entry_was_killed_ends_before_the_next_attempt(harness):
    run = harness.adopt()
    process = harness.start(run.folder, "ignore-stops")
    until(has_started(run), "training starts")
    process.kill()
    process.wait()
    code, _, err = harness.enter(run.folder, "ignore-stops,finish")
    assert code == 0
    assert "of an earlier attempt" in err


# --- inputs -------------------------------------------------------------------------------------


def test_all_missing_inputs_are_named_at_once(harness):
    run = harness.adopt(
        data__test="test.jsonl",
        model__base="models/earlier",
        model__chat_template="chat.jinja",
    )
    (harness.folder / "train.jsonl").unlink()
    code, _, err = harness.enter(run.folder)
    assert code == 78
    for problem in (
        "data.train: train.jsonl: no such file",
        "data.test: test.jsonl: no such file",
        "model.chat_template: chat.jinja: no such file",
        "model.base: models/earlier: no such folder",
    ):
        assert problem in err
    assert run.all_attempts() == []


def test_a_child_starts_once_its_parent_is_done(harness):
    run = harness.adopt(after="earlier")
    seal.write_json(harness.folder / "runs" / "earlier" / "DONE", {})
    assert harness.enter(run.folder)[0] == 0


def test_a_hub_base_is_not_looked_for_on_this_machine(harness):
    assert harness.enter(harness.adopt(model__base="someone/model").folder)[0] == 0


def test_a_folder_that_is_no_run_is_one_line(harness):
    code, _, err = harness.enter(harness.folder / "nowhere")
    assert code == 78
    assert "is not a run" in err
    assert len(err.splitlines()) == 1


def test_a_broken_plan_is_one_clear_line(harness):
    run = harness.adopt()
    run.plan_file.write_text('{"version": 7}')
    code, _, err = harness.enter(run.folder)
    assert code == 78
    assert "not a plan that this version reads" in err
    assert "Traceback" not in err


def test_a_grace_that_is_no_number_is_one_clear_line(harness):
    code, _, err = harness.enter(harness.adopt().folder, HATRAIN_STOP_GRACE="soon")
    assert code == 78
    assert "HATRAIN_STOP_GRACE: found 'soon'" in err


# --- a plan outside of its run directory --------------------------------------------------------------------


def carried(harness: Harness, **changes: object) -> Path:
    """Write a plan and its files outside of any run directory, as `hatrain render --out` does."""
    folder = harness.folder / "carried"
    seal.write_text(folder / "plan.json", harness.plan(**changes).model_dump_json())
    seal.write_text(folder / "job.yaml", "name: kitchen\n")
    seal.write_text(folder / "launch" / "node.sh", "true\n")
    return folder / "plan.json"


def test_a_plan_outside_of_a_run_directory_becomes_a_run_directory(harness):
    code, _, _ = harness.enter(carried(harness))
    run = RunDirectory(harness.folder / "runs" / "kitchen")
    assert code == 0
    assert run.done.exists()
    assert run.job_file.read_text() == "name: kitchen\n"
    assert (run.launch / "node.sh").stat().st_mode & 0o111


def test_a_plan_outside_of_a_run_directory_resumes_the_same_run(harness):
    plan = carried(harness)
    assert harness.enter(plan, "fault")[0] == 1
    assert harness.enter(plan, "fault,finish")[0] == 0
    assert len(RunDirectory(harness.folder / "runs" / "kitchen").all_attempts()) == 2


def test_another_job_under_the_same_name_is_refused_with_the_difference(harness):
    harness.enter(carried(harness))
    code, _, err = harness.enter(carried(harness, method__learning_rate=2e-5))
    assert code == 78
    assert "method.learning_rate: 1e-05 → 2e-05" in err


def test_keys_outside_of_the_identity_may_change(harness):
    harness.enter(carried(harness), "fault")
    assert harness.enter(carried(harness, method__micro_batch_size=4), "fault,finish")[0] == 0


# --- the environment of the stages ----------------------------------------------------------------------------


def test_stages_get_the_attempt_the_clusters_environment_and_their_share_of_the_cores(harness):
    cluster = a_cluster(environment={"HF_HOME": "/some where", "ACT": "environment"})
    plan = a_plan(harness.folder, cluster, evaluation__requests=0)
    run = RunDirectory(Path(plan.paths.run))
    run.adopt(plan, {})
    harness.enter(run.folder, OMP_NUM_THREADS="")
    environment = json.loads((run.folder / "environ").read_text())
    assert environment["HATRAIN_ATTEMPT"] == "1"
    assert environment["HF_HOME"] == "/some where"
    assert int(environment["OMP_NUM_THREADS"]) == len(os.sched_getaffinity(0))
    assert int(environment["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"]) == 600
