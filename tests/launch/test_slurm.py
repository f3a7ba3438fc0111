"""What is rendered for Slurm: recorded, clean under shellcheck, and proof against odd values. What Slurm makes of it is
in tests/slurm."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from hatrain.contract.cluster import SlurmCluster
from hatrain.contract.load import read_job
from hatrain.contract.plan import Plan
from hatrain.errors import BadInput
from launch import planner
from launch.backends.slurm import render as slurm
from launch.cluster_files import SHIPPED, load_cluster
from tests.golden import matches
from tests.plans import a_job

GOLDEN = Path(__file__).parent / "golden" / "slurm"
JOBS = Path(__file__).parents[2] / "jobs"
HOUSE = Path("/home/ada/house")
EXAMPLES = sorted(path.stem for path in SHIPPED.glob("slurm-*.yaml"))
DOCKER = {
    "kind": "slurm",
    "partition": "gpu",
    "container": {"runtime": "docker", "image": "ghcr.io/ada/hatrain:1"},
}


def a_place(**changes) -> SlurmCluster:
    return SlurmCluster.model_validate({"kind": "slurm", **changes})


def a_plan(place=None, *, house=HOUSE, cluster="my-slurm", run=None, **changes) -> Plan:
    job = a_job(
        **{
            "name": "home-1b",
            "hardware": {"gpu": "a100-80gb", "gpus_per_node": 2, "sharding": "fsdp"},
            **changes,
        }
    )
    return planner.plan(job, place or a_place(), cluster, workdir=house, runs_root=house / "runs", run=run)


def directives(text: str) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH ")]


def job(plan: Plan) -> str:
    return slurm.files(plan)[slurm.JOB]


def step(plan: Plan) -> str:
    return slurm.files(plan)[slurm.STEP]


def shellcheck(folder: Path, text: str) -> None:
    (folder / "script.sh").write_text(text)
    command = shutil.which("shellcheck") or str(Path(sys.executable).with_name("shellcheck"))
    told = subprocess.run([command, str(folder / "script.sh")], capture_output=True, text=True)
    assert told.returncode == 0, told.stdout


# --- recorded -----------------------------------------------------------------------------------------------


def place_of(cluster: str) -> SlurmCluster:
    return a_place(**DOCKER) if cluster == "docker" else load_cluster(cluster)[1]


def recorded(cluster: str, nodes: int, sharding: str = "ddp") -> Plan:
    hardware = {"gpu": "a100-80gb", "gpus_per_node": 2, "nodes": nodes, "sharding": sharding}
    return a_plan(place_of(cluster), cluster=cluster, hardware=hardware)


@pytest.mark.parametrize("sharding", ["ddp", "fsdp", "zero3"])
@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("cluster", [*EXAMPLES, "docker"])
def test_the_batch_script_is_as_recorded_and_clean_under_shellcheck(cluster, nodes, sharding, tmp_path):
    text = job(recorded(cluster, nodes, sharding))
    matches(GOLDEN / cluster / f"{nodes}-{sharding}.sbatch", text)
    shellcheck(tmp_path, text)


@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("cluster", [*EXAMPLES, "docker"])
def test_the_script_of_each_node_is_as_recorded_and_clean_under_shellcheck(cluster, nodes, tmp_path):
    text = step(recorded(cluster, nodes))
    matches(GOLDEN / cluster / f"{nodes}-step.sh", text)
    shellcheck(tmp_path, text)


def test_the_stream_is_as_recorded_and_clean_under_shellcheck(tmp_path):
    text = slurm.stream(recorded("slurm-venv", 2, "fsdp"))
    matches(GOLDEN / "stream.sbatch", text)
    shellcheck(tmp_path, text)


def test_the_script_of_a_sweep_is_as_recorded_and_clean_under_shellcheck(tmp_path):
    plans = [a_plan(run=f"home-1b/sweep/{number}") for number in range(3)]
    text = slurm.array(plans, HOUSE / "runs/home-1b")
    matches(GOLDEN / "array.sbatch", text)
    shellcheck(tmp_path, text)


@pytest.mark.parametrize("cluster", EXAMPLES)
@pytest.mark.parametrize("name", sorted(path.stem for path in JOBS.glob("*.yaml")))
def test_every_job_renders_on_every_example(cluster, name, tmp_path):
    spec, _ = read_job(str(JOBS / f"{name}.yaml"), [])
    plan = planner.plan(spec, load_cluster(cluster)[1], cluster, workdir=HOUSE, runs_root=HOUSE / "runs")
    shellcheck(tmp_path, slurm.stream(plan))


# --- what is asked for --------------------------------------------------------------------------------------


def test_everything_that_a_cluster_says_is_a_directive():
    place = a_place(
        partition="gpu",
        account="house",
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
    told = directives(job(a_plan(place, limits__time="30:00:30")))
    assert set(told) >= {
        "--job-name=home-1b",
        "--partition=gpu",
        "--account=house",
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
    }


@pytest.mark.parametrize(
    ("style", "gpus", "told"),
    [
        ("gpus-per-node", {}, "--gpus-per-node=2"),
        ("gpus-per-node", {"a100-80gb": "a100"}, "--gpus-per-node=a100:2"),
        ("gres", {}, "--gres=gpu:2"),
        ("gres", {"a100-80gb": "a100"}, "--gres=gpu:a100:2"),
    ],
)
def test_gpus_are_asked_for_in_the_way_of_the_site(style, gpus, told):
    assert told in directives(job(a_plan(a_place(gpus_style=style, gpus=gpus))))


def test_a_job_on_processors_asks_for_no_gpus():
    text = job(a_plan(hardware={"gpu": "cpu", "gpus_per_node": 2}))
    assert not [line for line in directives(text) if "gpu" in line or "gres" in line]


def test_no_directive_has_a_variable_in_it():
    for cluster in [*EXAMPLES, "docker"]:
        assert not [line for line in directives(job(recorded(cluster, 2))) if "$" in line]


def test_the_stream_asks_for_the_same_and_differs_in_where_things_lie():
    plan = recorded("slurm-venv", 2)
    by_hand, written = slurm.stream(plan), job(plan)
    log = [line for line in directives(by_hand) if line.startswith("--output")]
    assert log == ["--output=/home/ada/house/%x-%j.log"]
    assert set(directives(by_hand)) - set(log) < set(directives(written))
    assert (
        by_hand.partition("# One name for everything")[2] == written.partition("# One name for everything")[2]
    )


# --- odd values ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("plain-1.2:3/4@5", "plain-1.2:3/4@5"),
        ("two words", '"two words"'),
        ("a # b", '"a # b"'),
        ('it\'s "so"', '"it\'s \\"so\\""'),
        ("back\\slash", '"back\\\\slash"'),
        ("$HOME `id`; é", '"$HOME `id`; é"'),
    ],
)
def test_a_directive_is_quoted_as_sbatch_reads_it(value, told):
    assert f"--comment={told}" in directives(job(a_plan(a_place(directives={"comment": value}))))


def test_a_folder_of_two_lines_is_refused_in_one():
    with pytest.raises(
        BadInput, match=r"chdir: found '/home/a\\nb'; a directive of sbatch is one line"
    ) as raised:
        slurm.files(a_plan(house=Path("/home/a\nb")))
    assert len(raised.value.problems) == 1


def test_a_folder_with_a_backslash_is_refused_for_slurm_would_name_no_log():
    with pytest.raises(BadInput, match="backslash"):
        slurm.files(a_plan(house=Path("/home/a\\b")))


def test_a_percent_sign_in_a_folder_stands_for_itself():
    assert "--output=/home/100%%/runs/home-1b/launch/slurm-%j.log" in directives(
        job(a_plan(house=Path("/home/100%")))
    )


@pytest.mark.parametrize("runtime", ["pyxis", "apptainer", "docker"])
@pytest.mark.parametrize("folder", ["/home/a:b", "/home/a,b"])
def test_a_folder_that_no_container_can_mount_is_refused(runtime, folder):
    place = a_place(container={"runtime": runtime, "image": "x"})
    with pytest.raises(BadInput, match=f"in a path that {runtime} is to mount"):
        slurm.files(a_plan(place, house=Path(folder)))
    slurm.files(a_plan(house=Path(folder)))


def test_runs_of_a_sweep_that_ask_for_different_things_are_no_array():
    plans = [
        a_plan(run=f"x/sweep/{count}", hardware={"gpu": "a100-80gb", "gpus_per_node": count})
        for count in (1, 2)
    ]
    with pytest.raises(BadInput, match="these differ in gpus, cpus"):
        slurm.array(plans, HOUSE / "runs/x")


def test_an_array_has_the_numbers_of_its_runs():
    plans = [a_plan(run=f"x/sweep/{number}") for number in (1, 4)]
    assert "--array=1,4" in directives(slurm.array(plans, HOUSE / "runs/x"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"directives": {"nodes": "3"}}, "not nodes, which is said by hardware.nodes"),
        (
            {"directives": {"parti": "x"}},
            r"not parti \(which sbatch takes for partition\), which is said by partition",
        ),
        ({"directives": {"comment": "two\nlines"}}, "one line of text"),
        ({"directives": {"comment=x --nodes": "3"}}, "long options of sbatch without dashes"),
        ({"modules": ["x"], "container": {"runtime": "pyxis", "image": "x"}}, "no modules with pyxis"),
        ({"container": {"runtime": "docker", "image": "x", "mounts": ["data"]}}, "begins with /"),
        ({"container": {"runtime": "docker", "image": "x", "mounts": ["/data:ro"]}}, "begins with /"),
        ({"container": {"runtime": "podman", "image": "x"}}, "'pyxis', 'apptainer' or 'docker'"),
        ({"mail": {"user": "ada@example.org", "events": ["FIAL"]}}, "did you mean FAIL"),
    ],
)
def test_what_sbatch_or_a_runtime_would_misunderstand_is_refused(changes, told):
    with pytest.raises(ValidationError, match=told):
        a_place(**changes)


def test_an_option_that_is_nobodys_own_goes_through():
    for name in ("switches", "comment", "nodelist", "exclude", "begin", "nice", "mem-per-gpu", "spread-job"):
        assert f"--{name}=1" in directives(job(a_plan(a_place(directives={name: "1"}))))


@pytest.mark.parametrize(
    ("changes", "limits", "told"),
    [
        ({"time_limit": "01:00:00"}, "02:00:00", "grants at most 01:00:00"),
        ({"signal_lead": "00:30:00"}, "00:30:00", "kept for a checkpoint"),
        ({"signal_lead": "19:00:00"}, "24:00:00", "Slurm takes up to 18:12:15"),
    ],
)
def test_a_time_that_cannot_be_is_refused_in_the_plan(changes, limits, told):
    with pytest.raises(planner.Refusal, match=told):
        a_plan(a_place(**changes), limits__time=limits)


# --- containers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runtime", ["pyxis", "apptainer", "docker"])
def test_a_container_sees_the_house_the_runs_the_cache_the_secrets_and_what_the_cluster_adds(runtime):
    place = a_place(
        container={"runtime": runtime, "image": "/an image", "mounts": ["/data", "/a:/b:ro"]},
        secrets={"HF_TOKEN": {"file": "~/.hf token"}, "OTHER": {"file": "/secrets/x"}},
        environment={"HF_HOME": "/big disk/hub"},
    )
    job_spec = a_job(name="home-1b", hardware={"gpu": "a100-80gb"})
    plan = planner.plan(job_spec, place, "c", workdir=HOUSE, runs_root=Path("/scratch/runs"))
    text = job(plan) if runtime == "pyxis" else step(plan)
    for line in (
        "  /home/ada/house:/home/ada/house",
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
    place = a_place(container={"runtime": "docker", "image": "x"})
    job_spec = a_job(name="x", hardware={"gpu": "a100-80gb"})
    plan = planner.plan(job_spec, place, "c", workdir=HOUSE, runs_root=Path("/s/runs"), run="x/sweep/1")
    assert "  /s/runs:/s/runs" in step(plan).splitlines()


@pytest.mark.parametrize("runtime", ["pyxis", "apptainer", "docker"])
def test_a_container_gets_what_the_nodes_meet_by(runtime):
    place = a_place(container={"runtime": runtime, "image": "x"})
    plan = a_plan(place, hardware={"gpu": "a100-80gb", "nodes": 2})
    text = job(plan) if runtime == "pyxis" else step(plan)
    said = next(
        line for line in text.splitlines() if "MASTER_ADDR" in line and ("passed=" in line or "-env" in line)
    )
    assert {"MASTER_PORT", "HATRAIN_START", "HF_HOME"} <= set(
        said.replace("=", " ").replace(",", " ").split()
    )


def test_no_secret_value_and_no_trace_of_commands_is_rendered(tmp_path):
    (tmp_path / "token").write_text("hf_" + "x" * 30)
    place = a_place(secrets={"HF_TOKEN": {"file": str(tmp_path / "token")}})
    for text in [*slurm.files(a_plan(place)).values(), slurm.stream(a_plan(place))]:
        assert "hf_xxx" not in text
        assert "set -x" not in text and "xtrace" not in text
