"""`make fuzz [MINUTES=60]`: explores every target in turns, and prints the smallest input of each finding. Exits with 1
when there was one."""

import argparse
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from bench.fuzz.mutations import near
from bench.fuzz.targets import Target, check, targets

EXAMPLES = 500
"""Of one target, before it is the next one's turn."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    args = parser.parse_args()
    begun, turn = time.monotonic(), 0
    examples: Counter[str] = Counter()
    findings: dict[str, str] = {}
    while time.monotonic() < begun + 60 * args.minutes:
        turn += 1
        for name, target in targets().items():
            found = explore(target, turn)
            examples[name] += EXAMPLES
            if found and found.splitlines()[-1] not in findings:
                findings[found.splitlines()[-1]] = found
                print(f"--- {name}\n{found}", flush=True)
    for name, count in examples.items():
        print(f"{name}: {count:,} inputs")
    print(f"{len(findings)} findings in {(time.monotonic() - begun) / 60:.1f} minutes")
    return 1 if findings else 0


def explore(target: Target, number: int) -> str | None:
    """Draw inputs. Returns the smallest that is a finding, with its traceback."""
    smallest: list[bytes] = []

    @seed(number)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(near(target.seeds))
    def run(data: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            try:
                check(target, data, Path(folder))
            except Exception:
                smallest[:] = [data]
                raise

    try:
        run()
    except Exception as error:
        lines = traceback.format_exception(error)
        return f"{smallest[0][:2000]!r}\n{''.join(lines)[-3000:]}"
    return None


if __name__ == "__main__":
    sys.exit(main())
