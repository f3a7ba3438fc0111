"""Measures `hatrain data`: rows per second and peak memory for each size, client and format, each in a fresh process.

python bench/data.py [--workers N] [--language NAME …]
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SIZES = ("small", "medium", "large", "xl")
ROWS = (
    ("guide", "sharegpt"),
    ("guide", "messages"),
    ("guide", "raw"),
    ("home-llm-legacy", "sharegpt"),
    ("home-llm", "messages"),
    ("assist", "messages"),
)
"""Clients with the formats of their rows; the first is measured in every size."""


def generate_once(size: Any, client: str, row_format: Any, workers: str, out: str, *languages: str) -> None:
    """Print the peak memory of this process and of its workers, in KiB on Linux, and processor seconds. It runs in its
    own process, so that the peak is that of one size."""
    from hatrain.home.generate.dataset import Recipe, generate

    generate(Recipe(languages, client, row_format, size=size), ["train"], Path(out), workers=int(workers))
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(json.dumps([[used.ru_maxrss for used in usage], sum(used.ru_utime + used.ru_stime for used in usage)]))


def measure(size: str, client: str, row_format: str, workers: int, languages: list[str]) -> str:
    """Return one line of the table. Times include starting Python and loading the languages.

    Rows per core are rows per second of processor time, which hardly depends on other load on the machine.
    """
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, __file__, "once", size, client, row_format, str(workers), out, *languages]
        started = time.perf_counter()
        peaks, core_seconds = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        seconds = time.perf_counter() - started
        (path,) = Path(out).iterdir()
        with path.open("rb") as stream:
            rows = sum(1 for _ in stream)
        megabytes = path.stat().st_size / 1e6
    memory = (peaks[0] + (workers * peaks[1] if workers > 1 else 0)) / 1024
    return (
        f"{size:7} {client:15} {row_format:9} {rows:8,} {seconds:7.1f} {rows / seconds:9,.0f} "
        f"{rows / core_seconds:9,.0f} {megabytes:7,.0f} {memory:9,.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--language", nargs="+", default=["english"])
    args = parser.parse_args()
    print("size    client          format        rows seconds    rows/s  per core      MB  peak MiB")
    for size in SIZES:
        for client, row_format in ROWS if size == "small" else ROWS[:1]:
            print(measure(size, client, row_format, args.workers, args.language), flush=True)


if __name__ == "__main__":
    generate_once(*sys.argv[2:]) if sys.argv[1:2] == ["once"] else main()
