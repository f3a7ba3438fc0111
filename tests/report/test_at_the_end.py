"""A run that finishes has a report; one whose report cannot be written finishes all the same."""

import pytest

from tests.harness import Harness

pytest.importorskip("plotly")


@pytest.fixture
def harness(tmp_path):
    with Harness(tmp_path) as made:
        yield made


def test_a_finished_run_has_its_report(harness):
    run = harness.adopt()
    code, _, error = harness.enter(run.folder)
    assert code == 0, error
    assert run.done.exists()
    text = run.report.read_text()
    assert "kitchen" in text and ">finished</span>" in text


def test_a_run_whose_report_cannot_be_written_is_finished(harness):
    run = harness.adopt()
    run.report.mkdir()
    (run.report / "in-the-way").touch()
    code, _, error = harness.enter(run.folder)
    assert code == 0 and run.done.exists()
    assert "kitchen: no report.html: IsADirectoryError" in error


def test_a_finished_run_that_logged_to_tensorboard_has_its_results_there(harness):
    pytest.importorskip("tensorboard")
    run = harness.adopt()
    run.tensorboard.mkdir()
    code, _, error = harness.enter(run.folder)
    assert code == 0, error
    (events,) = run.tensorboard.iterdir()
    assert events.name.endswith(".hparams") and b"method.learning_rate" in events.read_bytes()


def test_a_run_that_does_not_finish_writes_none(harness):
    run = harness.adopt()
    code, _, _ = harness.enter(run.folder, "fatal")
    assert code == 78 and not run.report.exists()
