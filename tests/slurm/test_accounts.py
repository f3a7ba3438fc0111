"""A Slurm with accounting: accounts, QOS, and the exit codes of ended jobs."""

import pytest

from launch.backends.protocol import JobState
from launch.backends.slurm.client import SlurmClient
from launch.cluster_files import load_cluster
from tests.slurm.workspace import Workspace, exit_codes


@pytest.fixture
def workspace(accounting, tmp_path) -> Workspace:
    return Workspace(tmp_path, accounting)


@pytest.fixture
def client(workspace, monkeypatch) -> SlurmClient:
    monkeypatch.setenv("SLURM_CONF", workspace.slurm.environ["SLURM_CONF"])
    return SlurmClient(load_cluster(str(workspace.cluster_file()))[1])


def test_a_job_has_the_account_and_the_qos_of_the_cluster_file(workspace):
    run = workspace.submit(cluster={"account": "garden", "qos": "high"})
    details = workspace.slurm.run("scontrol", "show", "job", workspace.job_id(run))
    assert "Account=garden QOS=high" in details
    assert workspace.end(run) == "COMPLETED", workspace.report(run)


@pytest.mark.parametrize(
    ("cluster", "reason"),
    [({"account": "cellar"}, "account"), ({"qos": "royal"}, "qos"), ({"partition": "moon"}, "moon")],
)
def test_an_unknown_account_qos_or_partition_is_refused_with_slurms_reason(workspace, cluster, reason):
    output = workspace.hatrain(
        "submit", str(workspace.job_file()), "--cluster", str(workspace.cluster_file(**cluster)), code=2
    )
    assert reason in output.lower() and output.startswith("sbatch: ") and output.count("\n") == 1
    assert not workspace.run().folder.exists()


def test_the_states_and_exit_codes_of_ended_jobs_come_from_sacct(workspace, client):
    done, failed = workspace.submit("done"), workspace.submit("failed", behavior="fatal")
    waiting = workspace.submit("waiting", cluster={"directives": {"begin": "now+3600"}})
    gone = workspace.submit("gone", cluster={"directives": {"begin": "now+3600"}})
    workspace.slurm.run("scancel", workspace.job_id(gone))
    workspace.end(done), workspace.end(failed)
    assert (exit_codes(done), exit_codes(failed)) == ([0], [78])
    jobs = {workspace.job_id(run): run for run in (done, failed, waiting, gone)}
    workspace.until(lambda: client.states(jobs)[workspace.job_id(gone)].phase == "ended")
    workspace.until(lambda: client.states(jobs)[workspace.job_id(waiting)].reason)
    assert list(client.states(jobs).values()) == [
        JobState("ended", "COMPLETED", 0),
        JobState("ended", "FAILED", 78),
        JobState("queued", "BeginTime"),
        JobState("ended", "CANCELLED by 0", cancelled=True),
    ]
    assert client.states({"4711": done}) == {"4711": JobState("unknown")}
    workspace.slurm.run("scancel", workspace.job_id(waiting))


def test_the_runs_of_a_pending_sweep_have_states_of_their_own(workspace, client):
    arguments = [
        str(workspace.job_file("rates")),
        "--cluster",
        str(workspace.cluster_file(directives={"begin": "now+3600"})),
    ]
    workspace.hatrain("submit", *arguments, "--sweep", "method.learning_rate=1e-5,2e-5")
    runs = [workspace.run(f"rates/sweep/{number}") for number in range(2)]
    jobs = {workspace.job_id(run): run for run in runs}
    assert [state.phase for state in client.states(jobs).values()] == ["queued", "queued"]
    workspace.hatrain("cancel", "rates/sweep/1")
    # Slurm forgets a task that never started; the record of the run does not.
    workspace.until(lambda: client.states(jobs)[workspace.job_id(runs[1])].phase in ("ended", "unknown"))
    assert [line.split()[2] for line in workspace.hatrain("status", "rates").splitlines()[1:]] == [
        "queued",
        "cancelled",
    ]
    workspace.hatrain("cancel", "rates/sweep/0")
