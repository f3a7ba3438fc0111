"""What the doctor finds, against a driver that is compiled here and says what a test wants; and what entry's quick form
makes of it: 78 for what no retry mends, 75 for what time or another node does."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hatrain import doctor
from hatrain.cli import main
from hatrain.contract.cluster import SlurmCluster
from hatrain.contract.run import Exit, RunDirectory
from hatrain.doctor import gpus, surroundings
from tests.harness import Harness, calls, exit_codes, outcome
from tests.plans import a_plan
from tests.require import need

DRIVER = r"""
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int told(const char *name, int otherwise) {
    const char *value = getenv(name);
    return value ? atoi(value) : otherwise;
}

int cuInit(unsigned flags) {
    if (told("FAKE_HANG", 0)) sleep(600);
    if (told("FAKE_CRASH", 0)) raise(SIGSEGV);
    return told("FAKE_ERROR", 0);
}
int cuDriverGetVersion(int *version) { *version = told("FAKE_CUDA", 13000); return 0; }
int cuDeviceGetCount(int *count) { *count = told("FAKE_GPUS", 2); return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return 0; }
int cuDeviceGetName(char *name, int length, int device) { strncpy(name, "Pretended GPU", length); return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 48ull << 30; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) { *value = attribute == 75 ? 8 : 6; return 0; }
int cuGetErrorName(int error, const char **name) {
    *name = error == 100 ? "CUDA_ERROR_NO_DEVICE" : "CUDA_ERROR_SYSTEM_NOT_READY";
    return 0;
}
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    need("gcc")
    folder = tmp_path_factory.mktemp("driver")
    (folder / "driver.c").write_text(DRIVER)
    library = folder / "libcuda.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, folder / "driver.c"], check=True)
    return folder


@pytest.fixture(autouse=True)
def no_driver(tmp_path, monkeypatch):
    """This machine's own GPUs, if any, are out of sight, and so is where its launcher has nodes meet."""
    monkeypatch.setattr(gpus, "KERNEL_DRIVER", tmp_path / "no-such-driver")
    for variable in ("CUDA_VISIBLE_DEVICES", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def driver(compiled, monkeypatch):
    """Two GPUs under a driver that speaks CUDA 13.0, and a torch that was built for 13.0."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(compiled))
    built_for("13.0", compiled, monkeypatch)
    return monkeypatch


def built_for(cuda, folder, monkeypatch):
    """Let a torch be found that was built for this CUDA; None for one without."""
    package = folder / f"torch-{cuda}" / "torch"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").touch()
    (package / "version.py").write_text(f"__version__ = '2.13.0'\ncuda: Optional[str] = {cuda!r}\n")
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.syspath_prepend(package.parent)


def plan_for(folder, *, launcher="local", gpu="a6000-48gb", ranks=2, nodes=1):
    plan = a_plan(folder, hardware__gpu=gpu)
    place = plan.cluster_spec.model_copy(update={"kind": launcher})
    return plan.model_copy(update={"place": place, "nodes": nodes, "processes_per_node": ranks})


# --- the quick form -----------------------------------------------------------------------------------------


def test_a_plan_for_processors_passes_and_asks_no_driver(tmp_path, monkeypatch):
    monkeypatch.setattr(gpus, "probe", lambda: pytest.fail("the driver was asked"))
    assert doctor.quick(plan_for(tmp_path, gpu="cpu")) == (None, {})


def test_a_plan_for_gpus_passes_where_they_are(tmp_path, driver):
    assert doctor.quick(plan_for(tmp_path)) == (None, {})


def test_a_workstation_without_a_gpu_can_never_train_on_one(tmp_path):
    code, reasons = doctor.quick(plan_for(tmp_path))
    assert code is Exit.FATAL
    assert "no NVIDIA driver" in reasons["GPUs"]
    assert "hardware.gpu: cpu" in reasons["GPUs"]


@pytest.mark.parametrize("launcher", ["slurm", "kubernetes"])
def test_a_node_without_a_driver_is_left_to_another_node(tmp_path, launcher):
    assert doctor.quick(plan_for(tmp_path, launcher=launcher))[0] is Exit.REQUEUE


def test_a_container_that_was_not_given_its_gpus_is_told_how_and_not_tried_again(tmp_path, monkeypatch):
    version = tmp_path / "version"
    version.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n")
    monkeypatch.setattr(gpus, "KERNEL_DRIVER", version)
    code, reasons = doctor.quick(plan_for(tmp_path, launcher="slurm"))
    assert code is Exit.FATAL
    assert "580.95.05" in reasons["GPUs"]
    assert "--nv" in reasons["GPUs"]


@pytest.mark.parametrize(("launcher", "left"), [("local", Exit.FATAL), ("slurm", Exit.REQUEUE)])
def test_a_gpu_that_dropped_out_is_a_matter_for_another_node(tmp_path, driver, launcher, left):
    driver.setenv("FAKE_GPUS", "1")
    code, reasons = doctor.quick(plan_for(tmp_path, launcher=launcher))
    assert code is left
    assert "1 for 2 ranks" in reasons["GPUs"]


def test_gpus_that_are_hidden_will_be_hidden_again(tmp_path, driver):
    driver.setenv("FAKE_GPUS", "1")
    driver.setenv("CUDA_VISIBLE_DEVICES", "0")
    code, reasons = doctor.quick(plan_for(tmp_path, launcher="slurm"))
    assert code is Exit.FATAL
    assert "CUDA_VISIBLE_DEVICES shows 1" in reasons["GPUs"]


@pytest.mark.parametrize("trouble", ["FAKE_ERROR", "FAKE_CRASH", "FAKE_HANG"])
def test_a_driver_that_fails_crashes_or_hangs_takes_nobody_with_it(tmp_path, driver, trouble):
    driver.setattr(gpus, "PROBE_SECONDS", 3.0)
    driver.setenv(trouble, "802")
    code, reasons = doctor.quick(plan_for(tmp_path, launcher="slurm"))
    assert code is Exit.REQUEUE
    said = {
        "FAKE_ERROR": "CUDA_ERROR_SYSTEM_NOT_READY",
        "FAKE_CRASH": "SIGSEGV",
        "FAKE_HANG": "no answer in 3 s",
    }
    assert said[trouble] in reasons["GPUs"]


@pytest.mark.parametrize(("launcher", "left"), [("local", Exit.FATAL), ("slurm", Exit.REQUEUE)])
def test_a_driver_older_than_torchs_cuda_is_told_with_both_versions(tmp_path, driver, launcher, left):
    driver.setenv("FAKE_CUDA", "12040")
    code, reasons = doctor.quick(plan_for(tmp_path, launcher=launcher))
    assert code is left
    assert "speaks CUDA 12.4, and torch was built for 13.0" in reasons["CUDA"]


def test_a_driver_of_the_same_major_version_will_do(tmp_path, driver, compiled):
    built_for("13.2", compiled, driver)
    assert doctor.quick(plan_for(tmp_path))[0] is None


def test_a_torch_without_cuda_can_never_train_on_a_gpu(tmp_path, driver, compiled):
    built_for(None, compiled, driver)
    code, reasons = doctor.quick(plan_for(tmp_path, launcher="slurm"))
    assert code is Exit.FATAL
    assert "without CUDA" in reasons["CUDA"]


def test_a_folder_that_cannot_be_written_to_stays_so(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", "/proc/self")
    monkeypatch.setattr("tempfile.tempdir", "/proc/self")
    code, reasons = doctor.quick(plan_for(tmp_path, gpu="cpu", launcher="slurm"))
    assert set(reasons) == {"temporary files"}
    assert "not writable" in reasons["temporary files"]
    assert code is not None


def test_a_full_disk_is_waited_out_and_told_what_the_next_checkpoint_takes(tmp_path, monkeypatch):
    plan = plan_for(tmp_path, gpu="cpu")
    checkpoint = Path(plan.paths.run) / "checkpoints" / "checkpoint-100"
    checkpoint.mkdir(parents=True)
    with (checkpoint / "model.safetensors").open("wb") as file:
        file.truncate(10**13)  # more than is free, and takes no room
    code, reasons = doctor.quick(plan)
    assert code is Exit.REQUEUE
    assert "next checkpoint" in reasons["disk of the run"]


@pytest.mark.parametrize(
    ("ranks", "blocks", "free", "left"), [(8, 64, 64, 78), (2, 8192, 16, 75), (1, 64, 64, None)]
)
def test_shared_memory_counts_where_ranks_meet_in_it(tmp_path, driver, ranks, blocks, free, left):
    driver.setenv("FAKE_GPUS", "8")
    real = os.statvfs

    def pretended(path):
        if path != surroundings.SHARED_MEMORY:
            return real(path)
        told = list(real("/dev/shm"))
        told[0] = told[1] = 2**20
        told[2], told[3], told[4] = blocks, free, free
        return os.statvfs_result(told)

    driver.setattr(os, "statvfs", pretended)
    code, reasons = doctor.quick(plan_for(tmp_path, ranks=ranks))
    assert code == left
    assert ("/dev/shm" in reasons) == (left is not None)


def test_several_nodes_need_a_name_that_is_known(tmp_path, monkeypatch):
    plan = plan_for(tmp_path, gpu="cpu", launcher="slurm", nodes=2)
    assert doctor.quick(plan, patience=0)[0] is Exit.FATAL  # nobody said where
    monkeypatch.setenv("MASTER_ADDR", "head.invalid")
    code, reasons = doctor.quick(plan, patience=0)
    assert code is Exit.REQUEUE
    assert "head.invalid" in reasons["rendezvous"]
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    assert doctor.quick(plan, patience=0)[0] is None


def test_what_no_retry_mends_outweighs_what_one_does(tmp_path, driver, compiled):
    built_for(None, compiled, driver)
    driver.setenv("FAKE_GPUS", "1")
    code, reasons = doctor.quick(plan_for(tmp_path, launcher="slurm"))
    assert code is Exit.FATAL
    assert set(reasons) == {"GPUs", "CUDA"}


def test_the_quick_form_imports_nothing_heavy(tmp_path):
    code = "import sys, hatrain.doctor; sys.exit(bool({'torch', 'rich', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# --- entry, which asks before the first step ----------------------------------------------------------------


@pytest.fixture
def harness(tmp_path):
    with Harness(tmp_path) as harness:
        yield harness


def gpu_run(harness, place=None, nodes=1, **changes):
    """Return the run of a job for one GPU a node."""
    plan = harness.plan(hardware__gpu="a6000-48gb", **changes)
    run = RunDirectory(Path(plan.paths.run))
    run.adopt(plan.model_copy(update={"cluster_spec": place or plan.cluster_spec, "nodes": nodes}), {})
    return run


def test_entry_starts_no_rank_where_there_is_no_gpu_and_says_why(harness):
    run = gpu_run(harness)
    code, _, err = harness.enter(run.folder)
    assert code == 78
    assert "entry, GPUs: no NVIDIA driver" in err
    assert not (run.folder / "calls").exists()
    assert run.events()[-1]["code"] == 78


def test_entry_leaves_a_broken_node_to_the_queue_as_often_as_retries_allow(harness, compiled):
    run = gpu_run(harness, SlurmCluster(kind="slurm"), limits__retries=1)
    broken = {"LD_LIBRARY_PATH": str(compiled), "FAKE_ERROR": "802"}
    assert [harness.enter(run.folder, **broken)[0] for _ in range(3)] == [75, 75, 78]
    assert "CUDA_ERROR_SYSTEM_NOT_READY" in run.events()[1]["reasons"]["entry, GPUs"]


def test_a_sick_node_ends_the_attempt_of_all_for_the_queue(harness, compiled, monkeypatch):
    run = gpu_run(harness, SlurmCluster(kind="slurm"), nodes=2)
    built_for("13.0", compiled, monkeypatch)
    around = {"LD_LIBRARY_PATH": str(compiled), "PYTHONPATH": str(compiled / "torch-13.0")}
    well = harness.node(0, run, "stop", **around)
    sick = harness.node(1, run, FAKE_ERROR="802", **around)
    assert exit_codes(well, sick) == [1, 1]
    assert calls(run) == ["train stop"]
    assert "CUDA_ERROR_SYSTEM_NOT_READY" in outcome(run)["reasons"]["node 1, GPUs"]


# --- what torch says ----------------------------------------------------------------------------------------

TWO = tuple({"name": "Pretended GPU", "memory": 48 << 30, "capability": [8, 6]} for _ in range(2))
FACTS = gpus.Facts(library=True, cuda=13000, error=None, gpus=TWO, kernel="580.95.05")
TORCH = {
    "version": "2.13.0",
    "cuda": "13.0",
    "architectures": ["sm_80", "sm_90"],
    "gpus": 2,
    "nccl": "2.29.7",
}


def states(facts=FACTS, **changes):
    return {found.check: found for found in gpus.torch_findings(facts, TORCH | changes, local=True)}


def test_code_of_the_same_major_version_runs_on_a_gpu():
    assert {found.state for found in states().values()} == {"ok"}


@pytest.mark.parametrize("architectures", [["sm_90", "compute_90"], ["sm_75"], ["sm_89"]])
def test_a_gpu_that_torch_has_no_code_for_is_named(architectures):
    found = states(architectures=architectures)["architectures"]
    assert found.state == "bad"
    assert "Pretended GPU" in found.found


@pytest.mark.parametrize("architectures", [["sm_75", "compute_75"], ["sm_86"], ["sm_100a", "sm_80"]])
def test_a_gpu_that_torch_has_code_for_is_not(architectures):
    assert "architectures" not in states(architectures=architectures)


@pytest.mark.parametrize(("key", "check"), [("bf16_error", "bf16"), ("nccl_error", "NCCL")])
def test_a_failed_product_or_sum_is_told(key, check):
    found = states(**{key: "RuntimeError: CUDA error: unspecified launch failure"})[check]
    assert found.state == "bad"
    assert "unspecified launch failure" in found.line()


def test_a_torch_that_cannot_be_asked_is_told():
    found = list(gpus.torch_findings(FACTS, "ended by SIGILL", local=True))
    assert [(one.check, one.state) for one in found] == [("torch", "bad")]


@pytest.mark.parametrize(
    ("told", "shown"), [("", 0), ("-1", 0), ("0,1", 2), ("0,-1,2", 1), ("GPU-1a,MIG-2b", 2)]
)
def test_visible_devices_are_counted_as_the_driver_does(told, shown):
    assert gpus.visible_devices({"CUDA_VISIBLE_DEVICES": told}) == shown


# --- the verb -----------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HATRAIN_RUNS", str(tmp_path / "runs"))
    return tmp_path


def told(capsys, *words):
    code = main(["doctor", "--json", *words])
    said = json.loads(capsys.readouterr().out)
    assert said["well"] == (code == 0)
    return code, {one["check"]: one for one in said["findings"]}


def test_a_machine_without_a_gpu_is_told_so_and_is_well(here, capsys):
    code, found = told(capsys)
    assert code == 0
    assert found["GPUs"]["state"] == "note"
    assert "computes on its processors" in found["GPUs"]["found"]
    assert found["torch"]["state"] == "ok"
    assert found["runs"]["state"] == found["clock"]["state"] == found["temporary files"]["state"] == "ok"


def test_a_run_for_gpus_is_not_well_on_a_machine_without(here, capsys):
    plan = plan_for(here)
    run = Path(plan.paths.run)
    run.mkdir(parents=True)
    (run / "plan.json").write_text(plan.model_dump_json())
    code, found = told(capsys, "kitchen")
    assert code == 1
    assert (found["GPUs"]["state"], found["GPUs"]["code"]) == ("bad", 78)


def test_the_way_to_where_nodes_meet_is_walked(here, capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code, found = told(capsys, "--rendezvous", f"127.0.0.1:{port}")
        assert (code, found["rendezvous"]["found"]) == (0, f"127.0.0.1:{port} answers")
    code, found = told(capsys, "--rendezvous", f"127.0.0.1:{port}")
    assert (code, found["rendezvous"]["state"]) == (0, "ok")
    assert "nobody listens there yet" in found["rendezvous"]["found"]


@pytest.mark.parametrize("address", ["host:", "host:99999", "a b:1", "host:0"])
def test_an_address_that_is_none_is_refused_by_name(here, capsys, address):
    assert main(["doctor", "--rendezvous", address]) == 2
    assert repr(address) in capsys.readouterr().err


def test_a_person_reads_a_line_for_each_thing(here, capsys):
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for check in ("GPUs", "torch", "/dev/shm", "runs", "hub cache", "temporary files", "clock", "rendezvous"):
        assert any(line.startswith(check) for line in lines), check


def test_nothing_is_left_behind(here, capsys):
    main(["doctor"])
    assert list(here.iterdir()) == []


def test_a_cache_that_cannot_be_written_to_matters_only_with_gpus(here, capsys, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", "/proc/self/triton")
    assert told(capsys)[1]["TRITON_CACHE_DIR"]["state"] == "note"
    monkeypatch.setattr(gpus, "probe", lambda: FACTS)
    assert told(capsys)[1]["TRITON_CACHE_DIR"]["state"] == "bad"
