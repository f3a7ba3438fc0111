"""`--snapshot`: a copy of hatrain beside the runs of a submission, from which every attempt of them starts, whatever
happens to the installed package meanwhile."""

import secrets
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from hatrain.contract import variables
from hatrain.contract.plan import Plan
from hatrain.errors import BadInput
from hatrain.runtime import provenance, seal
from launch.backends import backend
from launch.backends.protocol import Submission

_PACKAGES = ("hatrain", "launch")


def planned(plans: Sequence[Plan]) -> list[Plan]:
    """The plans of a submission, started from the copy. Raises BadInput where an image has the package."""
    first = plans[0]
    if backend(first.cluster_spec).has_image:
        raise BadInput("--snapshot: the image of this cluster has hatrain; pin the image by its digest instead")
    run = Path(first.paths.run)
    code = str((run if len(plans) == 1 else run.parents[1]) / "code")
    return [plan.model_copy(update={"paths": plan.paths.model_copy(update={"code": code})}) for plan in plans]


def is_installed(plan: Plan) -> bool:
    """Whether the job starts the very package that runs now, with its interpreter."""
    return plan.paths.code is None and plan.python == variables.literal(sys.executable)


def write(submission: Submission) -> None:
    """Copy the package of this process, if the submission asks for it. An earlier copy is replaced as a whole."""
    if submission.runs[0].plan.paths.code is None:
        return
    # The folder of this machine: the plan's is that of the machine that runs the job.
    folder = submission.folder / "code"
    aside = folder.with_name(f".code.{secrets.token_hex(4)}")
    package = Path(provenance.__file__).parents[1]
    try:
        for name in _PACKAGES:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(package.with_name(name), aside / name, ignore=ignored)
        facts = {"commit": provenance.commit(), "code": provenance.package_digest()}
        seal.write_json(aside / provenance.SNAPSHOT, facts)
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
