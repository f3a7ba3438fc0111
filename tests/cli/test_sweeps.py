"""`--sweep` and `--zip`: which runs a sweep has, and which sweeps are refused."""

import pytest

from hatrain.cli.sweeps import settings_of
from hatrain.errors import BadInput


def test_several_keys_make_every_combination_the_last_fastest():
    assert settings_of(["seed=1,2", "method.epochs=1,3"]) == [
        ("seed=1", "method.epochs=1"),
        ("seed=1", "method.epochs=3"),
        ("seed=2", "method.epochs=1"),
        ("seed=2", "method.epochs=3"),
    ]


def test_zipped_keys_change_together_and_meet_each_value_of_a_sweep():
    rates, batches = "method.learning_rate=1e-5,1e-5,4e-5", "method.batch_size=8,16,16"
    assert settings_of([], [rates, batches]) == [
        ("method.learning_rate=1e-5", "method.batch_size=8"),
        ("method.learning_rate=1e-5", "method.batch_size=16"),
        ("method.learning_rate=4e-5", "method.batch_size=16"),
    ]
    both = settings_of(["seed=1,2"], [rates, batches])
    assert len(both) == 6
    assert both[:2] == [
        ("method.learning_rate=1e-5", "method.batch_size=8", "seed=1"),
        ("method.learning_rate=1e-5", "method.batch_size=8", "seed=2"),
    ]


@pytest.mark.parametrize(
    ("sweeps", "zipped", "message"),
    [
        (["seed=1,2,1"], [], "--sweep: seed=1: given twice; accepted: each value once"),
        ([], ["seed=1,1"], "--zip: seed=1: given twice"),
        ([], ["seed=1,2,1", "method.epochs=1,1,1"], "--zip: seed=1 method.epochs=1: given twice"),
        (["seed=1,2", "seed=3,4"], [], "seed: is swept twice; accepted: all its values in one --sweep or --zip"),
        (["seed=1,2"], ["seed=3,4"], "seed: is swept twice"),
        ([], ["seed=1,2", "method.epochs=1,2,3"], "--zip: seed has 2, method.epochs has 3 values; accepted: as many"),
        ([], ["limits.retries=1,2"], "--zip limits.retries=1,2: limits.retries must be the same for all runs"),
        ([], ["seed"], "--zip seed: not of the form KEY=V1,V2"),
    ],
)
def test_a_sweep_that_repeats_or_does_not_match_is_refused(sweeps, zipped, message):
    with pytest.raises(BadInput) as raised:
        settings_of(sweeps, zipped)
    assert message in str(raised.value)
