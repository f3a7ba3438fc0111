"""Whether this machine can run a job, asked before anything is written: the checks that the run itself makes before its
first step, and what its plan needs of GPUs and main memory."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hatrain import doctor
from hatrain.contract.gpus import GIB, job_name
from hatrain.contract.plan import Plan
from hatrain.doctor.gpus import Facts, ask_driver
from hatrain.errors import BadInput
from hatrain.runtime import memory

ELSEWHERE = "to run it elsewhere: --cluster NAME (hatrain clusters lists them)"


def check(plans: Sequence[Plan]) -> list[str]:
    """Return what a user should know before the plans run here, one line each. Raises BadInput with every reason why
    one cannot."""
    facts = ask_driver() if any(plan.device == "cuda" for plan in plans) else None
    problems = list(dict.fromkeys(problem for plan in plans for problem in _problems(plan, facts)))
    if problems:
        raise BadInput(problems)
    return list(dict.fromkeys(note for plan in plans for note in _notes(plan, facts)))


def _problems(plan: Plan, facts: Facts | None) -> Iterator[str]:
    for finding in doctor.needed_by(plan, facts, exports=False):
        # Of another interpreter's torch nothing is known.
        if finding.state == "bad" and not (finding.check == "CUDA" and plan.python != sys.executable):
            key = {"GPUs": "hardware.gpu", "CUDA": "hardware.gpu"}.get(finding.check, finding.check)
            yield f"{key}: {finding.line()}{f'; {ELSEWHERE}' if key == 'hardware.gpu' else ''}"
    need, smallest = plan.memory, _smallest(plan, facts)
    if need and need.fits and smallest and need.total > smallest["memory"]:
        yield (
            f"hardware.gpu: the run needs {_gib(need.total)} GiB of {plan.job.hardware.gpu}, and this machine has "
            f"{_described(smallest)}; --set hardware.gpu={_name(smallest)} plans for it; {ELSEWHERE}"
        )
    if need and need.host > (there := memory.total()) > 0:
        yield (
            f"main memory: the run needs {_gib(need.host)} GiB, and this machine has {_gib(there)} with its swap; "
            f"{ELSEWHERE}"
        )


def _notes(plan: Plan, facts: Facts | None) -> Iterator[str]:
    smallest = _smallest(plan, facts)
    if smallest and (name := _name(smallest)) != plan.job.hardware.gpu:
        yield (
            f"hardware.gpu: {plan.job.hardware.gpu}, but this machine has {_described(smallest)}; "
            f"--set hardware.gpu={name} plans for it"
        )


def _smallest(plan: Plan, facts: Facts | None) -> Mapping[str, Any] | None:
    """The GPU with the least memory among those that the ranks would get; None on processors, and without one."""
    if facts is None or plan.device != "cuda":
        return None
    return min(facts.gpus[: plan.processes_per_node], key=lambda gpu: gpu["memory"], default=None)


def _name(gpu: Mapping[str, Any]) -> str:
    return job_name(str(gpu["name"]), gpu["memory"])


def _described(gpu: Mapping[str, Any]) -> str:
    return f"{gpu['name']} with {_gib(gpu['memory'])} GiB"


def _gib(size: int) -> str:
    return f"{size / GIB:.1f}"
