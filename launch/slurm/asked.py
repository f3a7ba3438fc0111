"""What a plan for Slurm has that another has not."""

from hatrain.place import SlurmPlace
from hatrain.plan import Plan, Request


def place_of(plan: Plan) -> SlurmPlace:
    """Return what the cluster file of a plan for Slurm says."""
    assert isinstance(plan.place, SlurmPlace)
    return plan.place


def request_of(plan: Plan) -> Request:
    """Return what Slurm is asked for."""
    assert plan.request is not None
    return plan.request
