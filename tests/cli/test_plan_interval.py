"""What `hatrain plan` says about how often is saved."""

import pytest

from hatrain.cli.plan import table
from tests.plans import a_cluster, a_plan


@pytest.mark.parametrize(
    ("save_steps", "cluster", "text"),
    [
        (None, {}, "at the end of each epoch, the newest 1 kept"),
        (5, {}, "every 5 steps, the newest 1 kept"),
        ("auto", {}, "every √(2 × save × 24 h), measured as it runs; mean_time_between_failures is not stated"),
        ("auto", {"mean_time_between_failures": "6h"}, "every √(2 × save × 6 h), measured as it runs, the newest 1"),
    ],
)
def test_the_plan_shows_the_interval(tmp_path, save_steps, cluster, text):
    plan = a_plan(tmp_path, a_cluster(**cluster), checkpoints__save_steps=save_steps)
    (line,) = [line for line in table(plan).splitlines() if line.startswith("checkpoints ")]
    assert text in line


def test_the_plan_estimates_the_interval_where_the_size_of_a_checkpoint_is_known(tmp_path):
    plan = a_plan(tmp_path, checkpoints__save_steps="auto")
    folder = tmp_path / "runs" / "kitchen" / "checkpoints" / "checkpoint-3"
    folder.mkdir(parents=True)
    with (folder / "weights").open("wb") as file:
        file.truncate(37_500_000_000)  # 75 s at the assumed speed
    assert "about every 60 min if a save takes 75 s" in table(plan)
