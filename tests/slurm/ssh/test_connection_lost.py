"""A connection that breaks at any step of a submission, or while a run is watched: Slurm has one job of it."""

import shutil

import pytest

from tests.slurm.cluster import DEADLINE
from tests.slurm.ssh.laptop import Laptop, jobs_of

WAITS = {"directives": {"begin": "now+3600"}}


def submission(laptop: Laptop, name: str) -> list[str]:
    """A submission of a job that stays in the queue."""
    (laptop.folder / f"{name}.jsonl").write_text('{"text": "hello"}\n' * 8)
    job = laptop.job_file(name, data__train=f"{name}.jsonl")
    return ["submit", job, "--cluster", laptop.cluster_file(**WAITS)]


def submit_with_a_break(laptop: Laptop, name: str, how: str, number: int) -> list[str]:
    """Submit while session `number` breaks, and again if that failed. Returns the jobs before the second try."""
    command = submission(laptop, name)
    laptop.break_session(how, number)
    process = laptop.start(*command)
    output, _ = process.communicate(timeout=DEADLINE)
    assert laptop.is_broken, output
    before = jobs_of(laptop, name)
    if process.returncode:
        again = laptop.hatrain(*command)
        assert "is submitted to my-hpc (job " in again, output + again
    (job,) = jobs_of(laptop, name)
    assert f"is queued already (job {job} on my-hpc)" in laptop.hatrain(*command, code=2)
    assert laptop.hatrain("status", name).splitlines()[1].split()[2:] == ["queued", "-", "-", job, "BeginTime"]
    forget(laptop, name)
    return before


def forget(laptop: Laptop, name: str) -> None:
    """A submission asks about other runs, too: each of these is the only one."""
    laptop.slurm.run("scancel", *jobs_of(laptop, name))
    shutil.rmtree(laptop.folder / "runs" / name)


@pytest.fixture
def sessions(laptop) -> int:
    """How many sessions a submission takes."""
    before = laptop.sessions()
    laptop.hatrain(*submission(laptop, "counted"))
    taken = laptop.sessions() - before
    forget(laptop, "counted")
    return taken


def test_the_answer_of_a_submission_is_lost(laptop, sessions):
    """The last session sends the job: the same command takes the connection up again, or a second one finds the job."""
    assert len(submit_with_a_break(laptop, "taken-up-again", "after", sessions)) == 1
    assert len(submit_with_a_break(laptop, "sent-again", "after-kill", sessions)) == 1
    assert submit_with_a_break(laptop, "never-sent", "before-kill", sessions) == []


def test_a_submission_whose_script_was_killed_on_the_cluster_is_found_by_its_token(laptop):
    command = submission(laptop, "killed")
    laptop.sshd.kill_after_sbatch(laptop.there.folder)
    assert "Slurm may have the job: the same hatrain submit finds out" in laptop.hatrain(*command, code=2)
    (job,) = jobs_of(laptop, "killed")
    again = laptop.hatrain(*command)
    assert "it was sent before, and only the answer was lost" in again
    assert f"killed is submitted to my-hpc (job {job})" in again
    assert jobs_of(laptop, "killed") == [job]
    assert laptop.state("killed") == "queued"
    laptop.hatrain("cancel", "killed")


@pytest.mark.long
@pytest.mark.parametrize("how", ["before", "after", "before-kill", "after-kill"])
def test_a_break_at_every_step_of_a_submission_leaves_one_job(laptop, sessions, how):
    for step in range(1, sessions + 1):
        before = submit_with_a_break(laptop, f"{how}-{step}", how, step)
        if how.endswith("kill"):
            assert len(before) == (step == sessions and how == "after-kill")
