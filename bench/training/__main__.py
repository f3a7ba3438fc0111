"""`make bench`: rows per second of hatrain and of other trainers, in turns, written to bench/RESULTS.md."""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.machine import processor
from bench.training import report
from bench.training.inputs import SETUPS, Setup, make
from bench.training.sides import Side, sides_of

ROOT = Path(__file__).parents[2]


@dataclass
class Process:
    """One side of a setup, loaded and waiting for its turns."""

    side: Side
    folder: Path
    turns: list[dict[str, Any]] = field(default_factory=list)
    failed: str | None = None

    def __post_init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        self.errors = Path(tempfile.mkstemp(dir=self.folder)[1])
        if not self.side.exists:
            self.failed = "its environment was not made (bench/peers.sh)"
            return
        self.process = subprocess.Popen(
            self.side.command(self.folder),
            cwd=ROOT,
            env={**environment, **self.side.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors.open("w"),
            text=True,
        )

    def wait(self) -> dict[str, Any] | None:
        """Wait for the end of loading or of a turn."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("turn "):
                return dict(json.loads(line[5:]))
        lines = [line for line in self.errors.read_text().splitlines() if line.strip()]
        self.failed = lines[-1][:300] if lines else f"ended with code {self.process.wait()}"
        return None

    def turn(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        if (answer := self.wait()) is not None:
            self.turns.append(answer)

    def end(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()


def measure(setup: Setup, work: Path, turns: int, wanted: list[str]) -> dict[str, Process]:
    """Train a setup on all sides in turns, after one turn each to warm up."""
    folder = make(setup, work, turns)
    processes: dict[str, Process] = {}
    for side in sides_of(setup, wanted):
        process = Process(side, folder)
        if not process.failed:
            process.wait()  # one after the other, so that loading disturbs nobody
        processes[side.name] = process
    for number in range(turns + 1):
        for process in processes.values():
            if not process.failed:
                process.turn()
        done = [
            f"{name} {_seconds(process, number):.2f} s" for name, process in processes.items() if not process.failed
        ]
        print(f"{setup.name}: turn {number} of {turns}: {', '.join(done)}", file=sys.stderr, flush=True)
    for process in processes.values():
        if process.side.exists:
            process.end()
    return processes


def _seconds(process: Process, number: int) -> float:
    return float(process.turns[number]["seconds"])


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.training", description=__doc__)
    parser.add_argument("--turns", type=int, default=5, help="timed turns of each side (default: 5)")
    parser.add_argument("--only", action="append", default=[], help="setups whose name contains this")
    parser.add_argument("--sides", action="append", default=[], help="sides whose name contains this")
    parser.add_argument("--out", type=Path, default=ROOT / "bench/RESULTS.md")
    arguments = parser.parse_args()
    setups = [setup for setup in SETUPS if not arguments.only or any(part in setup.name for part in arguments.only)]
    if not any(sides_of(setup, arguments.sides) for setup in setups):
        parser.error(f"no side to train; setups: {', '.join(setup.name for setup in SETUPS)}")
    with tempfile.TemporaryDirectory() as folder:
        found = {
            setup: {
                name: report.Result.of(setup, process.side, process.turns, process.failed, process.folder)
                for name, process in measure(setup, Path(folder), arguments.turns, arguments.sides).items()
            }
            for setup in setups
        }
    machine = f"{processor()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}"
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl"))
    text = report.markdown(found, f"python -m bench.training {' '.join(sys.argv[1:])}".strip(), machine, versions)
    arguments.out.write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
