"""`method.max_steps`: a run ends after so many steps, with the schedule that ends there."""

import torch

from hatrain.contract.run import Exit
from tests.train.conftest import metrics, weights


def steps_of(run):
    return [(line["step"], line["steps"]) for line in metrics(run) if "loss" in line]


def test_a_run_ends_after_max_steps_as_one_does_that_has_no_more_rows(workplace):
    cut = workplace.attempt(workplace.plan("cut", method__max_steps=5))
    short = workplace.attempt(workplace.plan("short", method__epochs=0.6))
    assert cut.code is short.code is Exit.FINISHED
    assert steps_of(cut.run) == steps_of(short.run) == [(step, 5) for step in range(1, 6)]
    ours, theirs = weights(cut.run.model), weights(short.run.model)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_max_steps_reaches_into_later_epochs_and_a_stopped_run_goes_on_to_it(workplace):
    plan = workplace.plan("stopped", method__epochs=3, method__max_steps=11, data__test=None)
    assert (plan.steps.per_epoch, plan.steps.total) == (8, 11)
    assert workplace.attempt(plan, stop_at=9).code is Exit.REQUEUE
    resumed = workplace.attempt(plan)
    whole = workplace.attempt(workplace.plan("whole", method__epochs=3, method__max_steps=11, data__test=None))
    assert steps_of(whole.run) == [(step, 11) for step in range(1, 12)]
    ours, theirs = weights(resumed.run.model), weights(whole.run.model)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
