"""The backend of this machine."""

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from hatrain.contract import variables
from hatrain.contract.cluster import LocalCluster
from hatrain.contract.plan import Plan
from hatrain.contract.spec import JobSpec
from launch import run_files
from launch.backends.protocol import Backend, Client, Reason

_SINGLE_FILE = """\
set -euo pipefail

main() {
  # The files stay small and are kept: the run copies them into its directory.
  folder=$(mktemp -d "${TMPDIR:-/tmp}/hatrain.XXXXXX")
  mkdir "$folder/launch"
  unpack
  exec bash "$folder/launch/node.sh" "$folder/plan.json" < /dev/null
}
"""


class LocalBackend(Backend[LocalCluster]):
    on_this_machine = True

    def refusals(self, job: JobSpec, run: str) -> Iterator[Reason]:
        if job.hardware.nodes > 1:
            yield "hardware.nodes", f"found {job.hardware.nodes}; a local cluster is one machine: write 1"

    def python(self) -> str:
        return self.cluster.python or variables.literal(sys.executable)

    def files(self, plan: Plan) -> dict[str, str]:
        script = Path(__file__).with_name("local.sh").read_text(encoding="utf-8")
        return {**run_files.shared(plan), "launch/local.sh": script}

    def single_file(self, plan: Plan) -> str:
        """Without local.sh: a user who pipes a script to bash decides about the next attempt."""
        about = f"# One attempt of {plan.job.name} on this machine: pipe it to bash. The exit code is the run's own."
        carried = {"plan.json": run_files.plan_json(plan), **run_files.shared(plan)}
        return "\n".join(["#!/usr/bin/env bash", about, _SINGLE_FILE, *run_files.unpack(carried), "", "main", ""])

    def start_command(self, folder: str) -> str:
        return f"bash {shlex.quote(f'{folder}/launch/node.sh')} {shlex.quote(f'{folder}/plan.json')}"

    def client(self) -> Client:
        from launch.backends.local.client import LocalClient

        return LocalClient()
