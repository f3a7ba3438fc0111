"""Ranks look at the run's lease after each step, and leave when another start of the job holds it."""

import pytest

from hatrain.contract.run import Attempt, RunDirectory
from hatrain.runtime.stop import Stop
from hatrain.train.stop import StopFlag, Superseded


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("HATRAIN_LEASE", "mine")
    return RunDirectory(tmp_path / "run")


def flag(run: RunDirectory) -> StopFlag:
    return StopFlag(run.all_attempts()[-1] if run.all_attempts() else run.new_attempt(), run.lease)


def test_a_rank_whose_lease_is_its_own_goes_on_until_it_is_stopped(run):
    with run.lease.held(token="mine"):
        ranks: StopFlag = flag(run)
        assert ranks.poll() is False
        ranks.check_lease()
        attempt: Attempt = ranks.attempt
        attempt.request_stop(Stop("a test", requeue=True))
        assert ranks.poll() is True


def test_a_rank_whose_lease_is_anothers_leaves_at_its_next_step_and_seals_nothing(run):
    with run.lease.held(token="another"):
        with pytest.raises(Superseded):
            flag(run).poll()
        with pytest.raises(Superseded):
            flag(run).check_lease()


def test_a_lease_that_cannot_be_read_for_a_moment_ends_nothing(run):
    with run.lease.held(token="mine"):
        run.lease.path.write_text("{")
        assert flag(run).poll() is False


def test_a_rank_whose_lease_was_taken_and_released_leaves_too(run):
    with run.lease.held(token="another"):
        pass
    with pytest.raises(Superseded):
        flag(run).poll()
