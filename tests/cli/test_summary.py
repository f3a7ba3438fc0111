"""The accuracies of a run in the last table and in `compare`, of this release and of earlier ones."""

import json

from hatrain.cli import summary
from hatrain.contract.run import RunDirectory

OLD = {"requests": 155, "strict_accuracy": 0.671, "strict_interval": [0.59, 0.74]}
NEW = {
    **OLD,
    "call_requests": 116,
    "different_call_requests": 93,
    "call_accuracy": 0.621,
    "call_interval": [0.52, 0.71],
    "no_call_share": 0.252,
}


def rows(folder, before, after):
    run = RunDirectory(folder)
    run.evaluation.write_text(json.dumps({"before": before, "after": after}))
    return list(summary.rows(run))


def test_the_accuracy_where_a_call_is_needed_stands_first(tmp_path):
    assert rows(tmp_path, {**NEW, "call_accuracy": 0.0, "call_interval": [0.0, 0.04], "strict_accuracy": 0.1}, NEW) == [
        ("right where a call is needed", "0.0%", "62.1%"),
        ("  95%, of 116 requests, 93 different", "0.0% - 4.0%", "52.0% - 71.0%"),
        ("strict accuracy (155 requests)", "10.0%", "67.1%"),
        ("  a model that never calls has at most", "25.2%", "25.2%"),
    ]


def test_runs_of_earlier_releases_have_their_strict_accuracy(tmp_path):
    assert rows(tmp_path, OLD, OLD) == [("strict accuracy (155 requests)", "67.1%", "67.1%")]
    assert rows(tmp_path, OLD, NEW)[0][1:] == ("", "62.1%")


def test_a_set_where_nothing_needs_a_call_shows_no_empty_headline(tmp_path):
    none = {**NEW, "call_requests": 0, "different_call_requests": 0, "call_accuracy": None, "no_call_share": 1.0}
    assert [row[0] for row in rows(tmp_path, none, none)] == [
        "strict accuracy (155 requests)",
        "  a model that never calls has at most",
    ]


def test_figures_of_another_kind_are_left_out(tmp_path):
    broken = {**NEW, "call_accuracy": "high", "call_interval": {"low": 1}, "requests": None}
    assert rows(tmp_path, broken, broken)[:2] == [
        ("right where a call is needed", "", ""),
        ("  95%, of 116 requests, 93 different", "", ""),
    ]
