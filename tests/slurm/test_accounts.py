"""A Slurm that keeps accounts: who pays, what comes first, and how a job left."""

import pytest

from launch.backends import JobState
from launch.backends.slurm.client import SlurmClient
from launch.cluster_files import load_cluster
from tests.slurm.house import House, codes


@pytest.fixture
def house(accounting, tmp_path) -> House:
    return House(tmp_path, accounting)


@pytest.fixture
def client(house, monkeypatch) -> SlurmClient:
    monkeypatch.setenv("SLURM_CONF", house.cluster.environ["SLURM_CONF"])
    return SlurmClient(load_cluster(str(house.place()))[1])


def test_a_job_is_paid_for_and_ranked_as_the_cluster_file_says(house):
    run = house.submit(place={"account": "garden", "qos": "high"})
    told = house.cluster.tell("scontrol", "show", "job", house.id(run))
    assert "Account=garden QOS=high" in told
    assert house.ended(run) == "COMPLETED", house.tale(run)


@pytest.mark.parametrize(
    ("place", "reason"),
    [({"account": "cellar"}, "account"), ({"qos": "royal"}, "qos"), ({"partition": "moon"}, "moon")],
)
def test_a_name_that_the_accounts_do_not_know_is_refused_with_slurms_reason(house, place, reason):
    said = house.hatrain("submit", str(house.job()), "--cluster", str(house.place(**place)), code=2)
    assert reason in said.lower() and said.startswith("sbatch: ") and said.count("\n") == 1
    assert not house.run().folder.exists()


def test_how_jobs_left_is_read_from_the_accounts(house, client):
    done, failed = house.submit("done"), house.submit("failed", act="fatal")
    waiting = house.submit("waiting", place={"directives": {"begin": "now+3600"}})
    gone = house.submit("gone", place={"directives": {"begin": "now+3600"}})
    house.cluster.tell("scancel", house.id(gone))
    house.ended(done), house.ended(failed)
    assert (codes(done), codes(failed)) == ([0], [78])
    jobs = {house.id(run): run for run in (done, failed, waiting, gone)}
    house.until(lambda: client.states(jobs)[house.id(gone)].phase == "ended")
    house.until(lambda: client.states(jobs)[house.id(waiting)].reason)
    assert list(client.states(jobs).values()) == [
        JobState("ended", "COMPLETED", 0),
        JobState("ended", "FAILED", 78),
        JobState("queued", "BeginTime"),
        JobState("ended", "CANCELLED by 0"),
    ]
    assert client.states({"4711": done}) == {"4711": JobState("unknown")}
    house.cluster.tell("scancel", house.id(waiting))


def test_a_sweep_is_told_apart_by_its_tasks_while_it_waits(house, client):
    words = [str(house.job("rates")), "--cluster", str(house.place(directives={"begin": "now+3600"}))]
    house.hatrain("submit", *words, "--sweep", "method.learning_rate=1e-5,2e-5")
    runs = [house.run(f"rates/sweep/{number}") for number in range(2)]
    jobs = {house.id(run): run for run in runs}
    assert [told.phase for told in client.states(jobs).values()] == ["queued", "queued"]
    house.hatrain("cancel", "rates/sweep/1")
    # Slurm forgets a task that never began; the run's own record does not.
    house.until(lambda: client.states(jobs)[house.id(runs[1])].phase in ("ended", "unknown"))
    assert [line.split()[2] for line in house.hatrain("status", "rates").splitlines()[1:]] == [
        "queued",
        "cancelled",
    ]
    house.hatrain("cancel", "rates/sweep/0")
