"""What a job gets from the shell and the cluster file that send it, on a real Slurm with accounting and without:
scripts that were sent by hand, the environment, further options, the code it runs."""

from pathlib import Path

import pytest

from hatrain.runtime import provenance
from launch.backends.slurm.client import SlurmClient
from launch.cluster_files import load_cluster
from tests.slurm.cluster import DEADLINE
from tests.slurm.workspace import Workspace, calls, environment, exit_codes


@pytest.fixture(params=["slurm", "accounting"])
def workspace(request, tmp_path) -> Workspace:
    return Workspace(tmp_path, request.getfixturevalue(request.param))


def status(workspace: Workspace, name: str = "kitchen") -> list[str]:
    return workspace.hatrain("status", name).splitlines()[1].split()


def arguments(workspace: Workspace, behavior: str = "finish", **cluster: object) -> list[str]:
    return [str(workspace.job_file()), "--cluster", str(workspace.cluster_file(behavior=behavior, **cluster))]


# --- by hand ------------------------------------------------------------------------------------------------


def test_a_script_that_was_sent_by_hand_is_a_run_like_any_other(workspace):
    sent = arguments(workspace, "stop")
    job = workspace.sbatch("--begin=now+3600", script=workspace.rendered(*sent))
    refused = workspace.hatrain("submit", *sent, code=2)
    assert f"Slurm has job {job} (PENDING) of this name" in refused and f"scancel {job}" in refused
    workspace.slurm.run("scontrol", "update", f"JobId={job}", "StartTime=now")
    run = workspace.run()
    workspace.until_training(run)
    assert status(workspace) == ["kitchen", "my-slurm", "running", "-", "1", job]
    assert "is running already" in workspace.hatrain("submit", *sent, code=2)
    logs = workspace.hatrain("logs", "kitchen")
    assert "the output of node N is in" in logs and "training stop in attempt 1" in logs
    waiting = workspace.start("wait", "kitchen")
    workspace.hatrain("cancel", "kitchen")
    output, _ = waiting.communicate(timeout=DEADLINE)
    assert waiting.returncode == 130, output
    assert [event["job"] for event in run.events() if event["event"] == "submitted"] == [job]


def test_a_script_by_hand_whose_environment_is_broken_has_a_state_and_a_log(workspace):
    job = workspace.sbatch(script=workspace.rendered(*arguments(workspace, python="/no/such/python")))
    assert workspace.end_of_job(job) == "FAILED"
    assert status(workspace)[:6] == ["kitchen", "my-slurm", "failed", "-", "-", job]
    assert "no attempt started (exit code 127)" in workspace.hatrain("logs", "kitchen")
    workspace.hatrain("wait", "kitchen", code=127)


def test_an_exit_code_above_128_is_shown_as_it_is_or_as_what_sacct_makes_of_it(workspace, monkeypatch):
    broken = workspace.folder / "broken"
    broken.write_text("#!/bin/bash\nexit 255\n")
    broken.chmod(0o755)
    run = workspace.submit(cluster={"python": str(broken)})
    workspace.end(run)
    workspace.hatrain("wait", "kitchen", code=255)
    if not workspace.slurm.has_accounting:
        return
    # Later the controller has forgotten the job, and only sacct is left.
    monkeypatch.setenv("SLURM_CONF", workspace.slurm.environ["SLURM_CONF"])
    monkeypatch.setattr("launch.backends.slurm.states.in_queue", lambda machine, jobs: iter(()))
    client, job = SlurmClient(load_cluster(str(workspace.cluster_file()))[1]), workspace.job_id(run)
    workspace.until(lambda: client.states({job: run})[job].phase == "ended")
    state = client.states({job: run})[job]
    assert state.code == 127 and "exit code 127 in sacct, which takes 128 off" in state.reason


# --- the environment ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["the shell", "the cluster file"])
def test_a_job_without_the_variables_of_the_shell_that_sends_it_runs(workspace, how):
    cluster = {"directives": {"export": "NONE"}} if how == "the cluster file" else {}
    variables = {"OF_THE_SHELL": "1"} | ({"SBATCH_EXPORT": "NONE"} if how == "the shell" else {})
    workspace.slurm.environ |= variables
    try:
        run = workspace.submit(cluster=cluster, hardware__nodes=2)
        assert workspace.end(run) == "COMPLETED", workspace.report(run)
    finally:
        for name in variables:
            del workspace.slurm.environ[name]
    for node in (0, 1):
        assert "OF_THE_SHELL" not in environment(run, node)
        assert environment(run, node)["PATH"]


def test_values_of_the_cluster_file_expand_variables_of_the_node(workspace):
    scratch = workspace.folder / "of the node"
    scratch.mkdir()
    run = workspace.submit(
        cluster={
            "setup": [f"export NODE_SCRATCH='{scratch}'"],
            "scratch": "$NODE_SCRATCH",
            "environment": {"HF_HOME": "${NODE_SCRATCH}/hf", "LITERAL": "$$NODE_SCRATCH $(id) `id`"},
        },
    )
    assert workspace.end(run) == "COMPLETED", workspace.report(run)
    variables = environment(run)
    assert variables["HF_HOME"] == f"{scratch}/hf"
    assert variables["LITERAL"] == "$NODE_SCRATCH $(id) `id`"
    assert variables["TRITON_CACHE_DIR"].startswith(f"{scratch}/hatrain-")


def test_a_variable_that_the_node_lacks_ends_the_run_with_its_name(workspace):
    run = workspace.submit(cluster={"environment": {"HF_HOME": "$NO_SUCH_VARIABLE/hf"}})
    assert workspace.end(run) == "FAILED"
    assert "environment.HF_HOME: $NO_SUCH_VARIABLE is not set on node" in workspace.hatrain("logs", "kitchen")
    workspace.hatrain("wait", "kitchen", code=78)
    assert calls(run) == []


# --- options ------------------------------------------------------------------------------------------------


def test_srun_gets_the_options_of_the_cluster_file(workspace):
    run = workspace.submit(cluster={"srun": {"cpu-bind": "none", "mpi": "none", "quit-on-interrupt": None}})
    assert workspace.end(run) == "COMPLETED", workspace.report(run)
    script = (run.launch / "job.sbatch").read_text()
    assert "srun_options=(--cpu-bind=none --mpi=none --quit-on-interrupt)\n" in script
    assert environment(run)["SLURM_CPU_BIND_TYPE"] == "none"


def test_a_sweep_runs_as_many_at_once_as_it_is_told(workspace):
    sweep = ["--sweep", "method.learning_rate=1e-5,2e-5,3e-5", "--at-once", "2"]
    workspace.hatrain("submit", *arguments(workspace, "stop"), *sweep)
    runs = [workspace.run(f"kitchen/sweep/{number}") for number in range(3)]
    workspace.until_training(runs[0]), workspace.until_training(runs[1])
    assert workspace.squeue(runs[2], "%T %r") == "PENDING JobArrayTaskLimit"
    workspace.hatrain("cancel", "kitchen")
    assert "--at-once: is for a sweep" in workspace.hatrain("submit", *arguments(workspace), "--at-once", "2", code=2)


def test_a_partition_that_does_not_queue_again_is_named_before_the_submission(workspace):
    output = workspace.hatrain("submit", *arguments(workspace, partition="frail"))
    assert output.index("note: the partition frail cancels preempted jobs") < output.index("is submitted to")
    assert workspace.end(workspace.run()) == "COMPLETED"


def test_a_site_that_does_not_queue_jobs_again_is_named_and_is_asked_to(workspace):
    configuration = workspace.slurm.folder / "etc" / "slurm.conf"
    before = configuration.read_text()
    configuration.write_text(f"{before}JobRequeue=0\n")
    workspace.slurm.run("scontrol", "reconfigure")
    try:
        output = workspace.hatrain("submit", *arguments(workspace, "full,finish"))
        assert output.index("JobRequeue=0") < output.index("is submitted to")
        assert workspace.end(workspace.run()) == "COMPLETED"
    finally:
        configuration.write_text(before)
        workspace.slurm.run("scontrol", "reconfigure")


def test_a_full_disk_is_named_and_the_job_is_queued_again_for_room_may_come(workspace):
    run = workspace.submit(behavior="full,finish")
    assert workspace.end(run) == "COMPLETED", workspace.report(run)
    assert exit_codes(run) == [75, 0]
    assert "the disk is full" in workspace.hatrain("logs", "kitchen")
    (reasons,) = [event["reasons"] for event in run.events() if event["event"] == "outcome" and event["code"] == 75]
    assert reasons == {"rank 0": "the disk is full"}


# --- the code -----------------------------------------------------------------------------------------------


def test_a_run_starts_from_its_copy_of_the_code_and_says_when_that_has_changed(workspace):
    held = arguments(workspace, "fault,finish", directives={"begin": "now+3600"})
    workspace.hatrain("submit", *held, "--snapshot")
    run = workspace.run()
    copied = run.folder / "code/hatrain/text.py"
    assert copied.read_text() == (Path(provenance.__file__).parents[1] / "text.py").read_text()
    assert not list(run.folder.glob(".code*")) and (run.folder / "code/launch").is_dir()
    with copied.open("a") as file:
        file.write("# changed\n")
    workspace.slurm.run("scontrol", "update", f"JobId={workspace.job_id(run)}", "StartTime=now")
    workspace.until(lambda: exit_codes(run) == [1], run)
    with copied.open("a") as file:
        file.write("# changed again\n")
    assert workspace.end(run) == "COMPLETED", workspace.report(run)
    begun = [event for event in run.events() if event["event"] == "attempt begun"]
    # Both starts ran the copy, as it was then.
    assert len({provenance.package_digest(), *(event["package"] for event in begun)}) == 3
    assert {event["commit"] for event in begun} == {provenance.commit()}
    (changed,) = [event for event in run.events() if event["event"] == "code changed"]
    assert changed["since"] == "attempt begun"
    assert "the code is not that of" in workspace.hatrain("logs", "kitchen")
