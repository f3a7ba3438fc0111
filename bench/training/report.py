"""From the turns of all sides to the tables of bench/RESULTS.md."""

import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.training.inputs import Setup
from bench.training.sides import Side

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
    first: float | None
    """Seconds from the start of the process to the end of the first step."""
    is_regrouped: bool
    failed: str | None

    @classmethod
    def of(cls, setup: Setup, side: Side, turns: list[dict[str, Any]], failed: str | None, folder: Path) -> "Result":
        """A side that trains other steps than hatrain has trained as many rows as its supervised tokens are."""
        per_row = json.loads((folder / "settings.json").read_text())["supervised_per_row"]
        rows = setup.rows_per_step * setup.steps
        rates = [(turn["supervised"] / per_row if side.is_regrouped else rows) / turn["seconds"] for turn in turns[1:]]
        first = turns[0]["first"] if turns else None
        return cls(rates, [step for turn in turns for step in turn["steps"]], first, side.is_regrouped, failed)

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)


def markdown(found: dict[Setup, dict[str, Result]], command: str, machine: str, versions: str) -> str:
    turns = max(len(result.rates) for results in found.values() for result in results.values())
    lines = [
        "# Speed of training on processors",
        "",
        f"`{command}` on {machine}. {versions}.",
        "",
        "One Llama of random weights (hidden 256, 6 layers, 16,384 entries, fp32), rows of hatrain's generator of",
        "about 630 tokens, the same rows in the same steps. All sides are loaded, take turns, and train with one",
        "thread each; seconds are those that the processor worked for a side, so that a busy machine does not decide.",
        f'Medians of {turns} turns. "Same steps" is the largest relative difference of loss and gradient norm from',
        "hatrain's. A side that packs or orders rows has other steps: its rows are its supervised tokens, divided by",
        "those of a row. The seconds to the first step are those from the start of a process to the end of its first",
        "step, with loading and with what is computed of all rows before: hatrain's tokenising, and the reference of",
        "DPO where a side computes it first. The peers get rows of token ids. axolotl takes the mean of the mean",
        "losses of a step's rows, where all others weigh every supervised token alike: its loss is another one.",
        "",
        *_summary(found),
    ]
    for setup, results in found.items():
        lines += ["", f"## {setup.name}", "", f"{setup.rows_per_step} rows a step.", "", *_table(results)]
    return "\n".join(lines) + "\n"


def _summary(found: dict[Setup, dict[str, Result]]) -> list[str]:
    lines = [
        "| | hatrain, rows per second | TRL as it comes | TRL at its best | goals |",
        "|---|---|---|---|---|",
    ]
    for setup, results in found.items():
        trl = {name: result for name, result in results.items() if name.startswith("TRL") and result.rates}
        ours = results.get("hatrain")
        if not trl or not ours or not ours.rates:
            continue
        comes = next((result for name, result in trl.items() if "as it comes" in name), None)
        best = max(trl, key=lambda name: trl[name].rate)
        goals = GOALS[setup.name]
        lines.append(
            f"| {setup.name} | {ours.rate:.2f} | "
            + (f"{ours.rate / comes.rate:.1f}× ({comes.rate:.2f})" if comes else "not run")
            + f" | {ours.rate / trl[best].rate:.1f}× ({trl[best].rate:.2f}, {best.removeprefix('TRL, ')})"
            + f" | {goals[0]}×, {goals[1]}× |"
        )
    return lines


def _table(results: dict[str, Result]) -> list[str]:
    ours = results.get("hatrain")
    lines = [
        "| | rows per second | lowest to highest | hatrain's is | same steps | seconds to the first step |",
        "|---|---|---|---|---|---|",
    ]
    for name, result in results.items():
        if result.failed or not result.rates:
            lines.append(f"| {name} | does not run here: {result.failed} | | | | |")
            continue
        ratio = f"{ours.rate / result.rate:.2f}×" if ours and ours.rates else ""
        spread = f"{min(result.rates):.2f} to {max(result.rates):.2f}"
        first = f"{result.first:.1f}" if result.first is not None else ""
        lines.append(f"| {name} | {result.rate:.2f} | {spread} | {ratio} | {_same(ours, result)} | {first} |")
    return lines


def _same(ours: Result | None, result: Result) -> str:
    if result.is_regrouped or not ours or not result.steps:
        return "other steps"
    pairs = zip(ours.steps, result.steps, strict=False)
    differences = [abs(one[key] - other[key]) / abs(one[key]) for one, other in pairs for key in one]
    worst = max(differences, default=math.inf)
    return f"{worst:.0e}" if worst <= SAME else f"differ by {worst:.0e}"
