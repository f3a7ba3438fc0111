"""From the turns of all sides to the tables of bench/RESULTS.md."""

import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.training.inputs import Setup

GOALS = {"SFT, 1 request a home": (4, 3), "SFT, 8 requests a home": (12, 8), "DPO": (5, 3.5)}
"""Times as fast as TRL as it comes, and at its best setting."""
SAME = 1e-4
"""Relative difference of losses and gradient norms at which two sides train the same steps."""


@dataclass(frozen=True)
class Result:
    """A side's turns, without the one that warmed it up."""

    rates: list[float]
    """Rows per second, of each turn."""
    steps: list[dict[str, float]]
    """Loss and gradient norm of each step, from the first."""
    failed: str | None

    @classmethod
    def of(cls, setup: Setup, turns: list[dict[str, Any]], failed: str | None, folder: Path) -> "Result":
        rows = setup.rows_per_step * setup.steps
        return cls(
            [turn.get("rows", rows) / turn["seconds"] for turn in turns[1:]],
            [step for turn in turns for step in turn["steps"]],
            failed,
        )

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)
