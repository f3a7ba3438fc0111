"""How a run is doing, from what its directory and its scheduler say: one word for each pair of them."""

import pytest

from hatrain.contract.cluster import KubernetesCluster, SlurmCluster
from hatrain.contract.run import Exit, Stop
from hatrain.errors import BadInput
from hatrain.runtime import seal
from launch import render, status
from launch.backends import JobState
from tests.plans import a_plan

SLURM = SlurmCluster(kind="slurm")
KUBERNETES = KubernetesCluster(kind="kubernetes", image="x", runs={"claim": "runs"})


class Scheduler:
    """Says of every job what a test has it say."""

    def __init__(self):
        self.says = JobState("unknown")

    def states(self, jobs):
        if callable(self.says):
            return {job: self.says(run) for job, run in jobs.items()}
        if isinstance(self.says, BadInput):
            raise self.says
        return dict.fromkeys(jobs, self.says)


@pytest.fixture
def scheduler(monkeypatch):
    scheduler = Scheduler()
    monkeypatch.setattr(status, "client", lambda place: scheduler)
    return scheduler


@pytest.fixture
def submitted(tmp_path, monkeypatch):
    """Makes a run that was submitted as job 7."""
    monkeypatch.setenv("HATRAIN_RUNS", str(tmp_path / "runs"))

    def made(place=SLURM):
        plan = a_plan(tmp_path, place)
        run = render.directory(plan)
        run.adopt(plan, {})
        run.record("submitted", job="7")
        return run

    return made


def seen(run):
    (now,) = status.look([run])
    return now.word, now.reason, now.code


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (JobState("queued", "Resources"), ("queued", "Resources", None)),
        (JobState("running"), ("running", "", None)),
        (JobState("ended", "", 0), ("finished", "", 0)),
        (JobState("ended", "", 78), ("failed", "exit code 78", 78)),
        (JobState("ended", "", 9), ("failed", "exit code 9", 9)),
        (JobState("ended", "TIMEOUT"), ("failed", "TIMEOUT", 1)),
        (JobState("ended"), ("lost", "it left without a word", 1)),
        (JobState("unknown"), ("lost", "it left without a word", 1)),
        (JobState("unknown", "squeue does not answer"), ("unknown", "squeue does not answer", None)),
    ],
)
def test_a_run_without_a_word_of_its_own_is_what_its_scheduler_says(scheduler, submitted, said, told):
    run = submitted()
    scheduler.says = said
    assert seen(run) == told


@pytest.mark.parametrize(
    ("code", "word"), [(Exit.STOPPED, "stopped"), (Exit.REQUEUE, "stopped"), (78, "failed"), (1, "failed")]
)
def test_the_runs_own_word_counts_once_the_scheduler_has_let_go_of_it(scheduler, submitted, code, word):
    run = submitted()
    run.record("outcome", code=int(code), reasons={"rank 0": "why"})
    scheduler.says = JobState("ended", "COMPLETED", 0)
    assert seen(run) == (word, "why", int(code))
    scheduler.says = JobState("queued", "BeginTime")
    assert seen(run)[0] == "queued"


def test_what_came_after_a_new_submission_alone_counts(scheduler, submitted):
    run = submitted()
    run.record("outcome", code=78, reasons={})
    run.record("submitted", job="8")
    assert seen(run)[0] == "lost"


def test_a_finished_run_needs_nobodys_word(scheduler, submitted):
    run = submitted()
    seal.write_json(run.done, {})
    scheduler.says = BadInput("not asked")
    assert seen(run) == ("finished", "", 0)


def test_a_run_that_was_asked_to_stop_is_stopping_as_long_as_it_lives(scheduler, submitted):
    run = submitted()
    attempt = run.new_attempt()
    attempt.request_stop(Stop("enough", requeue=False))
    scheduler.says = JobState("running")
    assert seen(run)[0] == "running"
    with run.lease.held():
        assert seen(run) == ("stopping", "enough", None)


def test_a_scheduler_that_does_not_answer_is_said_so_for_its_runs_alone(scheduler, submitted):
    run = submitted()
    scheduler.says = BadInput("squeue: timed out")
    assert seen(run) == ("unknown", "squeue: timed out", None)


def test_what_kubernetes_said_of_an_end_is_known_when_it_has_forgotten(scheduler, submitted):
    run = submitted(KUBERNETES)
    scheduler.says = JobState("ended", "BackoffLimitExceeded", 1)
    assert seen(run) == seen(run) == ("failed", "BackoffLimitExceeded", 1)
    scheduler.says = JobState("unknown")
    assert seen(run) == ("failed", "BackoffLimitExceeded", 1)
    assert [event["event"] for event in run.events()] == ["submitted", "outcome"]


def test_jobs_of_one_number_on_two_clusters_are_told_apart(tmp_path, scheduler, submitted):
    runs = []
    for name, place in (("kitchen", SLURM), ("hall", SlurmCluster(kind="slurm", partition="other"))):
        plan = a_plan(tmp_path, place, name=name)
        runs.append(render.directory(plan))
        runs[-1].adopt(plan, {})
        runs[-1].record("submitted", job="7")
    scheduler.says = lambda run: JobState("queued" if run.name == "hall" else "running")
    assert [now.word for now in status.look(runs)] == ["running", "queued"]
