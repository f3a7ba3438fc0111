"""Which look is the best: pure decisions."""

import pytest

from hatrain.train.choosing import best, looks_of, why, without_gain


def log(*figures):
    """A trainer's log with (loss, accuracy) at steps 10, 20, …"""
    lines = [{"loss": 1.0, "step": 1}]
    for number, (loss, accuracy) in enumerate(figures, start=1):
        known = {} if accuracy is None else {"eval_accuracy": accuracy}
        lines.append({"eval_loss": loss, **known, "step": 10 * number})
    return lines


@pytest.mark.parametrize(
    ("metric", "figures", "step", "after"),
    [
        ("loss", [(3.0, None), (1.0, None), (2.0, None)], 20, 1),
        ("loss", [(1.0, None), (1.0, None), (1.0, None)], 10, 2),  # equals are no gain
        ("accuracy", [(1.0, 0.5), (2.0, 0.7), (3.0, 0.6)], 20, 1),
        ("accuracy", [(3.0, 0.7), (2.0, 0.7), (2.5, 0.7)], 20, 1),  # among equals the lower loss
        ("loss", [(float("nan"), None), (2.0, None), (float("inf"), None)], 20, 0),
    ],
)
def test_the_best_look_is_the_one_with_the_best_figure(metric, figures, step, after):
    looks = looks_of(log(*figures), metric)
    assert best(looks, metric).step == step
    assert without_gain(looks, metric) == after


def test_looks_without_the_metric_do_not_count():
    looks = looks_of(log((1.0, None), (3.0, 0.5)), "accuracy")
    assert [look.step for look in looks] == [20]
    assert best((), "accuracy") is None
    assert without_gain((), "accuracy") == 0


def test_of_a_step_that_is_looked_at_again_the_last_look_counts():
    looks = looks_of([*log((1.0, None), (2.0, None)), {"eval_loss": 3.0, "step": 10}], "loss")
    assert [(look.step, look.loss) for look in looks] == [(10, 3.0), (20, 2.0)]


def test_the_reason_names_the_figure_and_how_many_looks_there_were():
    looks = looks_of(log((2.0, 0.25), (1.0, 0.5)), "accuracy")
    assert why(looks[1], "accuracy", 2) == "strict accuracy 0.500, the highest of 2 looks"
    assert why(looks[1], "loss", 2) == "test loss 1.0000, the lowest of 2 looks"
    assert why(looks[1], "loss", 1) == "test loss 1.0000, the only look"
