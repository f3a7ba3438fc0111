"""Plan → {path: text} for one machine. Pure: it spells a plan, and neither decides nor starts anything."""

import shlex
from pathlib import Path

from hatrain.contract.plan import Plan
from launch import run_files


def files(plan: Plan) -> dict[str, str]:
    """Return the files of a run directory that start it, by their path in it. plan.json is not among them."""
    script = (Path(__file__).with_name("local.sh")).read_text(encoding="utf-8")
    return {**run_files.shared(plan), "launch/local.sh": script}


def stream(plan: Plan) -> str:
    """Return one bash script that holds every file and starts the run: to be read, kept, or piped to bash."""
    parts = [
        "#!/usr/bin/env bash",
        f"# One attempt at {plan.job.name} on this machine; the exit code is the run's own. Pipe it to bash.",
        "set -euo pipefail",
        "",
        "# Small files, which stay: entry takes them over into the run directory.",
        'folder=$(mktemp -d "${TMPDIR:-/tmp}/hatrain.XXXXXX")',
        'mkdir "$folder/launch"',
        # local.sh is left out: whoever pipes a script to bash decides about the next attempt.
        *run_files.written({"plan.json": run_files.plan_json(plan), **run_files.shared(plan)}, "folder"),
        "",
        'exec bash "$folder/launch/node.sh" "$folder/plan.json" < /dev/null',
        "",
    ]
    return "\n".join(parts)


def how(folder: str) -> str:
    """Return the command that makes one attempt from the files in a folder."""
    return f"bash {shlex.quote(f'{folder}/launch/node.sh')} {shlex.quote(f'{folder}/plan.json')}"


def sweep() -> str:
    """Return the script that makes the runs of a sweep one after another."""
    return (Path(__file__).with_name("sweep.sh")).read_text(encoding="utf-8")
