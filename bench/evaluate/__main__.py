"""`make bench-evaluate`: evaluates the same rows with this revision and with an earlier one, in turns, and writes
bench/RESULTS-evaluate.md."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.evaluate.inputs import SETUPS, Missing, Setup
from bench.machine import processor

ROOT = Path(__file__).parents[2]
BASE = "854315a"
"""The last revision that answered requests with generate() alone."""


@dataclass
class Side:
    """A revision, loaded and waiting for its turns."""

    tree: Path
    model: Path
    rows: Path
    turns: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(self.tree), os.environ.get("PYTHONPATH")])),
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "bench/evaluate/side.py"), str(self.model), str(self.rows)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        found = self._answer()["revision"]
        if Path(found) != self.tree:
            raise SystemExit(f"bench.evaluate: {self.tree} was to be measured, and {found} was loaded")

    def turn(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        self.turns.append(self._answer())

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("turn "):
                return json.loads(line[5:])
        raise SystemExit(f"bench.evaluate: {self.tree} ended with code {self.process.wait()}")

    @property
    def seconds(self) -> float:
        return statistics.median(turn["seconds"] for turn in self.turns)


def measure(setup: Setup, base: Path, work: Path, turns: int) -> str:
    """Return a line of the table."""
    try:
        model, rows = setup.model(work), setup.rows(work)
    except Missing as reason:
        return f"| {setup.name} | | | | not run: {reason} | |"
    sides = [Side(tree, model, rows) for tree in (base, ROOT)]
    for number in range(turns):
        for side in sides:
            side.turn()
        seconds = ", ".join(f"{side.turns[-1]['seconds']:.2f} s" for side in sides)
        print(f"{setup.name}: turn {number + 1} of {turns}: {seconds}", file=sys.stderr, flush=True)
    for side in sides:
        side.end()
    before, now = (side.turns[0]["answers"] for side in sides)
    same = sum(one == other for one, other in zip(before, now, strict=True))
    ratios = [old["seconds"] / new["seconds"] for old, new in zip(*(side.turns for side in sides), strict=True)]
    spread = f"{statistics.median(ratios):.1f}× ({min(ratios):.1f} to {max(ratios):.1f})"
    rates = " | ".join(f"{len(before) / side.seconds:.2f}" for side in sides)
    tokens = sum(answer[1] for answer in now) / len(now)
    return (
        f"| {setup.name} | {len(now)}, {tokens:.0f} | {rates} | {spread} | {setup.goal or ''}× | {same} of {len(now)} |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.evaluate", description=__doc__)
    parser.add_argument("--base", default=BASE, metavar="REV", help=f"the earlier revision (default: {BASE})")
    parser.add_argument("--turns", type=int, default=3, help="of each side (default: 3)")
    parser.add_argument("--only", action="append", default=[], help="setups whose name contains this")
    parser.add_argument("--work", type=Path, default=ROOT / "data/bench-evaluate", help="folder for models and rows")
    parser.add_argument("--out", type=Path, default=ROOT / "bench/RESULTS-evaluate.md")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    setups = [setup for setup in SETUPS if not arguments.only or any(part in setup.name for part in arguments.only)]
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder).resolve()
        archive = subprocess.run(["git", "archive", arguments.base], cwd=ROOT, capture_output=True, check=True)
        subprocess.run(["tar", "--extract", "--directory", str(base)], input=archive.stdout, check=True)
        lines = [measure(setup, base, arguments.work, arguments.turns) for setup in setups]
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    text = "\n".join(
        [
            "# Speed of an evaluation",
            "",
            f"`make bench-evaluate` ({' '.join(['python -m bench.evaluate', *sys.argv[1:]])}) on {processor()}, "
            f"{len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}, {versions}.",
            "",
            f"`evaluate_model` of this revision and of {arguments.base}, from rows to figures: the same models in fp32",
            "and the same rows, in turns, one thread each. Seconds are those that the processor worked for a side,",
            f"medians of {arguments.turns}. Answers are compared as texts, with their counts of tokens.",
            "",
            f"| | requests, tokens of an answer | {arguments.base}, requests per second | now | times as fast | goal | "
            "same answers |",
            "|---|---|---|---|---|---|---|",
            *lines,
        ]
    )
    arguments.out.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
