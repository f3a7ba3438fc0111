"""What a plan for Slurm has that another has not."""

from hatrain.contract.cluster import SlurmCluster
from hatrain.contract.plan import Plan, ResourceRequest


def place_of(plan: Plan) -> SlurmCluster:
    """Return what the cluster file of a plan for Slurm says."""
    assert isinstance(plan.cluster_spec, SlurmCluster)
    return plan.cluster_spec


def request_of(plan: Plan) -> ResourceRequest:
    """Return what Slurm is asked for."""
    assert plan.resources is not None
    return plan.resources
