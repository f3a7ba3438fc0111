"""Rendering for Slurm: directives, scripts, odd values. tests/slurm runs the scripts on a real Slurm."""

import signal
import subprocess
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from hatrain.contract.cluster import SlurmCluster
from hatrain.contract.load import read_job
from hatrain.contract.plan import Plan
from hatrain.contract.run import RunDirectory
from hatrain.errors import BadInput
from launch import planner, run_files
from launch.backends.slurm import render
from launch.cluster_files import SHIPPED, load_cluster
from tests import shipped
from tests.golden import matches
from tests.launch.rendering import files, shellcheck, single_file
from tests.plans import a_job

GOLDEN = Path(__file__).parent / "golden"
JOBS = Path(__file__).parents[2] / "jobs"
WORKDIR = Path("/home/ada/training")
EXAMPLES = sorted(path.stem for path in SHIPPED.glob("slurm-*.yaml"))
DOCKER = {
    "kind": "slurm",
    "partition": "gpu",
    "container": {"runtime": "docker", "image": "ghcr.io/ada/hatrain:1"},
}


def a_cluster(**changes) -> SlurmCluster:
    return SlurmCluster.model_validate({"kind": "slurm", **changes})


def a_plan(cluster=None, *, workdir=WORKDIR, cluster_name="my-slurm", run=None, **changes) -> Plan:
    job = a_job(
        **{
            "name": "home-1b",
            "hardware": {"gpu": "a100-80gb", "gpus_per_node": 2, "sharding": "fsdp"},
            **changes,
        }
    )
    return planner.plan(job, cluster or a_cluster(), cluster_name, workdir=workdir, runs_root=workdir / "runs", run=run)


def example(name: str, nodes: int = 2, sharding: str = "ddp") -> Plan:
    """The plan of a job for one of the shipped cluster files, or for docker."""
    cluster = a_cluster(**DOCKER) if name == "docker" else load_cluster(name)[1]
    hardware = {"gpu": "a100-80gb", "gpus_per_node": 2, "nodes": nodes, "sharding": sharding}
    return a_plan(cluster, cluster_name=name, hardware=hardware)


def directives(text: str) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH ")]


def job_script(plan: Plan) -> str:
    return files(plan)[render.JOB]


def container_settings(plan: Plan) -> str:
    """The script that has the settings of the container: pyxis is a part of srun."""
    runtime = plan.cluster_spec.container.runtime
    return job_script(plan) if runtime == "pyxis" else files(plan)["launch/container.sh"]


# --- scripts ------------------------------------------------------------------------------------------------


def test_the_single_file_is_as_recorded():
    matches(GOLDEN / "slurm.sbatch", single_file(example("slurm-venv", 2, "fsdp")))


def test_the_batch_script_with_pyxis_is_as_recorded():
    matches(GOLDEN / "slurm-pyxis.sbatch", job_script(example("slurm-pyxis")))


@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("name", [*EXAMPLES, "docker"])
def test_every_script_is_clean_under_shellcheck(name, nodes):
    plan = example(name, nodes)
    scripts = {path: text for path, text in files(plan).items() if path.endswith((".sh", ".sbatch"))}
    assert {Path(path).name for path in scripts} == {
        "job.sbatch",
        "step.sh",
        "setup.sh",
        "container.sh",
        "env.sh",
        "node.sh",
    }
    shellcheck(*scripts.values(), single_file(plan))


def test_the_script_of_a_sweep_is_an_array_and_clean_under_shellcheck():
    plans = [a_plan(run=f"home-1b/sweep/{number}") for number in range(3)]
    text = render.array(plans, a_cluster(), WORKDIR / "runs/home-1b")
    assert "--array=0-2" in directives(text)
    assert "--output=/home/ada/training/runs/home-1b/launch/slurm-%A_%a.log" in directives(text)
    shellcheck(text)


@pytest.mark.parametrize("cluster", EXAMPLES)
@pytest.mark.parametrize("name", [path.stem for path in shipped.JOBS])
def test_every_job_renders_on_every_example(cluster, name):
    spec, _ = read_job(str(JOBS / f"{name}.yaml"), [])
    plan = planner.plan(spec, load_cluster(cluster)[1], cluster, workdir=WORKDIR, runs_root=WORKDIR / "runs")
    assert "--job-name=" + spec.name in directives(single_file(plan))


@pytest.mark.parametrize("name", [*EXAMPLES, "docker"])
def test_a_script_is_directives_and_variables_then_the_static_text_then_the_carried_files(name):
    text = single_file(example(name))
    head, static, rest = text.partition((Path(render.__file__).with_name("job.sh")).read_text().partition("\n")[2])
    assert static
    assert directives(text) == directives(head)
    assert "srun" not in rest.partition("unpack() {")[0]
    assert rest.endswith("}\n\nmain\n")
    step = Path(render.__file__).with_name("step.sh").read_text()
    assert files(example(name))["launch/step.sh"] == step
    assert step in rest


STUBS = {
    "scontrol": 'if [[ $1 == show ]]; then printf "%s\\n" node7 node8; else echo "$*" >> "$CALLS"; fi',
    "squeue": "echo RUNNING 0",
    # The last argument is the log: node 0 leaves its exit code beside it.
    "srun": """printf "%s\\n" "$@" > "$CALLS.srun"; env > "$CALLS.env"; mkdir -p "$ATTEMPT"
echo "$CODE" > "${@: -1}.code"; exit "$CODE\"""",
}


def run_batch_script(folder: Path, text: str, code: int = 0, attempt: bool = True):
    """Run a batch script with stand-ins for Slurm's programs."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    for name, body in STUBS.items():
        (programs / name).write_text(f"#!/bin/bash\n{body}\n")
        (programs / name).chmod(0o755)
    run = folder / "runs/home-1b"
    environment = {
        "PATH": f"{programs}:/usr/bin:/bin",
        "HOME": str(folder),
        "CALLS": str(folder / "calls"),
        "ATTEMPT": str(run / "attempts/1" if attempt else folder),
        "CODE": str(code),
        "SLURM_JOB_ID": "20003",
        "SLURM_CPUS_PER_TASK": "16",
        "SLURM_JOB_NODELIST": "node[7-8]",
    }
    return subprocess.run(["bash"], input=text, env=environment, capture_output=True, text=True, timeout=600)


def test_the_single_file_carries_the_same_files_byte_for_byte(tmp_path):
    odd = f'it\'s $$HOME; "`id`" \\ é\nEND\nEND2\n{" " * 3}'
    cluster = a_cluster(environment={"ODD": odd})
    plan = a_plan(cluster, workdir=tmp_path, hardware={"gpu": "cpu", "nodes": 2})
    result = run_batch_script(tmp_path, single_file(plan))
    assert result.returncode == 0, result.stderr
    carried = tmp_path / "runs/home-1b/launch/sbatch-20003"
    expected = {**files(plan), "plan.json": run_files.plan_json(plan)}
    del expected[render.JOB]
    assert {
        str(path.relative_to(carried)): path.read_text() for path in carried.rglob("*") if path.is_file()
    } == expected


def test_the_batch_script_starts_one_step_on_every_node(tmp_path):
    plan = a_plan(workdir=tmp_path, hardware={"gpu": "cpu", "nodes": 2})
    assert run_batch_script(tmp_path, single_file(plan)).returncode == 0
    folder, log = (
        tmp_path / "runs/home-1b/launch/sbatch-20003",
        tmp_path / "runs/home-1b/launch/slurm-20003.0",
    )
    assert (tmp_path / "calls.srun").read_text().splitlines() == [
        *("--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "--kill-on-bad-exit=1", "--wait=0", "--export=ALL"),
        *("bash", f"{folder}/launch/step.sh", str(folder), str(log)),
    ]
    environment = (tmp_path / "calls.env").read_text().splitlines()
    assert {
        *("MASTER_ADDR=node7", "MASTER_PORT=10003", "HATRAIN_START=20003.0"),
        *("HATRAIN_STOP_GRACE=270", "SRUN_CPUS_PER_TASK=16"),
    } <= set(environment)


@pytest.mark.parametrize(
    ("code", "attempt", "requeued"),
    [
        (0, True, False),
        (78, True, False),
        (130, True, False),
        (75, True, True),
        (75, False, True),
        (1, True, True),
        (137, True, True),
        (1, False, False),
    ],
)
def test_the_exit_code_decides_whether_a_job_is_requeued(tmp_path, code, attempt, requeued):
    plan = a_plan(workdir=tmp_path, hardware={"gpu": "cpu"})
    result = run_batch_script(tmp_path, single_file(plan), code, attempt)
    assert result.returncode == code
    calls = tmp_path / "calls"
    assert (calls.read_text() if calls.exists() else "") == ("requeue 20003\n" if requeued else "")
    assert ("no attempt started" in result.stderr) == (code == 1 and not attempt)


def start_of_batch_script(folder: Path, plan: Plan, **stubs: str) -> subprocess.Popen[str]:
    """Start a batch script with other stand-ins for Slurm's programs."""
    run_batch_script(folder, "")
    for name, body in stubs.items():
        (folder / "programs" / name).write_text(f"#!/bin/bash\n{body}\n")
    environment = {
        "PATH": f"{folder}/programs:/usr/bin:/bin",
        "CALLS": str(folder / "calls"),
        "SLURM_JOB_ID": "20003",
        "SLURM_CPUS_PER_TASK": "16",
    }
    script = folder / "script"
    script.write_text(single_file(plan))
    return subprocess.Popen(["bash", str(script)], env=environment, stderr=subprocess.PIPE, text=True)


def test_a_controller_that_stays_away_is_asked_until_the_time_is_up_and_the_record_says_so(tmp_path):
    plan = a_plan(workdir=tmp_path, hardware={"gpu": "cpu"})
    assert plan.resources
    plan = plan.model_copy(update={"resources": plan.resources.model_copy(update={"time": 19})})
    away = """echo 'squeue: "controller" \\ away' >&2; exit 1"""
    script = start_of_batch_script(tmp_path, plan, squeue=away, srun="exit 75")
    _, err = script.communicate(timeout=600)
    assert script.returncode == 75 and "asking again" in err and "requeued\n" not in err
    run = RunDirectory(tmp_path / "runs/home-1b")
    event = run.events()[-1]
    assert (event["event"], event["code"]) == ("not requeued", 75)
    assert event["reason"].strip() == "squeue: controller away (squeue: exit code 1)"
    assert [event["job"] for event in run.events()] == ["20003", "20003"]


def test_a_controller_that_refuses_to_requeue_is_asked_three_times(tmp_path):
    refuses = 'if [[ $1 == requeue ]]; then echo "$*" >> "$CALLS"; echo "it is disabled" >&2; exit 1; fi'
    script = start_of_batch_script(
        tmp_path, a_plan(workdir=tmp_path, hardware={"gpu": "cpu"}), scontrol=refuses, srun="exit 75"
    )
    _, err = script.communicate(timeout=600)
    assert (tmp_path / "calls").read_text().splitlines() == ["requeue 20003"] * 3
    assert script.returncode == 75 and "not requeued: it is disabled" in err


def test_a_start_that_slurm_began_again_meanwhile_is_left_alone(tmp_path):
    script = start_of_batch_script(
        tmp_path,
        a_plan(workdir=tmp_path, hardware={"gpu": "cpu"}),
        squeue="echo RUNNING 1",
        srun='mkdir -p "${CALLS%calls}runs/home-1b/attempts/1"; exit 0',
    )
    _, err = script.communicate(timeout=600)
    # srun returns 0 after the failure of a node, and node 0 left no exit code.
    assert script.returncode == 1 and "not requeued, because the job is in the state RUNNING (start 1)" in err
    assert not (tmp_path / "calls").exists()


def test_a_start_in_which_no_attempt_begins_before_it_has_to_leave_is_queued_again_thrice(tmp_path):
    plan = a_plan(a_cluster(signal_lead="00:00:31"), workdir=tmp_path, hardware={"gpu": "cpu"})
    log = tmp_path / "runs/home-1b/launch/slurm-20003"
    for earlier, requeued in ((0, True), (3, False)):
        srun = 'trap "exit 143" TERM; touch "$CALLS.up"; for _ in {1..600}; do sleep 0.1; done'
        (tmp_path / "calls.up").unlink(missing_ok=True)
        script = start_of_batch_script(tmp_path, plan, srun=srun)
        for number in range(earlier):
            Path(f"{log}.{number + 7}.late").touch()
        while not (tmp_path / "calls.up").exists():
            assert script.poll() is None
            time.sleep(0.05)
        script.send_signal(signal.SIGUSR1)
        assert script.wait(timeout=600) == (75 if requeued else 143)
        calls = tmp_path / "calls"
        assert calls.exists() == requeued
        calls.unlink(missing_ok=True)


def test_the_code_of_a_step_that_ends_before_it_is_waited_for_is_kept(tmp_path):
    plan = a_plan(workdir=tmp_path, hardware={"gpu": "cpu"})
    text = single_file(plan)
    late = text.replace('  wait_for_step "$step"\n', '  sleep 0.5\n  wait_for_step "$step"\n')
    assert late != text
    run_batch_script(tmp_path, "")
    (tmp_path / "programs/srun").write_text("#!/bin/bash\nexit 78\n")
    result = subprocess.run(
        ["bash"],
        input=late,
        env={"PATH": f"{tmp_path}/programs:/usr/bin:/bin", "SLURM_JOB_ID": "20003", "SLURM_CPUS_PER_TASK": "16"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 78, result.stderr


def test_a_start_whose_attempt_begins_forgets_the_late_ones_before_it(tmp_path):
    plan = a_plan(workdir=tmp_path, hardware={"gpu": "cpu"})
    launch = tmp_path / "runs/home-1b/launch"
    launch.mkdir(parents=True)
    of_another_job = launch / "slurm-200034.0.late"
    for late in (launch / "slurm-20003.7.late", launch / "slurm-20003.8.late", of_another_job):
        late.touch()
    script = start_of_batch_script(tmp_path, plan, srun='mkdir -p "${CALLS%calls}runs/home-1b/attempts/1"; exit 75')
    script.communicate(timeout=600)
    assert script.returncode == 75 and [*launch.glob("*.late")] == [of_another_job]


def test_the_script_in_the_documentation_is_what_is_rendered():
    documentation = (JOBS.parent / "docs/slurm.md").read_text(encoding="utf-8")
    shown = documentation.partition("```bash\n")[2].partition("```")[0].splitlines()
    job, _ = read_job(str(JOBS / "stablehome-3b.yaml"), ["hardware.nodes=2", "hardware.sharding=fsdp"])
    cluster = load_cluster("slurm-venv")[1]
    plan = planner.plan(job, cluster, "my-slurm", workdir=WORKDIR, runs_root=WORKDIR / "runs")
    rendered = single_file(plan).splitlines()
    assert [line for line in shown if line not in ("# …", *rendered)] == []


@pytest.mark.parametrize("event", ["NONE", "INVALID_DEPEND", "STAGE_OUT", "TIME_LIMIT", "TIME_LIMIT_50", "ARRAY_TASKS"])
def test_every_mail_type_of_slurm_is_accepted(event):
    cluster = a_cluster(mail={"user": "ada@example.org", "events": ["END", event]})
    assert f"--mail-type=END,{event}" in directives(job_script(a_plan(cluster)))


def test_the_cluster_file_may_say_what_is_exported():
    assert "--export=NONE" in directives(job_script(a_plan(a_cluster(directives={"export": "NONE"}))))


@pytest.mark.parametrize("option", ["export", "nodes", "kill-on-bad-exit", "container-image", "output", "--mpi"])
def test_options_of_srun_that_hatrain_sets_are_refused(option):
    with pytest.raises(ValidationError, match="srun"):
        a_cluster(srun={option: "x"})


def test_cores_per_gpu_do_not_govern_jobs_on_processors():
    cluster = a_cluster(cpus_per_gpu=16, cpus_per_process=3)
    hardware = {"gpu": "cpu", "gpus_per_node": 2, "sharding": "ddp"}
    assert "--cpus-per-task=6" in directives(job_script(a_plan(cluster, hardware=hardware)))
    assert "--cpus-per-task=32" in directives(job_script(a_plan(cluster)))


# --- directives ---------------------------------------------------------------------------------------------


def test_every_key_of_a_cluster_file_becomes_a_directive():
    cluster = a_cluster(
        partition="gpu",
        account="team",
        qos="high",
        reservation="course",
        constraint="a100&nvlink",
        exclusive=True,
        memory="1GiB",
        cpus_per_gpu=4,
        mail={"user": "ada@example.org", "events": ["FAIL"]},
        directives={"switches": "1@00:10:00", "spread-job": None},
        signal_lead="00:02:00",
        gpus={"a100-80gb": "a100"},
    )
    assert set(directives(job_script(a_plan(cluster, limits__time="30:00:30")))) >= {
        "--job-name=home-1b",
        "--partition=gpu",
        "--account=team",
        "--qos=high",
        "--reservation=course",
        '--constraint="a100&nvlink"',
        "--exclusive",
        "--mem=1024M",
        "--cpus-per-task=8",
        "--nodes=1",
        "--ntasks=1",
        "--ntasks-per-node=1",
        "--gpus-per-node=a100:2",
        "--mail-user=ada@example.org",
        "--mail-type=FAIL",
        "--switches=1@00:10:00",
        "--spread-job",
        "--signal=B:USR1@120",
        "--requeue",
        "--open-mode=append",
        "--time=1-06:00:30",
        "--chdir=/home/ada/training",
        "--output=/home/ada/training/runs/home-1b/launch/slurm-%j.log",
    }


@pytest.mark.parametrize(
    ("style", "gpus", "expected"),
    [
        ("gpus-per-node", {}, "--gpus-per-node=2"),
        ("gpus-per-node", {"a100-80gb": "a100"}, "--gpus-per-node=a100:2"),
        ("gres", {}, "--gres=gpu:2"),
        ("gres", {"a100-80gb": "a100"}, "--gres=gpu:a100:2"),
    ],
)
def test_gpus_are_requested_in_the_style_of_the_site(style, gpus, expected):
    assert expected in directives(job_script(a_plan(a_cluster(gpus_style=style, gpus=gpus))))


def test_a_job_on_cpus_requests_no_gpus():
    text = job_script(a_plan(hardware={"gpu": "cpu", "gpus_per_node": 2}))
    assert not [line for line in directives(text) if "gpu" in line or "gres" in line]


def test_no_directive_contains_a_variable():
    for name in [*EXAMPLES, "docker"]:
        assert not [line for line in directives(job_script(example(name))) if "$" in line]


def test_the_single_file_has_the_same_directives_except_for_the_log():
    plan = example("slurm-venv")
    alone, written = directives(single_file(plan)), directives(job_script(plan))
    log = [line for line in alone if line.startswith("--output")]
    assert log == ["--output=/home/ada/training/%x-%j.log"]
    assert set(alone) - set(log) < set(written)


# --- odd values ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain-1.2:3/4@5", "plain-1.2:3/4@5"),
        ("two words", '"two words"'),
        ("a # b", '"a # b"'),
        ('it\'s "so"', '"it\'s \\"so\\""'),
        ("back\\slash", '"back\\\\slash"'),
        ("$HOME `id`; é", '"$HOME `id`; é"'),
    ],
)
def test_a_directive_is_quoted_as_sbatch_reads_it(value, expected):
    assert f"--comment={expected}" in directives(job_script(a_plan(a_cluster(directives={"comment": value}))))


def test_a_folder_with_a_line_break_is_refused_in_one_line():
    with pytest.raises(BadInput, match=r"chdir: found '/home/a\\nb'; an sbatch directive must be one") as raised:
        files(a_plan(workdir=Path("/home/a\nb")))
    assert len(raised.value.problems) == 1


def test_a_folder_with_a_backslash_is_refused():
    with pytest.raises(BadInput, match="Slurm does not expand %j in a path with a backslash"):
        files(a_plan(workdir=Path("/home/a\\b")))


def test_a_percent_sign_in_a_folder_is_escaped():
    assert "--output=/home/100%%/runs/home-1b/launch/slurm-%j.log" in directives(
        job_script(a_plan(workdir=Path("/home/100%")))
    )


@pytest.mark.parametrize("runtime", ["pyxis", "apptainer", "docker"])
@pytest.mark.parametrize("folder", ["/home/a:b", "/home/a,b"])
def test_a_folder_that_no_container_can_mount_is_refused(runtime, folder):
    cluster = a_cluster(container={"runtime": runtime, "image": "x"})
    with pytest.raises(BadInput, match=f"and {runtime} cannot mount such a path"):
        files(a_plan(cluster, workdir=Path(folder)))
    files(a_plan(workdir=Path(folder)))


def test_runs_of_a_sweep_that_request_different_resources_are_refused():
    plans = [a_plan(run=f"x/sweep/{count}", hardware={"gpu": "a100-80gb", "gpus_per_node": count}) for count in (1, 2)]
    with pytest.raises(BadInput, match="these differ in gpus, cpus"):
        render.array(plans, a_cluster(), WORKDIR / "runs/x")


def test_an_array_has_the_numbers_of_its_runs():
    plans = [a_plan(run=f"x/sweep/{number}") for number in (1, 4)]
    assert "--array=1,4" in directives(render.array(plans, a_cluster(), WORKDIR / "runs/x"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"directives": {"nodes": "3"}}, "not nodes: set hardware.nodes in the job"),
        (
            {"directives": {"parti": "x"}},
            r"not parti \(which sbatch takes for partition\): set partition",
        ),
        ({"directives": {"comment": "two\nlines"}}, "one line of text"),
        ({"directives": {"comment=x --nodes": "3"}}, "long options of sbatch without dashes"),
        ({"modules": ["x"], "container": {"runtime": "pyxis", "image": "x"}}, "no modules with pyxis"),
        ({"container": {"runtime": "docker", "image": "x", "mounts": ["data"]}}, "begins with /"),
        ({"container": {"runtime": "docker", "image": "x", "mounts": ["/data:ro"]}}, "begins with /"),
        ({"container": {"runtime": "podman", "image": "x"}}, "'pyxis', 'apptainer', 'docker' or 'podman-hpc'"),
        ({"mail": {"user": "ada@example.org", "events": ["FIAL"]}}, "did you mean FAIL"),
    ],
)
def test_a_cluster_file_that_sbatch_or_a_runtime_would_misread_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        a_cluster(**changes)


def test_an_option_that_no_key_covers_is_passed_on():
    for name in ("switches", "comment", "nodelist", "exclude", "begin", "nice", "mem-per-gpu", "spread-job"):
        assert f"--{name}=1" in directives(job_script(a_plan(a_cluster(directives={name: "1"}))))


@pytest.mark.parametrize(
    ("changes", "limit", "message"),
    [
        ({"time_limit": "01:00:00"}, "02:00:00", "grants at most 01:00:00"),
        ({"signal_lead": "00:30:00"}, "00:30:00", "reserved for a checkpoint"),
        ({"signal_lead": "19:00:00"}, "24:00:00", "Slurm accepts at most 18:12:15"),
    ],
)
def test_a_time_limit_that_cannot_work_is_refused_in_the_plan(changes, limit, message):
    with pytest.raises(planner.Refusal, match=message):
        a_plan(a_cluster(**changes), limits__time=limit)


# --- containers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runtime", ["pyxis", "apptainer", "docker"])
def test_a_container_mounts_the_workdir_the_runs_the_cache_the_secrets_and_the_mounts_of_the_cluster(runtime):
    cluster = a_cluster(
        container={"runtime": runtime, "image": "/an image", "mounts": ["/data", "/a:/b:ro"]},
        secrets={"HF_TOKEN": {"file": "~/.hf token"}, "OTHER": {"file": "/secrets/x"}},
        environment={"HF_HOME": "/big disk/hub"},
    )
    job = a_job(name="home-1b", hardware={"gpu": "a100-80gb"})
    text = container_settings(planner.plan(job, cluster, "c", workdir=WORKDIR, runs_root=Path("/scratch/runs")))
    for line in (
        "  /home/ada/training:/home/ada/training",
        "  /scratch/runs:/scratch/runs",
        '  "$HF_HOME:$HF_HOME"',
        "  \"$HOME\"/'.hf token':\"$HOME\"/'.hf token':ro",
        "  /secrets/x:/secrets/x:ro",
        "  /data:/data",
        "  /a:/b:ro",
    ):
        assert line in text.splitlines()
    assert "export HF_HOME='/big disk/hub'" in text


def test_a_run_of_a_sweep_mounts_the_folder_of_all_runs():
    cluster = a_cluster(container={"runtime": "docker", "image": "x"})
    job = a_job(name="x", hardware={"gpu": "a100-80gb"})
    plan = planner.plan(job, cluster, "c", workdir=WORKDIR, runs_root=Path("/s/runs"), run="x/sweep/1")
    assert "  /s/runs:/s/runs" in container_settings(plan).splitlines()


@pytest.mark.parametrize("runtime", ["pyxis", "apptainer", "docker"])
def test_a_container_receives_the_variables_of_the_rendezvous(runtime):
    cluster = a_cluster(container={"runtime": runtime, "image": "x"})
    text = container_settings(a_plan(cluster, hardware={"gpu": "a100-80gb", "nodes": 2}))
    (line,) = [line for line in text.splitlines() if line.startswith("variables=(")]
    assert {"MASTER_ADDR", "MASTER_PORT", "HATRAIN_START", "HF_HOME"} <= set(line[11:-1].split())


def test_a_resubmission_without_a_container_leaves_no_container_script_of_the_earlier_one(tmp_path):
    before = files(a_plan(a_cluster(container={"runtime": "docker", "image": "x"})))
    assert before.keys() == files(a_plan()).keys()
    assert "docker" not in files(a_plan())["launch/container.sh"]


def test_no_secret_and_no_command_trace_is_rendered(tmp_path):
    (tmp_path / "token").write_text("hf_" + "x" * 30)
    plan = a_plan(a_cluster(secrets={"HF_TOKEN": {"file": str(tmp_path / "token")}}))
    for text in [*files(plan).values(), single_file(plan)]:
        assert "hf_xxx" not in text
        assert "set -x" not in text and "xtrace" not in text
