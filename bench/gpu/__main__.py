"""`python -m bench.gpu`, which bench/gpu.sh starts: runs the parts in order of worth, within the given minutes."""

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.gpu import efficiency, report
from bench.gpu.runner import Budget, Part, run_part
from hatrain.runtime import provenance, seal

REPOSITORY = Path(__file__).parents[2]

PARTS = (
    Part(1, "parity", "Does the GPU compute what the CPU computes?", "parity", 50),
    Part(2, "full", "SFT of all weights at 1.1B, beside TRL", "speed", 170, 40),
    Part(3, "more", "LoRA at 3B and DPO at 1.1B, beside TRL", "speed", 90, 40),
    Part(4, "stops", "A stop, a resume, a kill, a resume", "processes", 80, 40),
    Part(5, "strategies", "FSDP2, ddp and ZeRO on one rank", "processes", 60, 30),
    Part(6, "memory", "Peak memory of twelve configurations", "memory", 60),
    Part(7, "profile", "Profile of ten steps of part 2", "speed", 30),
)
"""In order of worth. The shares are seconds of a run of nine minutes."""

ROOM = 24 * 2**30
"""Bytes for the bases and checkpoints. /dev/shm is used where it has them: the bases are then read from memory."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench/gpu.sh", description="Measure hatrain on one GPU, offline.")
    parser.add_argument("--minutes", type=_positive, default=9.0, help="for all parts together (default: 9)")
    parser.add_argument("--parts", metavar="N,N", help="only these parts, such as 1,2 (default: all)")
    parser.add_argument("--short", action="store_true", help="tiny shapes, on the CPU too: shows that the script works")
    out_help = "folder for results-gpu.json and RESULTS-gpu.md (default: $OUT, else bench)"
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT") or REPOSITORY / "bench"), help=out_help)
    args = parser.parse_args()
    parts = [part for part in PARTS if args.parts is None or str(part.number) in args.parts.split(",")]
    if unknown := set((args.parts or "1").split(",")) - {str(part.number) for part in PARTS}:
        parser.error(f"--parts: found {', '.join(sorted(unknown))}; accepted: 1 to {len(PARTS)}")
    started = time.monotonic()
    machine = _machine()
    if isinstance(machine, str):
        print(f"bench/gpu.sh: {machine}", file=sys.stderr)
        return 2
    if machine["gpu"] is None and not args.short:
        print("bench/gpu.sh: torch sees no CUDA GPU here; --short runs tiny shapes on the CPU", file=sys.stderr)
        return 2
    name = "-short" if args.short else ""
    files = (args.out / f"results-gpu{name}.json", args.out / f"RESULTS-gpu{name}.md")
    args.out.mkdir(parents=True, exist_ok=True)
    results = {
        **machine,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["bench/gpu.sh", *sys.argv[1:]]),
        "commit": provenance.commit(),
        "short": args.short,
        "parts": [],
    }
    print(f"{results['gpu'] or 'no GPU'}; {', '.join(f'{n} {v}' for n, v in results['versions'].items())}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the parts and the work folder are cleaned up
    with tempfile.TemporaryDirectory(prefix="hatrain-gpu-", dir=_roomy(), ignore_cleanup_errors=True) as work:
        budget = Budget(args.minutes * 60 - (time.monotonic() - started), parts)
        for part in parts:
            results["parts"].append(entry := {"number": part.number, "name": part.name, "items": []})
            _measure(part, budget.limit(part), Path(work), args.short, entry, lambda: _write(files, results))
            results["seconds"] = time.monotonic() - started
            _write(files, results)
        if any(_failed(entry) for entry in results["parts"]):
            shutil.copytree(Path(work) / "logs", args.out / f"logs-gpu{name}", dirs_exist_ok=True)
            print(f"logs of the parts: {args.out / f'logs-gpu{name}'}")
    if renewed := efficiency.renew(results):
        print(f"{efficiency.TABLE.name}: {renewed} entries renewed, for the hours of plans")
    print(f"{results['seconds']:.0f} s; {files[0]}, {files[1]}")
    return int(any(_failed(entry) for entry in results["parts"]))


def _measure(part: Part, limit: float, work: Path, short: bool, entry: dict[str, Any], write: Any) -> None:
    """Run a part and fill in its entry of the results."""
    title = f"--- {part.number}. {part.title}"
    if limit < part.least and not short:
        entry.update(state="skipped", note=f"{limit:.0f} s left for it, it needs {part.least:.0f}", seconds=0.0)
        print(f"{title}: skipped: {entry['note']}", flush=True)
        return
    print(f"{title} (up to {limit:.0f} s)", flush=True)
    entry.update(state="running", note="")

    def on_item(item: dict[str, Any]) -> None:
        entry["items"].append(item)
        print(f"  {report.line(item)}", flush=True)
        write()

    logs = work / "logs"
    logs.mkdir(exist_ok=True)
    lines = work / f"{part.name}.jsonl"
    command = [sys.executable, "-m", f"bench.gpu.{part.module}", part.name, "--work", str(work)]
    command += ["--lines", str(lines), "--seconds", f"{limit:.1f}", *(["--short"] if short else [])]
    offline = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "HATRAIN_RUNS": str(work / "runs")}
    began = time.monotonic()
    state, note = run_part(command, lines, limit, logs / f"{part.name}.log", {**os.environ, **offline}, on_item)
    entry.update(state=state, note=note, seconds=time.monotonic() - began)
    if state != "done":
        print(f"  {state}: {note}", flush=True)


def _failed(entry: dict[str, Any]) -> bool:
    """Whether something is wrong. Neither a skipped part nor one whose time ran out is."""
    wrong = any("failed" in item or item.get("verdict") == "DIFFERENT" for item in entry["items"])
    return entry["state"] == "failed" or wrong


def _write(files: tuple[Path, Path], results: dict[str, Any]) -> None:
    for path, text in zip(files, (json.dumps(results, indent=1), report.page(PARTS, results)), strict=True):
        seal.write_text(path, text)


PROBE = """
import json, sys
import torch
import trl, datasets, pydantic, peft, hatrain.train.flow
import importlib.metadata as metadata
names = "torch transformers accelerate peft trl datasets triton bitsandbytes deepspeed flash_attn".split()
versions = {"python": sys.version.split()[0], "cuda": torch.version.cuda}
for name in names:
    try:
        versions[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
is_there = torch.cuda.is_available()
gpu = torch.cuda.get_device_name() if is_there else None
memory = torch.cuda.get_device_properties(0).total_memory if is_there else None
versions = {name: version for name, version in versions.items() if version}
print(json.dumps({"gpu": gpu, "gpu_memory": memory, "versions": versions}))
"""


def _machine() -> dict[str, Any] | str:
    """GPU and versions, or why training cannot even be imported."""
    probe = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=300)
    if probe.returncode == 0:
        return dict(json.loads(probe.stdout.splitlines()[-1]))
    reason = (probe.stderr.strip().splitlines() or ["no output"])[-1]
    return f"{sys.executable} cannot import what training needs ({reason}); fill the wheels folder: make gpu-wheels"


def _roomy() -> str | None:
    """A folder in memory, if it has room; None for the usual temporary folder."""
    shared = Path("/dev/shm")
    return str(shared) if shared.is_dir() and shutil.disk_usage(shared).free >= ROOM else None


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 24 * 60:
        raise argparse.ArgumentTypeError(f"found {text!r}; accepted: minutes above 0")
    return value


if __name__ == "__main__":
    sys.exit(main())
