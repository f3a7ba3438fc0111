"""`hatrain jobs`: the jobs that can be given by name, or one of them as it is written."""

import argparse
import sys
from pathlib import Path

from hatrain.cli.columns import aligned, width
from hatrain.contract import shipped
from hatrain.contract.load import find_job, load_job, read_source
from hatrain.contract.spec import JobSpec
from hatrain.errors import BadInput


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="JOB", nargs="?", help="print this job, to keep: hatrain jobs JOB > my.yaml")


def run(args: argparse.Namespace) -> int:
    """Returns 1 if a job of ./jobs cannot be read."""
    if args.name is not None:
        print(read_source(_file(args.name)), end="")
        return 0
    rows, problems = [("JOB", "BASE MODEL", "TRAINS", "GPU")], list[str]()
    for name, path in shipped.find_jobs().items():
        try:
            job = load_job(str(path))
        except BadInput as error:
            problems += error.problems
            continue
        rows.append((name, job.model.base.rpartition("/")[2], trains(job), gpus(job)))
    print(aligned(rows, width()))
    print(
        "\n".join(["hatrain jobs JOB prints one; your own are in ./jobs and take precedence", *problems]),
        file=sys.stderr,
    )
    return 1 if problems else 0


def _file(name: str) -> Path:
    """A job, or a file that one needs, such as a chat template."""
    others = {path.name: path for path in shipped.jobs().glob("*.jinja")}
    return others[name] if name in others else find_job(name)


def trains(job: JobSpec) -> str:
    """What is trained, in a few characters."""
    lora, quantization = job.method.lora, job.model.quantization
    weights = f"LoRA r{lora.rank}" if lora else "all weights"
    parts = ["DPO"] * (job.method.kind == "dpo") + [weights] + ([quantization.kind] if quantization else [])
    return ", ".join(parts)


def gpus(job: JobSpec) -> str:
    """The job's GPUs on all nodes."""
    number = job.hardware.nodes * job.hardware.gpus_per_node
    return f"{number} × {job.hardware.gpu}" if number > 1 else job.hardware.gpu
