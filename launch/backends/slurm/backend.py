"""The backend of a Slurm cluster."""

import sys
from collections.abc import Iterator
from pathlib import Path

from hatrain.contract import variables
from hatrain.contract.cluster import SlurmCluster
from hatrain.contract.plan import Plan, ResourceRequest
from hatrain.contract.run import RunDirectory, runs_root
from hatrain.contract.spec import JobSpec, seconds
from launch.backends import gpus
from launch.backends.protocol import Answer, Backend, Client, Reason
from launch.backends.slurm import render

LONGEST_LEAD = 65535
"""Maximum of sbatch's --signal, in seconds."""


class SlurmBackend(Backend[SlurmCluster]):
    @property
    def copies(self) -> bool:
        return self.cluster.ssh is not None

    @property
    def has_image(self) -> bool:
        return self.cluster.container is not None

    def refusals(self, job: JobSpec, run: str) -> Iterator[Reason]:
        cluster, time = self.cluster, job.limits.time
        yield from gpus.refusals(job, cluster.gpus)
        if cluster.time_limit and seconds(time) > seconds(cluster.time_limit):
            yield "limits.time", f"found {time}; the partition grants at most {cluster.time_limit}"
        if seconds(time) <= seconds(cluster.signal_lead):
            yield (
                "limits.time",
                f"found {time}, of which the last {cluster.signal_lead} are reserved for a checkpoint "
                "(signal_lead of the cluster); write more",
            )
        if seconds(cluster.signal_lead) > LONGEST_LEAD:
            yield "cluster.signal_lead", f"found {cluster.signal_lead}; Slurm accepts at most 18:12:15"

    def resources(self, job: JobSpec, run: str) -> ResourceRequest:
        cluster = self.cluster
        cores = cluster.cpus_per_gpu, cluster.cpus_per_process
        return gpus.request(job, job.name, cluster.gpus, *cores, memory=cluster.memory)

    def python(self) -> str:
        """Set-up lines, modules and images have their own interpreter on the PATH."""
        cluster = self.cluster
        own = cluster.container or cluster.setup or cluster.modules
        return cluster.python or ("python3" if own else variables.literal(sys.executable))

    def files(self, plan: Plan) -> dict[str, str]:
        return render.files(plan, self.cluster)

    def single_file(self, plan: Plan) -> str:
        return render.single_file(plan, self.cluster)

    def start_command(self, folder: str) -> str:
        return render.start_command(folder)

    def roots(self, workdir: Path, runs_root: Path) -> tuple[Path, Path]:
        """Behind ssh the cluster has folders of its own."""
        if not self.cluster.ssh:
            return workdir, runs_root
        there = Path(self.cluster.ssh.workdir)
        return there, there / "runs"

    def run_directory(self, plan: Plan) -> RunDirectory:
        run = Path(plan.paths.run)
        return RunDirectory(runs_root() / run.relative_to(Path(plan.paths.workdir) / "runs") if self.copies else run)

    def missing(self, plan: Plan) -> list[str]:
        """Behind ssh, `submit` asks the cluster."""
        return [] if self.copies else super().missing(plan)

    def examine(self) -> Iterator[Answer]:
        if not self.cluster.ssh:
            return super().examine()
        from launch.backends.slurm.ssh.examine import examine

        return examine(self.cluster)

    def client(self) -> Client:
        if self.cluster.ssh:
            from launch.backends.slurm.ssh.client import SshClient

            return SshClient(self.cluster)
        from launch.backends.slurm.client import SlurmClient

        return SlurmClient(self.cluster)
