"""`python -m bench.gpu.efficiency RESULTS`: renews launch/efficiency.json, from which plans estimate hours, by the
results-gpu.json of a measurement. bench/gpu.sh does it for its own."""

import argparse
import json
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.gpu import figures
from hatrain.contract.gpus import GIB, GPUS
from hatrain.errors import BadInput
from hatrain.runtime import seal
from launch.efficiency import TABLE

Entry = dict[str, Any]


def gpu_name(device: str, memory: int | None) -> str | None:
    """Return the name in hatrain's table of a GPU that torch calls `device`, with so many bytes; None without one."""
    plain = re.sub(r"[^a-z0-9]", "", device.lower())
    models = {name: name.rpartition("-")[0] for name in GPUS}
    fitting = [name for name, model in models.items() if model in plain]
    longest = max((len(models[name]) for name in fitting), default=0)
    fitting = [name for name in fitting if len(models[name]) == longest]
    size = re.search(r"(\d+) ?gb", device.lower())
    wanted = memory or (int(size[1]) * GIB if size else 0)
    return min(fitting, key=lambda name: abs(GPUS[name].memory - wanted), default=None)


def shares(results: Mapping[str, Any]) -> list[Entry]:
    """Return the entries of a measurement: the median of hatrain's turns of each training. There are none of a short
    form, without a GPU, or on one that hatrain does not know."""
    gpu = gpu_name(results["gpu"], results.get("gpu_memory")) if results["gpu"] and not results["short"] else None
    if gpu is None:
        return []
    found = defaultdict(list)
    for item in (item for part in results["parts"] for item in part["items"]):
        if training := item.get("training"):
            factor = figures.LORA if "lora" in training else figures.FULL
            peak = GPUS[gpu].tflops * 1e12
            share = figures.mfu(item["weights"], item["tokens_per_second"], 1.0, factor=factor, peak=peak)
            found[training, item["compiled"]].append(share)
    return [
        {"gpu": gpu, "training": training, "compiled": compiled, "share": round(statistics.median(every), 3)}
        for (training, compiled), every in found.items()
    ]


def renewed(table: Sequence[Entry], entries: Sequence[Entry]) -> list[Entry]:
    """The table with new entries in place of those of the same GPU and training."""
    by_key = {(entry["gpu"], entry["training"], entry["compiled"]): entry for entry in (*table, *entries)}
    return [by_key[key] for key in sorted(by_key)]


def renew(results: Mapping[str, Any], path: Path = TABLE) -> int:
    """Write what was measured into the table. Returns how many entries that are."""
    entries = shares(results)
    if entries:
        table = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
        lines = ",\n".join(f" {json.dumps(entry)}" for entry in renewed(table, entries))
        seal.write_text(path, f"[\n{lines}\n]\n")
    return len(entries)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.efficiency", description=__doc__)
    parser.add_argument("results", type=Path)
    results = parser.parse_args().results
    try:
        count = renew(json.loads(results.read_text(encoding="utf-8")))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise BadInput(f"{results}: is no result of bench/gpu.sh: {type(error).__name__}: {error}") from None
    print(f"{TABLE.name}: {count} entries renewed")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BadInput as bad:
        print("\n".join(bad.problems), file=sys.stderr)
        sys.exit(2)
