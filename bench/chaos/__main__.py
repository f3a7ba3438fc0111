"""`make chaos [KILLS=100] [SEED=1]`: kills, damage, a full disk, a stopped rank and numbers that are not finite. Exits
with 1 as soon as something that must hold does not, and leaves the run's folder to look at."""

import argparse
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench.chaos import special
from bench.chaos.jobs import KINDS, make_inputs
from bench.chaos.runner import Tally, Wrong, disturb, seconds_of_training, undisturbed


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=12, help="faults that strike, over all kinds of run")
    parser.add_argument("--seed", type=int, default=1, help="another seed draws other moments and faults")
    args = parser.parse_args()
    folder, tallies = Path(tempfile.mkdtemp(prefix="hatrain-chaos-")), dict[str, Tally]()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        chaos(folder, args.kills, args.seed, tallies)
    except Wrong as error:
        print(f"\nWRONG: {error}\nthe runs are in {folder}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the runs that finished before:")
    print(table(tallies))
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def chaos(folder: Path, kills: int, seed: int, tallies: dict[str, Tally]) -> None:
    """Make the special checks, then disturb runs of every kind in turns. What happened to each comes into `tallies`.
    Raises Wrong."""
    begun = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - begun:6.0f} s  {line}", flush=True)

    inputs, runs = folder / "inputs", folder / "runs"
    make_inputs(inputs)
    for name, check in special.CHECKS.items():
        say(f"{name}: {check(inputs, folder)}")
    wholes, draws = {}, {}
    shares = {name: kills // len(KINDS) + (number < kills % len(KINDS)) for number, name in enumerate(KINDS)}
    for name, share in shares.items():
        if share:
            wholes[name] = undisturbed(KINDS[name], inputs, runs)
            draws[name], tallies[name] = random.Random(f"{seed} {name}"), Tally()
            say(f"{name} without a fault trains for {seconds_of_training(wholes[name]):.0f} s")
    while open_kinds := [name for name in tallies if tallies[name].strikes < shares[name]]:
        for name in open_kinds:
            disturb(KINDS[name], wholes[name], inputs, draws[name], shares[name], tallies[name], say)


def table(tallies: dict[str, Tally]) -> str:
    """A row for each kind of run, and what struck."""
    total = Tally()
    for tally in tallies.values():
        total += tally
    lines = [
        "| runs | kills and stops | damaged or odd checkpoints | resumes | steps | repeated steps | bytes lost | "
        "time to resume | goodput | bit-equal |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, tally in {**tallies, "all": total}.items():
        resume = f"{statistics.median(tally.to_resume):.1f} s" if tally.to_resume else "-"
        lines.append(
            f"| {name} | {tally.strikes} | {sum(tally.damages.values())} | {tally.resumes} | {tally.steps} | "
            f"{tally.repeated} | {tally.bytes_lost} | {resume} | {tally.training / max(tally.wall, 1):.0%} | "
            f"{tally.finished} of {tally.finished} |"
        )
    for title, counted in (("struck", total.kills), ("when", total.moments), ("damage", total.damages)):
        lines.append(f"\n{title}: " + ", ".join(f"{name} {count}" for name, count in sorted(counted.items())))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
