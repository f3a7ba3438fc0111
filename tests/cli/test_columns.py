"""Tables on a narrow terminal: no line is longer than it, and no word is broken in two."""

from types import SimpleNamespace

import pytest

from hatrain.cli import columns
from hatrain.contract.run import RunDirectory
from launch.status import Status

REASON = "data.train: data/home_assistant_train.jsonl: no such file (from /home/ada/training); see hatrain data"


def status(tmp_path, name="kitchen", reason="", job="5", cluster="my-slurm"):
    run = SimpleNamespace(name=name, folder=tmp_path / name)
    return Status(run, cluster, job, "failed", reason, 78, 1, (125, 1250))


def test_without_a_terminal_each_run_is_one_line(tmp_path):
    lines = columns.states([status(tmp_path, reason=REASON), status(tmp_path, "hall")]).splitlines()
    assert len(lines) == 3
    assert lines[1].endswith(REASON)


def test_a_short_reason_stands_in_the_line_of_its_run_also_on_a_terminal(tmp_path):
    found = [status(tmp_path, reason="by root")]
    assert columns.states(found, 80) == columns.states(found)


@pytest.mark.parametrize("within", [60, 80, 100])
def test_a_long_reason_stands_below_its_run_between_words(tmp_path, within):
    lines = columns.states([status(tmp_path, reason=REASON), status(tmp_path, "hall")], within).splitlines()
    assert max(map(len, lines)) <= within
    assert "REASON" not in lines[0]
    below = [line.strip() for line in lines if line.startswith("    ")]
    assert " ".join(below) == REASON
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == ["RUN", "kitchen", "hall"]


def test_a_word_longer_than_the_terminal_is_cut_with_an_ellipsis(tmp_path):
    path = "/home/ada/" + "a" * 100 + "/train.jsonl"
    lines = columns.states([status(tmp_path, reason=f"{path}: no such file")], 80).splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" in lines[2] and lines[2].strip().startswith("/home/ada/") and lines[2].endswith("/train.jsonl:")
    assert lines[3].strip() == "no such file"


def test_long_names_are_cut_until_the_line_fits_and_their_ends_stay(tmp_path):
    name = "stablehome-3b-" + "x" * 80 + "-rev10/sweep/12"
    job = "hatrain-jobs/" + "y" * 60
    header, line = columns.states([status(tmp_path, name, job=job)], 80).splitlines()
    assert len(line) <= 80 and len(header) <= 80
    shown, *_, shown_job = line.split()
    assert shown.startswith("stablehome") and shown.endswith("/12") and "…" in shown
    assert shown_job.startswith("hatrain") and "…" in shown_job


def test_the_last_column_goes_on_below_itself(tmp_path):
    rows = [("run", "kitchen"), ("steps", "125 = 125 per epoch (1,000 rows ÷ 8) × 1 epoch; warm-up 4")]
    assert columns.aligned(rows, 40) == (
        "run    kitchen\n"
        "steps  125 = 125 per epoch (1,000 rows ÷\n"
        "       8) × 1 epoch; warm-up 4"
    )  # fmt: skip


def test_cells_that_do_not_fit_go_on_below_and_lose_nothing():
    rows = [("JOB", "kitchen", "hall"), ("data.train", "data/" + "a" * 40 + ".jsonl", "[bold]b.jsonl")]
    lines = columns.folded(rows, 40).splitlines()
    assert max(map(len, lines)) <= 40
    assert "".join(line[12:].partition("  ")[0].strip() for line in lines[1:]) == rows[1][1]
    assert "[bold]b.jsonl" in lines[1]
    assert columns.folded(rows, 100) == columns.folded(rows) == columns.aligned(rows)


def test_a_status_as_json_says_what_is_not_known(tmp_path):
    run = RunDirectory(tmp_path / "kitchen")
    now = Status(run, "local", None, "queued", "", None, None, None)
    assert now.to_dict() == {
        "run": "kitchen",
        "cluster": "local",
        "state": "queued",
        "step": None,
        "steps": None,
        "attempt": None,
        "job": None,
        "code": None,
        "reason": "",
        "folder": str(tmp_path / "kitchen"),
    }
