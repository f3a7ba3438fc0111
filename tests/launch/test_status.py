"""The state of a run, from its directory and its scheduler."""

from types import SimpleNamespace

import pytest

from hatrain.cli import main
from hatrain.contract.cluster import KubernetesCluster, SlurmCluster
from hatrain.contract.run import Exit
from hatrain.errors import BadInput
from hatrain.runtime import seal
from hatrain.runtime.stop import Stop
from launch import status
from launch.backends import BACKENDS, backend
from launch.backends.protocol import JobState
from tests.plans import a_plan

SLURM = SlurmCluster(kind="slurm")
KUBERNETES = KubernetesCluster(kind="kubernetes", image="x", runs={"claim": "runs"})


class Scheduler:
    """A client that gives the answer of the test for every job."""

    poll_seconds = 0.0

    def __init__(self):
        self.answer = JobState("unknown")

    def states(self, jobs):
        if callable(self.answer):
            return {job: self.answer(run) for job, run in jobs.items()}
        if isinstance(self.answer, BadInput):
            raise self.answer
        return dict.fromkeys(jobs, self.answer)

    def reader(self, job, run, *, node, whole):
        return SimpleNamespace(read=lambda: b"", read_rest=lambda: b"", close=lambda: None, problem=None)


@pytest.fixture
def scheduler(monkeypatch):
    scheduler = Scheduler()
    for kind in BACKENDS.values():
        monkeypatch.setattr(kind, "client", lambda self: scheduler)
    return scheduler


@pytest.fixture
def submitted(tmp_path, monkeypatch):
    """A function that makes a run which was submitted as job 7."""
    monkeypatch.setenv("HATRAIN_RUNS", str(tmp_path / "runs"))

    def make(cluster=SLURM):
        plan = a_plan(tmp_path, cluster)
        run = backend(cluster).run_directory(plan)
        run.adopt(plan, {})
        run.record("submitted", job="7")
        return run

    return make


def state(run):
    (now,) = status.look([run])
    return now.state, now.reason, now.code


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (JobState("queued", "Resources"), ("queued", "Resources", None)),
        (JobState("running"), ("running", "", None)),
        (JobState("ended", "", 0), ("finished", "", 0)),
        (JobState("ended", "", 78), ("failed", "exit code 78", 78)),
        (JobState("ended", "", 9), ("failed", "exit code 9", 9)),
        (JobState("ended", "TIMEOUT"), ("failed", "TIMEOUT", 1)),
        (JobState("ended", "CANCELLED by 0", cancelled=True), ("cancelled", "CANCELLED by 0", 130)),
        (
            JobState("ended", "OUT_OF_MEMORY", advice="raise memory"),
            ("failed", "OUT_OF_MEMORY: raise memory", 1),
        ),
        (JobState("ended"), ("lost", "ended without recording an outcome", 1)),
        (JobState("unknown"), ("lost", "ended without recording an outcome", 1)),
        (JobState("unknown", "squeue does not answer"), ("unknown", "squeue does not answer", None)),
    ],
)
def test_a_run_without_an_outcome_has_the_state_of_its_job(scheduler, submitted, answer, expected):
    run = submitted()
    scheduler.answer = answer
    assert state(run) == expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [(Exit.STOPPED, "stopped"), (Exit.REQUEUE, "stopped"), (78, "failed"), (1, "failed")],
)
def test_the_recorded_outcome_counts_once_the_job_has_left_the_queue(scheduler, submitted, code, expected):
    run = submitted()
    run.record("outcome", code=int(code), reasons={"rank 0": "why"})
    scheduler.answer = JobState("ended", "COMPLETED", 0)
    assert state(run) == (expected, "why", int(code))
    scheduler.answer = JobState("queued", "BeginTime")
    assert state(run)[0] == "queued"


def test_the_lease_of_a_job_that_slurm_ended_does_not_count_and_that_of_another_process_does(scheduler, submitted):
    run = submitted()
    scheduler.answer = JobState("ended", "CANCELLED by 0", cancelled=True)
    with run.lease.held(nodes="7.3"):
        assert state(run)[0] == "cancelled"
    with run.lease.held(nodes="None.None"):
        assert state(run)[0] == "running"


def test_a_run_that_could_not_be_queued_again_says_how_to_continue_it(scheduler, submitted):
    run = submitted()
    run.record("outcome", code=75, reasons={})
    run.record("not requeued", code=75, reason="the controller is away")
    scheduler.answer = JobState("ended", "FAILED", 75)
    found, reason, code = state(run)
    assert (found, code) == ("stopped", 75)
    assert "the controller is away" in reason and f"hatrain submit {run.name}" in reason


def test_a_fault_has_what_the_scheduler_knows_about_it(scheduler, submitted):
    run = submitted()
    run.record("outcome", code=1, reasons={"rank 0": "ended without an exit report"})
    scheduler.answer = JobState("ended", "OUT_OF_MEMORY", advice="raise memory")
    assert state(run)[1] == "OUT_OF_MEMORY: raise memory; ended without an exit report"
    run.record("killed", reason="the job needed more memory")
    assert state(run) == ("failed", "the job needed more memory", 1)


def test_events_before_the_newest_submission_do_not_count(scheduler, submitted):
    run = submitted()
    run.record("outcome", code=78, reasons={})
    run.record("submitted", job="8")
    assert state(run)[0] == "lost"


def test_the_scheduler_is_not_asked_about_a_finished_run(scheduler, submitted):
    run = submitted()
    seal.write_json(run.done, {})
    scheduler.answer = BadInput("not asked")
    assert state(run) == ("finished", "", 0)


def test_a_run_that_was_asked_to_stop_is_stopping_until_it_ends(scheduler, submitted):
    run = submitted()
    attempt = run.new_attempt()
    attempt.request_stop(Stop("enough", requeue=False))
    scheduler.answer = JobState("running")
    assert state(run)[0] == "running"
    with run.lease.held():
        assert state(run) == ("stopping", "enough", None)


def test_the_runs_of_a_scheduler_that_does_not_answer_are_unknown(scheduler, submitted):
    run = submitted()
    scheduler.answer = BadInput("squeue: timed out")
    assert state(run) == ("unknown", "squeue: timed out", None)


def test_an_outcome_from_kubernetes_is_kept_after_kubernetes_has_deleted_the_job(scheduler, submitted):
    run = submitted(KUBERNETES)
    scheduler.answer = JobState("ended", "BackoffLimitExceeded", 1)
    assert state(run) == state(run) == ("failed", "BackoffLimitExceeded", 1)
    scheduler.answer = JobState("unknown")
    assert state(run) == ("failed", "BackoffLimitExceeded", 1)
    assert [event["event"] for event in run.events()] == ["submitted", "outcome"]


def test_a_cluster_is_asked_for_steps_only_where_they_are_shown(scheduler, submitted, monkeypatch):
    asked = []
    monkeypatch.setattr(
        Scheduler, "newest_step", lambda self, job, run: asked.append(job) or "step 3/8  loss 2.5", raising=False
    )
    run = submitted(KUBERNETES)
    scheduler.answer = JobState("running")
    (now,) = status.look([run])
    assert (now.step, asked) == (None, [])
    (now,) = status.look([run], steps=True)
    assert (now.step, now.newest, asked) == ((3, 8), "step 3/8  loss 2.5", ["7"])


def test_two_clusters_may_use_the_same_job_id(tmp_path, scheduler, submitted):
    runs = []
    for name, cluster in (("kitchen", SLURM), ("hall", SlurmCluster(kind="slurm", partition="other"))):
        plan = a_plan(tmp_path, cluster, name=name)
        runs.append(backend(cluster).run_directory(plan))
        runs[-1].adopt(plan, {})
        runs[-1].record("submitted", job="7")
    scheduler.answer = lambda run: JobState("queued" if run.name == "hall" else "running")
    assert [now.state for now in status.look(runs)] == ["running", "queued"]


# --- waiting ------------------------------------------------------------------------------------------------

WAITING = [("wait",), ("logs", "--follow")]


def in_turn(*answers):
    """Gives these answers, and the last of them for good."""
    left = list(answers)
    return lambda run: left.pop(0) if len(left) > 1 else left[0]


@pytest.mark.parametrize("verb", WAITING)
def test_what_is_not_known_is_never_a_success(scheduler, submitted, monkeypatch, verb):
    run = submitted()
    monkeypatch.setattr("launch.follow.PATIENCE_SECONDS", -1.0)
    scheduler.answer = JobState("unknown", "sacct does not answer")
    assert main([verb[0], run.name, *verb[1:]]) == 1


@pytest.mark.parametrize("verb", WAITING)
def test_a_job_that_looks_ended_while_it_is_queued_again_is_waited_for(scheduler, submitted, verb):
    run = submitted()
    ended = JobState("ended", "FAILED")
    scheduler.answer = in_turn(JobState("running"), ended, JobState("queued"), JobState("ended", "COMPLETED", 0))
    assert main([verb[0], run.name, *verb[1:]]) == 0


def test_a_scheduler_of_which_a_part_does_not_answer_is_asked_again(scheduler, submitted):
    run = submitted()
    silent = [JobState("unknown", "sacct does not answer")] * 6
    scheduler.answer = in_turn(JobState("running"), *silent, JobState("ended", "COMPLETED", 0))
    assert main(["wait", run.name]) == 0


def test_a_scheduler_that_does_not_answer_at_all_is_asked_again_until_patience_ends(scheduler, submitted, monkeypatch):
    def answers():
        yield JobState("running")
        for _ in range(12):
            yield BadInput("squeue: timed out")
        while True:
            yield JobState("ended", "COMPLETED", 0)

    def states(jobs):
        if isinstance(answer := next(source), BadInput):
            raise answer
        return dict.fromkeys(jobs, answer)

    run, source = submitted(), answers()
    monkeypatch.setattr(scheduler, "states", states)
    assert main(["wait", run.name]) == 0
    source = answers()
    monkeypatch.setattr("launch.follow.PATIENCE_SECONDS", -1.0)
    assert main(["wait", run.name]) == 2
