"""The backend of this machine."""

import shlex
import sys
from collections.abc import Iterator

from hatrain.contract.cluster import LocalCluster
from hatrain.contract.plan import Plan
from hatrain.contract.spec import JobSpec
from launch.backends.local import render
from launch.backends.protocol import Backend, Client, Reason


class LocalBackend(Backend[LocalCluster]):
    on_this_machine = True

    def refusals(self, job: JobSpec, run: str) -> Iterator[Reason]:
        if job.hardware.nodes > 1:
            yield "hardware.nodes", f"found {job.hardware.nodes}; a local cluster is one machine: write 1"

    def python(self) -> str:
        return self.cluster.python or sys.executable

    def files(self, plan: Plan) -> dict[str, str]:
        return render.files(plan)

    def single_file(self, plan: Plan) -> str:
        return render.single_file(plan)

    def start_command(self, folder: str) -> str:
        """Makes one attempt; local.sh would restart it after a fault."""
        return f"bash {shlex.quote(f'{folder}/launch/node.sh')} {shlex.quote(f'{folder}/plan.json')}"

    def client(self) -> Client:
        from launch.backends.local.client import LocalClient

        return LocalClient()
