"""What goes wrong around a job on a real Slurm, with accounting and without: a controller that is away, a node that is
cut off, a cancelled job, memory, a batch shell that is killed."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hatrain.runtime import seal
from tests.slurm.cluster import DEADLINE, NODES
from tests.slurm.workspace import Workspace, calls, environment, exit_codes

IMPATIENT = {"PATIENCE": "1", "HATRAIN_STOP_GRACE": "2"}


def on(node: int, **variables: str) -> dict[str, Any]:
    """Keys of a cluster file."""
    others = ",".join(f"node{number}" for number in range(1, NODES + 1) if number != node)
    return {"directives": {"exclude": others}, "environment": variables}


@pytest.fixture(scope="module")
def both(slurm, accounting, tmp_path_factory) -> Iterator[dict[str, Workspace]]:
    """The same jobs on both clusters, which all meet their faults at the same time: Slurm takes some seconds for each
    end and each restart, and a minute for a step that ended while the controller was away."""
    clusters = {"without accounting": slurm, "with accounting": accounting}
    workspaces = {name: Workspace(tmp_path_factory.mktemp("faults"), each) for name, each in clusters.items()}
    for workspace in workspaces.values():
        start(workspace)
    for workspace in workspaces.values():
        bring_about_faults(workspace)
    for workspace in workspaces.values():
        take_the_controller_away(workspace)
    yield workspaces
    for cluster in clusters.values():
        cluster.resume_nodes()


@pytest.fixture(params=["without accounting", "with accounting"])
def faults(request, both) -> Workspace:
    return both[request.param]


def start(workspace: Workspace) -> None:
    workspace.submit("cut-off", behavior="stop,finish")
    workspace.submit("hanging", behavior="ignore-stops,finish", cluster={"environment": IMPATIENT})
    # Slurm drains the node of a batch shell that was killed.
    workspace.submit("killed", behavior="ignore-stops", cluster=on(2))
    workspace.submit("caches", behavior="ignore-stops,finish", cluster=on(3))
    workspace.submit("away", behavior="stop,finish", cluster=on(3))
    workspace.submit("cancelled", behavior="ignore-stops", cluster=on(3))
    workspace.submit("memory", "eat-memory", cluster={"memory": "200MiB"} | on(3), limits__retries=0)


def bring_about_faults(workspace: Workspace) -> None:
    cluster, run = workspace.slurm, workspace.run
    for name in ("cut-off", "hanging", "killed", "caches", "away", "cancelled"):
        workspace.until_training(run(name))
    workspace.wait = workspace.start("wait", "cancelled")
    cluster.run("scancel", workspace.job_id(run("cancelled")))
    script = cluster.folder / f"spool/node2/job{int(workspace.job_id(run('killed'))):05}/slurm_script"
    assert cluster.signal("bash", signal.SIGKILL, str(script))
    workspace.first_cache = Path(environment(run("caches"))["TRITON_CACHE_DIR"]).parent
    cluster.run("scontrol", "requeue", workspace.job_id(run("caches")))
    # Slurm loses a node and starts its jobs elsewhere, while their processes live on.
    assert [workspace.squeue(run(name), "%N") for name in ("cut-off", "hanging")] == ["node1", "node1"]
    assert cluster.signal("slurmd", signal.SIGSTOP, "node1")
    cluster.run("scontrol", "update", "NodeName=node1", "State=DOWN", "Reason=test")


def take_the_controller_away(workspace: Workspace) -> None:
    """It is away when a run ends."""
    for name in ("cut-off", "hanging", "killed", "caches", "cancelled", "memory"):
        workspace.end(workspace.run(name))
    away = workspace.run("away")
    workspace.slurm.stop_controller()
    seal.write_json(away.attempts / "1/STOP", {"reason": "a test", "requeue": True})
    workspace.until_text(away.launch / f"slurm-{workspace.job_id(away)}.log", "asking again", away)
    workspace.slurm.restart_controller()


def status(workspace: Workspace, name: str) -> str:
    return workspace.hatrain("status", name).splitlines()[1]


def test_a_run_that_slurm_cancelled_is_cancelled_and_never_a_success(faults):
    """The lease of the killed process looks alive for a minute and a half."""
    output, _ = faults.wait.communicate(timeout=DEADLINE)
    assert faults.wait.returncode == 130, output
    assert "cancelled (130): CANCELLED" in output
    assert status(faults, "cancelled").split()[2] == "cancelled"


def test_a_killed_batch_shell_is_told(faults):
    assert "the batch script itself was killed (signal 9)" in status(faults, "killed")
    assert faults.hatrain("wait", "killed", code=137)


def test_a_step_that_slurm_killed_for_its_memory_says_what_to_change(faults):
    line = status(faults, "memory")
    assert line.split()[2] == "failed" and "retries used up" in line, faults.report(faults.run("memory"))
    assert "raise memory in the cluster file" in line


def test_a_start_after_a_lost_node_asks_the_earlier_one_to_stop(faults):
    run = faults.run("cut-off")
    assert faults.end(run) == "COMPLETED", faults.report(run)
    assert exit_codes(run) == [75, 0]
    assert "started the job again" in json.loads((run.attempts / "1/STOP").read_text())["reason"]
    # The batch script on the lost node must not queue the new start again.
    faults.until_text(run.launch / f"slurm-{faults.job_id(run)}.log", "not requeued, because", run)
    assert len(calls(run)) == 2


def test_an_earlier_start_that_does_not_leave_is_superseded_and_writes_nothing_more(faults):
    run = faults.run("hanging")
    assert faults.end(run) == "COMPLETED", faults.report(run)
    assert exit_codes(run) == [0]
    faults.until_text(run.launch / f"slurm-{faults.job_id(run)}.0-node-0.log", "superseded", run)
    assert exit_codes(run) == [0]


def test_the_caches_of_a_killed_start_are_removed_by_the_next(faults):
    run = faults.run("caches")
    assert faults.end(run) == "COMPLETED", faults.report(run)
    assert not faults.first_cache.exists()
    assert not list(faults.first_cache.parent.glob(f"hatrain-{faults.job_id(run)}-*"))


def test_a_run_that_ends_while_the_controller_is_away_is_queued_again(faults):
    run = faults.run("away")
    assert faults.end(run) == "COMPLETED", faults.report(run)
    assert exit_codes(run) == [75, 0]
    log = (run.launch / f"slurm-{faults.job_id(run)}.log").read_text()
    assert log.index("cannot be requeued yet") < log.index("exit code 75; requeued")
    assert log.count("requeued\n") == 1
