"""Jobs on a real Slurm, from submission to every kind of end, with a stand-in for the trainer."""

import json
import subprocess
from pathlib import Path

import pytest

from hatrain.contract import variables
from hatrain.contract.run import RunDirectory
from tests.slurm.cluster import DEADLINE
from tests.slurm.workspace import Workspace, calls, environment, exit_codes


def state(workspace: Workspace, run: RunDirectory) -> str:
    """The state that `hatrain status` prints."""
    return workspace.hatrain("status", run.name).splitlines()[1].split()[2]


@pytest.fixture(scope="module")
def requeued(slurm, tmp_path_factory):
    """Jobs that are requeued, all at once: Slurm waits some seconds before each restart."""
    workspace = Workspace(tmp_path_factory.mktemp("requeued jobs"), slurm)
    workspace.submit("fault", behavior="fault,finish", hardware__nodes=2)
    early = workspace.submit("early", behavior="stop,finish", cluster={"setup": ["sleep 5"]})
    # Slurm counts in minutes, and sends the signal up to one minute early.
    workspace.submit("warned", behavior="stop,finish", limits__time="00:01:00", cluster={"signal_lead": "00:00:57"})
    workspace.until(lambda: list(early.launch.glob("*-node-0.log")), early)
    workspace.submit("after", after="early")
    slurm.run("scancel", "--batch", "--signal=USR1", workspace.job_id(early))
    assert not early.all_attempts()
    arguments = [
        str(workspace.job_file("rates")),
        "--cluster",
        str(workspace.cluster_file(behavior="fault,finish")),
    ]
    workspace.hatrain("submit", *arguments, "--sweep", "method.learning_rate=1e-5,2e-5")
    arguments = [
        str(workspace.job_file("single-file", hardware__nodes=2)),
        "--cluster",
        str(workspace.cluster_file(behavior="fault,finish")),
    ]
    workspace.single_file_job = workspace.sbatch(script=workspace.rendered(*arguments))
    return workspace


# --- submission to end --------------------------------------------------------------------------------------


def test_a_job_on_two_nodes_completes_with_a_log_for_each_node(workspace):
    run = workspace.submit(hardware__nodes=2)
    assert workspace.end(run) == "COMPLETED", workspace.report(run)
    assert run.done.exists() and exit_codes(run) == [0]
    assert sorted(calls(run)) == ["training finish", "training finish on node 1"]
    job = workspace.job_id(run)
    assert "training finish in attempt 1" in (run.launch / f"slurm-{job}.0-node-0.log").read_text()
    assert "node 1 in attempt 1" in (run.launch / f"slurm-{job}.0-node-1.log").read_text()
    assert "node 1 in attempt 1" in workspace.hatrain("logs", run.name, "--node", "1")
    assert "training finish in attempt 1" in workspace.hatrain("logs", run.name)
    assert "nodes 0 to 1" in workspace.hatrain("logs", run.name, "--node", "2", code=2)


def test_status_stop_and_wait_at_every_stage(workspace):
    run = workspace.submit(behavior="stop", cluster={"directives": {"begin": "now+3600"}})
    assert state(workspace, run) == "queued"
    assert "BeginTime" in workspace.hatrain("status", run.name)
    assert "no attempt is running" in workspace.hatrain("stop", run.name, code=1)
    workspace.slurm.run("scontrol", "update", f"JobId={workspace.job_id(run)}", "StartTime=now")
    waiting, following = workspace.start("wait", run.name), workspace.start("logs", run.name, "--follow")
    workspace.until_training(run)
    assert state(workspace, run) == "running"
    assert "is running already" in workspace.hatrain(
        "submit", str(workspace.job_file()), "--cluster", str(workspace.cluster_file()), code=2
    )
    assert "saves a checkpoint" in workspace.hatrain("stop", run.name)
    assert workspace.end(run) == "FAILED"
    assert state(workspace, run) == "stopped"
    assert exit_codes(run) == [130]
    waited, followed = waiting.communicate(timeout=DEADLINE)[0], following.communicate(timeout=DEADLINE)[0]
    assert (waiting.returncode, following.returncode) == (130, 130), waited + followed
    assert "training stop in attempt 1" in followed
    assert "there is nothing to stop" in workspace.hatrain("stop", run.name, code=1)


def test_a_job_that_is_cancelled_while_queued_never_starts(workspace):
    run = workspace.submit(cluster={"directives": {"begin": "now+3600"}})
    workspace.hatrain("cancel", run.name)
    workspace.until(lambda: workspace.squeue(run) in ("", "CANCELLED"), run)
    assert state(workspace, run) == "cancelled"
    assert "cancelled (130)" in workspace.hatrain("wait", run.name, code=130)
    assert calls(run) == []


def test_a_job_that_is_cancelled_while_running_is_not_requeued(workspace):
    run = workspace.submit(behavior="stop")
    workspace.until_training(run)
    workspace.hatrain("cancel", run.name)
    assert workspace.end(run) == "CANCELLED"
    workspace.until(lambda: exit_codes(run) == [130], run)
    assert state(workspace, run) in ("stopped", "cancelled")


def test_scancel_by_hand_ends_a_job_that_could_be_requeued(workspace):
    run = workspace.submit(behavior="stop")
    workspace.until_training(run)
    workspace.slurm.run("scancel", workspace.job_id(run))
    assert workspace.end(run) == "CANCELLED"
    # It saved a checkpoint, and would have been requeued if Slurm had preempted it.
    assert exit_codes(run) == [75]
    assert "not requeued" in workspace.hatrain("logs", run.name)


def test_a_job_that_can_never_succeed_is_not_requeued(workspace):
    run = workspace.submit(behavior="fatal")
    assert workspace.end(run) == "FAILED"
    assert "failed (78): out of GPU memory" in workspace.hatrain("wait", run.name, code=78)
    assert len(calls(run)) == 1


def test_a_job_is_requeued_after_a_fault(requeued):
    workspace, run = requeued, requeued.run("fault")
    assert workspace.end(run) == "COMPLETED", workspace.report(run)
    assert exit_codes(run) == [1, 0]
    # The logs contain both starts, in order.
    logs = workspace.hatrain("logs", str(run.folder))
    assert logs.index("training fault in attempt 1") < logs.index("training finish in attempt 2")
    assert "exit code 1; requeued" in logs


def test_one_task_of_an_array_is_requeued(requeued):
    workspace = requeued
    for number in range(2):
        run = workspace.run(f"rates/sweep/{number}")
        assert workspace.end(run) == "COMPLETED", workspace.report(run)
        assert exit_codes(run) == [1, 0]


def test_the_single_file_is_piped_to_sbatch_and_requeued_like_any_job(requeued):
    workspace, run = requeued, requeued.run("single-file")
    assert workspace.end_of_job(workspace.single_file_job) == "COMPLETED", workspace.report(run)
    assert exit_codes(run) == [1, 0] and run.done.exists()
    assert run.job_file.exists() and (run.launch / "step.sh").exists()
    assert "requeued" in (workspace.folder / f"single-file-{workspace.single_file_job}.log").read_text()


def test_a_job_whose_attempts_never_start_is_not_requeued(workspace):
    run = workspace.submit(cluster={"python": "/no/such/python"})
    assert workspace.end(run) == "FAILED"
    assert "no attempt started (exit code 127)" in workspace.hatrain("logs", run.name)


# --- time limit and preemption ------------------------------------------------------------------------------


def test_a_signal_before_the_time_limit_leads_to_a_checkpoint_and_a_requeue(requeued):
    workspace, run = requeued, requeued.run("warned")
    assert workspace.end(run) == "COMPLETED", workspace.report(run)
    assert exit_codes(run) == [75, 0]
    stop = json.loads((run.attempts / "1/STOP").read_text())
    assert stop["requeue"] is True and "SIGUSR1" in stop["reason"]


def test_a_signal_before_the_attempt_stops_the_attempt_once_it_has_started(requeued):
    workspace, run = requeued, requeued.run("early")
    assert workspace.end(run) == "COMPLETED", workspace.report(run)
    assert "SIGUSR1" in json.loads((run.attempts / "1/STOP").read_text())["reason"]
    assert exit_codes(run)[-1] == 0


def test_a_signal_does_not_override_the_stop_of_a_user(workspace):
    run = workspace.submit(behavior="slow-stop")
    workspace.until_training(run)
    workspace.hatrain("stop", run.name)
    workspace.slurm.run("scancel", "--batch", "--signal=USR1", workspace.job_id(run))
    assert workspace.end(run) == "FAILED"
    assert exit_codes(run) == [130]


def test_a_preempted_job_saves_a_checkpoint_and_continues_later(workspace):
    """In the partition `grace` Slurm waits a minute, and takes a job that exits within it for finished."""
    runs = [workspace.submit(name, behavior="stop,finish", cluster={"partition": name}) for name in ("spot", "grace")]
    for run in runs:
        workspace.until_training(run)
    everything = ["--exclusive", "--nodes=3", "--partition=gpu", "--parsable", "--output=/dev/null"]
    other = workspace.slurm.run("sbatch", *everything, "--wrap", "sleep 1")
    try:
        for run in runs:
            assert workspace.end(run) == "COMPLETED", workspace.report(run)
            assert exit_codes(run) == [75, 0]
    finally:
        workspace.slurm.run("scancel", other)


# --- dependencies and sweeps --------------------------------------------------------------------------------


def test_a_dependent_job_is_cancelled_when_the_first_fails(workspace):
    first = workspace.submit("first", behavior="slow-stop")
    workspace.until_training(first)
    second = workspace.submit("second", after="first")
    assert workspace.squeue(second, "%T %r") == "PENDING Dependency"
    workspace.hatrain("stop", "first")
    assert workspace.end(first) == "FAILED"
    workspace.until(lambda: workspace.squeue(second) in ("", "CANCELLED"), second)
    assert calls(second) == []
    assert state(workspace, second) in ("cancelled", "failed", "lost")


def test_a_dependent_job_keeps_waiting_when_the_first_is_requeued(requeued):
    workspace, first, second = requeued, requeued.run("early"), requeued.run("after")
    assert workspace.end(second) == "COMPLETED", workspace.report(second)
    assert len(exit_codes(first)) > 1 and exit_codes(second) == [0]


def test_a_finished_parent_needs_no_dependency_and_an_unknown_one_is_refused(workspace):
    arguments = [str(workspace.job_file("second", after="first")), "--cluster", str(workspace.cluster_file())]
    assert "after: first: no such run" in workspace.hatrain("submit", *arguments, code=2)
    assert not workspace.run("second").folder.exists()
    first = workspace.submit("first")
    workspace.end(first)
    assert "--dependency" not in workspace.hatrain("submit", *arguments, "--dry-run").rpartition("==> command")[2]
    second = workspace.submit("second", after="first")
    assert workspace.end(second) == "COMPLETED"


def test_a_sweep_is_one_array_whose_tasks_are_its_runs(workspace):
    arguments = [str(workspace.job_file("rates")), "--cluster", str(workspace.cluster_file())]
    output = workspace.hatrain("submit", *arguments, "--sweep", "method.learning_rate=1e-5,2e-5,3e-5")
    runs = [workspace.run(f"rates/sweep/{number}") for number in range(3)]
    jobs = [workspace.job_id(run) for run in runs]
    assert {job.partition("_")[0] for job in jobs} == {jobs[0].partition("_")[0]}, output
    assert [job.partition("_")[2] for job in jobs] == ["0", "1", "2"]
    for run, rate in zip(runs, (1e-5, 2e-5, 3e-5), strict=True):
        assert workspace.end(run) == "COMPLETED", workspace.report(run)
        assert run.done.exists()
        assert run.plan().job.method.learning_rate == rate
        assert "training finish in attempt 1" in workspace.hatrain("logs", run.name)
    assert workspace.hatrain("status", "rates").count("finished") == 3


# --- resources and environment ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cluster", "job", "message"),
    [
        ({}, {"hardware__nodes": 4}, "Node count specification invalid"),
        (
            {"gpus": {"h100-80gb": "h100"}},
            {"hardware__gpu": "h100-80gb"},
            "node configuration is not available",
        ),
        ({"partition": "nope"}, {}, "invalid partition specified: nope"),
        ({}, {"limits__time": "72:00:00"}, "time limit is invalid"),
        ({"directives": {"no-such-option": "x"}}, {}, "unrecognized option '--no-such-option=x'"),
    ],
)
def test_an_impossible_request_is_refused_with_slurms_reason_before_anything_is_written(
    workspace, cluster, job, message
):
    arguments = [str(workspace.job_file(**job)), "--cluster", str(workspace.cluster_file(**cluster))]
    output = workspace.hatrain("submit", *arguments, code=2)
    assert message in output
    assert len([line for line in output.splitlines() if line.startswith("sbatch:")]) == 1
    assert not workspace.run().folder.exists()


@pytest.mark.parametrize("style", ["gpus-per-node", "gres"])
def test_a_job_gets_gpus_of_the_requested_type(workspace, style):
    run = workspace.submit(
        cluster={"gpus_style": style, "gpus": {"a100-80gb": "a100"}},
        hardware={"gpu": "a100-80gb", "gpus_per_node": 4},
    )
    workspace.until(lambda: list(run.folder.glob("environ-0")), run)
    assert "gpu:a100:4" in workspace.slurm.run("scontrol", "show", "job", "-d", workspace.job_id(run))
    assert environment(run)["CUDA_VISIBLE_DEVICES"] == "0,1,2,3"
    # docker.sh passes this to the docker daemon.
    assert environment(run)["SLURM_STEP_GPUS"] == "0,1,2,3"


def test_every_node_has_the_rendezvous_the_cores_and_caches_of_its_own(workspace):
    run = workspace.submit(cluster={"cpus_per_process": 3}, hardware__nodes=2)
    assert workspace.end(run) == "COMPLETED", workspace.report(run)
    nodes = [environment(run, node) for node in (0, 1)]
    assert {node["MASTER_PORT"] for node in nodes} == {str(10000 + int(workspace.job_id(run)) % 20000)}
    assert {node["MASTER_ADDR"] for node in nodes} == {nodes[0]["SLURMD_NODENAME"]}
    assert {node["SLURM_CPUS_PER_TASK"] for node in nodes} == {"3"}
    # Well before Slurm would end the ranks.
    assert {node["HATRAIN_STOP_GRACE"] for node in nodes} == {"270"}
    # On the disk of the node, and deleted with the job.
    for variable in ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"):
        caches = {node[variable] for node in nodes}
        assert len(caches) == 2 and all(cache.startswith("/tmp/hatrain-") for cache in caches)
        assert not [cache for cache in caches if Path(cache).parent.exists()]


def test_a_users_sbatch_variables_do_not_override_the_cluster_file(workspace):
    workspace.slurm.environ |= {"SBATCH_PARTITION": "spot", "SLURM_MEM_PER_CPU": "7", "SBATCH_TIMELIMIT": "3"}
    try:
        run = workspace.submit()
        assert workspace.end(run) == "COMPLETED", workspace.report(run)
    finally:
        for name in ("SBATCH_PARTITION", "SLURM_MEM_PER_CPU", "SBATCH_TIMELIMIT"):
            del workspace.slurm.environ[name]
    assert workspace.squeue(run, "%P %l") == "gpu 20:00"


# --- rendered to a folder -----------------------------------------------------------------------------------


def test_a_rendered_folder_starts_with_the_command_that_render_prints(workspace):
    arguments = [
        str(workspace.job_file()),
        "--cluster",
        str(workspace.cluster_file()),
        "--out",
        "written out",
    ]
    output = workspace.hatrain("render", *arguments)
    command = output.rpartition("to start it: ")[2].strip()
    result = subprocess.run(
        ["bash", "-c", command],
        cwd="/",
        env=workspace.slurm.environ,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert result.returncode == 0, result.stderr
    assert workspace.end_of_job(result.stdout.split()[-1]) == "COMPLETED", workspace.report(workspace.run())
    assert workspace.run().done.exists()


# --- odd values ---------------------------------------------------------------------------------------------

ODD = 'ünder "the" $HOME; touch CANARY # it\'s `touch CANARY` $(touch CANARY) 100%'
LINES = f"{ODD}\ntouch CANARY\nEND\n"


@pytest.mark.parametrize("how", ["submit", "single file", "sweep"])
def test_odd_names_and_values_neither_break_a_script_nor_run_as_code(slurm, tmp_path, how):
    workspace = Workspace(tmp_path / ODD, slurm)
    cluster = workspace.cluster_file(
        ODD.replace("/", ""),
        environment={"ODD": variables.literal(LINES)},
        directives={"comment": ODD},
        setup=["printf '%s' \"$ODD_OUTSIDE\" > /dev/null"],
    )
    workspace.slurm.environ["ODD_OUTSIDE"] = LINES
    (workspace.folder / "train.jsonl").rename(workspace.folder / f"{ODD}.jsonl")
    arguments = [
        str(workspace.job_file(data__train=f"{ODD}.jsonl", hardware__nodes=2)),
        "--cluster",
        str(cluster),
    ]
    if how == "single file":
        job, run = workspace.sbatch(script=workspace.rendered(*arguments)), workspace.run()
    elif how == "sweep":
        workspace.hatrain("submit", *arguments, "--sweep", "seed=1,2")
        run = workspace.run("kitchen/sweep/0")
        job = workspace.job_id(run)
    else:
        workspace.hatrain("submit", *arguments)
        job, run = workspace.job_id(workspace.run()), workspace.run()
    assert workspace.end_of_job(job) == "COMPLETED", workspace.report(run)
    assert environment(run)["ODD"] == environment(run, 1)["ODD"] == LINES
    assert f"Comment={ODD}" in workspace.slurm.run("scontrol", "show", "job", job)
    assert not list(tmp_path.rglob("CANARY"))
