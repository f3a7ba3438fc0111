"""Times how fast a job is planned and rendered, from a cold start and a thousand times in one process, and compares it
with submitit's sbatch text and torchx's `--dryrun` for Slurm. Commands are measured in turn, each in a new process.

python bench/launch.py PYTHON_WITH_SUBMITIT_AND_TORCHX [--rounds N]

The others do less: they plan nothing, check nothing and read no job file.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

JOBS = 1000
ROOT = Path(__file__).parents[1]
JOB = ROOT / "jobs" / "stablehome-3b.yaml"
CLUSTERS = ("slurm-venv", "kubernetes")

SUBMITIT = """
import sys
from submitit.slurm.slurm import _make_sbatch_string
for number in range(int(sys.argv[1])):
    _make_sbatch_string(
        command="srun python train.py", folder="runs", job_name=f"run-{number}", partition="gpu", time=1440, nodes=1,
        gpus_per_node=2, cpus_per_task=16, ntasks_per_node=1, signal_delay_s=300,
    )
"""

TORCHX = """
import sys
from torchx.components.dist import ddp
from torchx.schedulers.slurm_scheduler import create_scheduler
scheduler = create_scheduler("bench")
for number in range(int(sys.argv[1])):
    str(scheduler.submit_dryrun(ddp(script="train.py", name=f"run-{number}", j="1x2", gpu=2), {}))
"""


def plan_jobs(job_file: str, cluster_name: str, count: str) -> None:
    """Plan and render a job so many times. `launch` is the package, if this file's folder is not searched (-P)."""
    from hatrain.contract.load import read_job
    from launch import cluster_files, planner
    from launch.backends import backend

    name, cluster = cluster_files.load_cluster(cluster_name)
    for number in range(int(count)):
        job, _ = read_job(job_file, [f"name=run-{number}"])
        plan = planner.plan(job, cluster, name, workdir=Path.cwd(), runs_root=Path("runs"))
        backend(cluster).single_file(plan)


def seconds(command: list[str], folder: str) -> float:
    """Wall time of a command, which must succeed."""
    start = time.perf_counter()
    # Without Slurm's programs on the PATH: torchx would run them to get their version.
    environment = {**os.environ, "PATH": "/nonexistent"}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return time.perf_counter() - start


def table(title: str, commands: dict[str, list[str]], rounds: int, folder: str) -> None:
    """Print the median time of each command, and its ratio to the first."""
    measured: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            measured[name].append(seconds(command, folder))
    first = statistics.median(next(iter(measured.values())))
    print(f"\n{title}, median of {rounds}   seconds   ratio")
    for name, times in measured.items():
        median = statistics.median(times)
        print(f"  {name:32} {median:7.3f} {median / first:7.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", help="an interpreter that has submitit and torchx")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    other = str(Path(args.python).absolute())
    torchx = str(Path(other).with_name("torchx"))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "train.py").touch()
        ours = [sys.executable, "-m", "hatrain"]
        table(
            "one job from a cold start",
            {
                **{
                    f"hatrain {verb}, {cluster}": [*ours, verb, str(JOB), "--cluster", cluster]
                    for cluster in CLUSTERS
                    for verb in ("plan", "render")
                },
                "submitit, sbatch text": [other, "-c", SUBMITIT, "1"],
                "torchx run --dryrun": [
                    torchx,
                    *("run", "--dryrun", "--scheduler", "slurm", "dist.ddp", "-j", "1x2", "--gpu", "2"),
                    *("--script", "train.py"),
                ],
            },
            args.rounds,
            folder,
        )
        table(
            f"{JOBS:,} jobs in one process",
            {
                **{
                    f"hatrain, {cluster}": [sys.executable, "-P", __file__, "jobs", str(JOB), cluster, str(JOBS)]
                    for cluster in CLUSTERS
                },
                "submitit, sbatch text": [other, "-c", SUBMITIT, str(JOBS)],
                "torchx, dryrun": [other, "-c", TORCHX, str(JOBS)],
            },
            max(1, args.rounds // 3),
            folder,
        )


if __name__ == "__main__":
    plan_jobs(*sys.argv[2:]) if sys.argv[1:2] == ["jobs"] else main()
