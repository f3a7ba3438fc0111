"""Renders a plan for this machine."""

from pathlib import Path

from hatrain.contract.plan import Plan
from launch import run_files

HERE = Path(__file__).parent


def files(plan: Plan) -> dict[str, str]:
    return {**run_files.shared(plan), "launch/local.sh": (HERE / "local.sh").read_text(encoding="utf-8")}


def single_file(plan: Plan) -> str:
    """One bash script that holds every file and makes one attempt."""
    parts = [
        "#!/usr/bin/env bash",
        f"# One attempt of {plan.job.name} on this machine: pipe it to bash. The exit code is the run's own.",
        "set -euo pipefail",
        "",
        "main() {",
        "  # The files stay small and are kept: the run copies them into its directory.",
        '  folder=$(mktemp -d "${TMPDIR:-/tmp}/hatrain.XXXXXX")',
        '  mkdir "$folder/launch"',
        "  unpack",
        '  exec bash "$folder/launch/node.sh" "$folder/plan.json" < /dev/null',
        "}",
        "",
        # Without local.sh: a user who pipes a script to bash decides about the next attempt.
        *run_files.unpack({"plan.json": run_files.plan_json(plan), **run_files.shared(plan)}),
        "",
        "main",
        "",
    ]
    return "\n".join(parts)


def sweep() -> str:
    """The script that makes the runs of a sweep one after another."""
    return (HERE / "sweep.sh").read_text(encoding="utf-8")
