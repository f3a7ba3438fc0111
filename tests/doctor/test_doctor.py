"""Findings of the doctor, with a fake NVIDIA driver that is compiled here; and the exit codes of entry's preflight: 78
where no retry can succeed, 75 where a later one or another node may."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hatrain import doctor
from hatrain.cli import main
from hatrain.contract.cluster import KubernetesCluster, LocalCluster, SlurmCluster
from hatrain.contract.run import Exit, RunDirectory
from hatrain.doctor import gpus, machine
from tests.harness import Harness, calls, exit_codes, outcome
from tests.plans import a_plan
from tests.require import need

DRIVER = r"""
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int setting(const char *name, int fallback) {
    const char *value = getenv(name);
    return value ? atoi(value) : fallback;
}

int cuInit(unsigned flags) {
    const char *awaited = getenv("FAKE_AWAITS");
    while (awaited && access(awaited, F_OK)) usleep(20000);
    if (setting("FAKE_HANG", 0)) sleep(600);
    if (setting("FAKE_CRASH", 0)) raise(SIGSEGV);
    return setting("FAKE_ERROR", 0);
}
int cuDriverGetVersion(int *version) { *version = setting("FAKE_CUDA", 13000); return 0; }
int cuDeviceGetCount(int *count) { *count = setting("FAKE_GPUS", 2); return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return 0; }
int cuDeviceGetName(char *name, int length, int device) { strncpy(name, "Fake GPU", length); return 0; }
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
    """Hide this machine's own GPUs and rendezvous."""
    monkeypatch.setattr(gpus, "KERNEL_DRIVER", tmp_path / "no-such-driver")
    for variable in ("CUDA_VISIBLE_DEVICES", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def driver(compiled, monkeypatch):
    """Two GPUs with a driver that supports CUDA 13.0, and a torch that was built for 13.0."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(compiled))
    built_for("13.0", compiled, monkeypatch)
    return monkeypatch


def built_for(cuda, folder, monkeypatch):
    """Put a fake torch on the path that was built for this CUDA version; None for one without CUDA."""
    package = folder / f"torch-{cuda}" / "torch"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").touch()
    (package / "version.py").write_text(f"__version__ = '2.13.0'\ncuda: Optional[str] = {cuda!r}\n")
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.syspath_prepend(package.parent)


CLUSTERS = {
    "local": LocalCluster(kind="local"),
    "slurm": SlurmCluster(kind="slurm"),
    "kubernetes": KubernetesCluster.model_construct(kind="kubernetes"),
}


def plan_for(folder, *, launcher="local", gpu="a6000-48gb", ranks=2, nodes=1):
    plan = a_plan(folder, hardware__gpu=gpu)
    update = {"cluster_spec": CLUSTERS[launcher], "nodes": nodes, "processes_per_node": ranks}
    return plan.model_copy(update=update)


# --- preflight -----------------------------------------------------------------------------------------


def test_a_run_on_cpus_passes_without_asking_a_driver(tmp_path, monkeypatch):
    monkeypatch.setattr(gpus, "ask_driver", lambda: pytest.fail("the driver was asked"))
    assert doctor.preflight(plan_for(tmp_path, gpu="cpu")) == (None, {})


def test_a_run_on_gpus_passes_on_a_machine_that_has_them(tmp_path, driver):
    assert doctor.preflight(plan_for(tmp_path)) == (None, {})


def test_a_missing_driver_is_fatal_on_the_only_machine(tmp_path):
    code, reasons = doctor.preflight(plan_for(tmp_path))
    assert code is Exit.FATAL
    assert "no NVIDIA driver" in reasons["GPUs"]
    assert "hardware.gpu: cpu" in reasons["GPUs"]


@pytest.mark.parametrize("launcher", ["slurm", "kubernetes"])
def test_a_missing_driver_on_a_node_is_a_reason_to_retry_on_another(tmp_path, launcher):
    assert doctor.preflight(plan_for(tmp_path, launcher=launcher))[0] is Exit.REQUEUE


def test_a_container_without_its_gpus_is_fatal_and_names_the_option_to_add(tmp_path, monkeypatch):
    version = tmp_path / "version"
    version.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n")
    monkeypatch.setattr(gpus, "KERNEL_DRIVER", version)
    code, reasons = doctor.preflight(plan_for(tmp_path, launcher="slurm"))
    assert code is Exit.FATAL
    assert "580.95.05" in reasons["GPUs"]
    assert "--nv" in reasons["GPUs"]


@pytest.mark.parametrize(("launcher", "left"), [("local", Exit.FATAL), ("slurm", Exit.REQUEUE)])
def test_a_failed_gpu_is_fatal_only_on_the_only_machine(tmp_path, driver, launcher, left):
    driver.setenv("FAKE_GPUS", "1")
    code, reasons = doctor.preflight(plan_for(tmp_path, launcher=launcher))
    assert code is left
    assert "1 for 2 ranks" in reasons["GPUs"]


def test_gpus_hidden_by_a_variable_are_fatal(tmp_path, driver):
    driver.setenv("FAKE_GPUS", "1")
    driver.setenv("CUDA_VISIBLE_DEVICES", "0")
    code, reasons = doctor.preflight(plan_for(tmp_path, launcher="slurm"))
    assert code is Exit.FATAL
    assert "CUDA_VISIBLE_DEVICES shows 1" in reasons["GPUs"]


@pytest.mark.parametrize("trouble", ["FAKE_ERROR", "FAKE_CRASH", "FAKE_HANG"])
def test_a_driver_that_fails_crashes_or_hangs_is_reported(tmp_path, driver, trouble):
    driver.setattr(gpus, "PROBE_SECONDS", 3.0)
    driver.setenv(trouble, "802")
    code, reasons = doctor.preflight(plan_for(tmp_path, launcher="slurm"))
    assert code is Exit.REQUEUE
    expected = {
        "FAKE_ERROR": "CUDA_ERROR_SYSTEM_NOT_READY",
        "FAKE_CRASH": "SIGSEGV",
        "FAKE_HANG": "no answer in 3 s",
    }
    assert expected[trouble] in reasons["GPUs"]


@pytest.mark.parametrize(("launcher", "left"), [("local", Exit.FATAL), ("slurm", Exit.REQUEUE)])
def test_a_driver_older_than_torchs_cuda_is_reported_with_both_versions(tmp_path, driver, launcher, left):
    driver.setenv("FAKE_CUDA", "12040")
    code, reasons = doctor.preflight(plan_for(tmp_path, launcher=launcher))
    assert code is left
    assert "supports CUDA 12.4, and torch was built for 13.0" in reasons["CUDA"]


def test_a_driver_of_the_same_major_version_is_accepted(tmp_path, driver, compiled):
    built_for("13.2", compiled, driver)
    assert doctor.preflight(plan_for(tmp_path))[0] is None


def test_a_torch_without_cuda_is_fatal_for_a_run_on_gpus(tmp_path, driver, compiled):
    built_for(None, compiled, driver)
    code, reasons = doctor.preflight(plan_for(tmp_path, launcher="slurm"))
    assert code is Exit.FATAL
    assert "without CUDA" in reasons["CUDA"]


def test_a_folder_that_is_not_writable_is_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", "/proc/self")
    monkeypatch.setattr("tempfile.tempdir", "/proc/self")
    code, reasons = doctor.preflight(plan_for(tmp_path, gpu="cpu", launcher="slurm"))
    assert set(reasons) == {"temporary files"}
    assert "not writable" in reasons["temporary files"]
    assert code is not None


def test_a_disk_too_full_for_the_next_checkpoint_is_a_reason_to_retry(tmp_path, monkeypatch):
    plan = plan_for(tmp_path, gpu="cpu")
    checkpoint = Path(plan.paths.run) / "checkpoints" / "checkpoint-100"
    checkpoint.mkdir(parents=True)
    with (checkpoint / "model.safetensors").open("wb") as file:
        file.truncate(10**13)  # more than is free, and takes no room
    code, reasons = doctor.preflight(plan)
    assert code is Exit.REQUEUE
    assert "next checkpoint" in reasons["disk of the run"]


@pytest.mark.parametrize(("ranks", "blocks", "free", "left"), [(8, 64, 64, 78), (2, 8192, 16, 75), (1, 64, 64, None)])
def test_shared_memory_must_suffice_for_several_ranks(tmp_path, driver, ranks, blocks, free, left):
    driver.setenv("FAKE_GPUS", "8")
    real = os.statvfs

    def fake_statvfs(path):
        if path != machine.SHARED_MEMORY:
            return real(path)
        fields = list(real("/dev/shm"))
        fields[0] = fields[1] = 2**20
        fields[2], fields[3], fields[4] = blocks, free, free
        return os.statvfs_result(fields)

    driver.setattr(os, "statvfs", fake_statvfs)
    code, reasons = doctor.preflight(plan_for(tmp_path, ranks=ranks))
    assert code == left
    assert ("/dev/shm" in reasons) == (left is not None)


def test_several_nodes_need_a_rendezvous_name_that_resolves(tmp_path, monkeypatch):
    plan = plan_for(tmp_path, gpu="cpu", launcher="slurm", nodes=2)
    assert doctor.preflight(plan, resolve_seconds=0)[0] is Exit.FATAL  # no MASTER_ADDR
    monkeypatch.setenv("MASTER_ADDR", "head.invalid")
    code, reasons = doctor.preflight(plan, resolve_seconds=0)
    assert code is Exit.REQUEUE
    assert "head.invalid" in reasons["rendezvous"]
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    assert doctor.preflight(plan, resolve_seconds=0)[0] is None


def test_a_fatal_finding_wins_over_a_retryable_one(tmp_path, driver, compiled):
    built_for(None, compiled, driver)
    driver.setenv("FAKE_GPUS", "1")
    code, reasons = doctor.preflight(plan_for(tmp_path, launcher="slurm"))
    assert code is Exit.FATAL
    assert set(reasons) == {"GPUs", "CUDA"}


def test_the_doctor_imports_nothing_heavy(tmp_path):
    code = "import sys, hatrain.doctor; sys.exit(bool({'torch', 'rich', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# --- entry, which runs the preflight ---------------------------------------------------------------------------


@pytest.fixture
def harness(tmp_path):
    with Harness(tmp_path) as harness:
        yield harness


def gpu_run(harness, cluster=None, nodes=1, **changes):
    """Return the run of a job for one GPU per node."""
    plan = harness.plan(hardware__gpu="a6000-48gb", **changes)
    run = RunDirectory(Path(plan.paths.run))
    run.adopt(plan.model_copy(update={"cluster_spec": cluster or plan.cluster_spec, "nodes": nodes}), {})
    return run


def test_entry_starts_no_rank_without_a_gpu_and_prints_the_reason(harness):
    run = gpu_run(harness)
    code, _, err = harness.enter(run.folder)
    assert code == 78
    assert "entry, GPUs: no NVIDIA driver" in err
    assert not (run.folder / "calls").exists()
    assert run.events()[-1]["code"] == 78


def test_entry_requeues_on_a_broken_node_up_to_a_bound_of_its_own(harness, compiled):
    run = gpu_run(harness, SlurmCluster(kind="slurm"), limits__retries=0)
    variables = {"LD_LIBRARY_PATH": str(compiled), "FAKE_ERROR": "802", "OUTSIDE_ENDS": "2"}
    assert [harness.enter(run.folder, **variables)[0] for _ in range(3)] == [75, 75, 78]
    assert "CUDA_ERROR_SYSTEM_NOT_READY" in run.events()[1]["reasons"]["entry, GPUs"]


def test_a_broken_node_ends_the_attempt_on_all_nodes(harness, compiled, monkeypatch):
    run = gpu_run(harness, SlurmCluster(kind="slurm"), nodes=2)
    built_for("13.0", compiled, monkeypatch)
    variables = {"LD_LIBRARY_PATH": str(compiled), "PYTHONPATH": str(compiled / "torch-13.0")}
    healthy = harness.node(0, run, "stop", **variables)
    began = str(run.folder / "calls")  # by the healthy node, which waits for the other to be there
    broken = harness.node(1, run, FAKE_ERROR="802", FAKE_AWAITS=began, **variables)
    assert exit_codes(healthy, broken) == [1, 1]
    assert calls(run) == ["training stop"]
    assert "CUDA_ERROR_SYSTEM_NOT_READY" in outcome(run)["reasons"]["node 1, GPUs"]


# --- torch's report ----------------------------------------------------------------------------------------

TWO = tuple({"name": "Fake GPU", "memory": 48 << 30, "capability": [8, 6]} for _ in range(2))
FACTS = gpus.Facts(library=True, cuda=13000, error=None, gpus=TWO, kernel="580.95.05")
TORCH = {
    "version": "2.13.0",
    "cuda": "13.0",
    "architectures": ["sm_80", "sm_90"],
    "gpus": 2,
    "nccl": "2.29.7",
}


def states(facts=FACTS, **changes):
    return {found.check: found for found in gpus.torch_findings(facts, TORCH | changes, only_machine=True)}


def test_code_for_the_same_major_version_runs_on_a_gpu():
    assert {found.state for found in states().values()} == {"ok"}


@pytest.mark.parametrize("architectures", [["sm_90", "compute_90"], ["sm_75"], ["sm_89"]])
def test_a_gpu_that_torch_has_no_code_for_is_named(architectures):
    found = states(architectures=architectures)["architectures"]
    assert found.state == "bad"
    assert "Fake GPU" in found.found


@pytest.mark.parametrize("architectures", [["sm_75", "compute_75"], ["sm_86"], ["sm_100a", "sm_80"]])
def test_a_gpu_that_torch_has_code_for_is_accepted(architectures):
    assert "architectures" not in states(architectures=architectures)


@pytest.mark.parametrize(("key", "check"), [("bf16_error", "bf16"), ("nccl_error", "NCCL")])
def test_a_failed_product_or_sum_is_reported(key, check):
    found = states(**{key: "RuntimeError: CUDA error: unspecified launch failure"})[check]
    assert found.state == "bad"
    assert "unspecified launch failure" in found.line()


def test_a_torch_that_crashes_is_reported():
    found = list(gpus.torch_findings(FACTS, "ended by SIGILL", only_machine=True))
    assert [(finding.check, finding.state) for finding in found] == [("torch", "bad")]


@pytest.mark.parametrize(("value", "count"), [("", 0), ("-1", 0), ("0,1", 2), ("0,-1,2", 1), ("GPU-1a,MIG-2b", 2)])
def test_visible_devices_are_counted_as_the_driver_does(value, count):
    assert gpus.visible_devices({"CUDA_VISIBLE_DEVICES": value}) == count


# --- the verb -----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HATRAIN_RUNS", str(tmp_path / "runs"))
    return tmp_path


def report(capsys, *arguments):
    code = main(["doctor", "--json", *arguments])
    printed = json.loads(capsys.readouterr().out)
    assert printed["ok"] == (code == 0)
    return code, {finding["check"]: finding for finding in printed["findings"]}


def test_a_machine_without_a_gpu_passes_with_a_note(folder, capsys):
    code, found = report(capsys)
    assert code == 0
    assert found["GPUs"]["state"] == "note"
    assert "trains on the CPU" in found["GPUs"]["found"]
    assert found["torch"]["state"] == "ok"
    assert found["runs"]["state"] == found["clock"]["state"] == found["temporary files"]["state"] == "ok"


def test_a_run_on_gpus_fails_on_a_machine_without_them(folder, capsys):
    plan = plan_for(folder)
    run = Path(plan.paths.run)
    run.mkdir(parents=True)
    (run / "plan.json").write_text(plan.model_dump_json())
    code, found = report(capsys, "kitchen")
    assert code == 1
    assert (found["GPUs"]["state"], found["GPUs"]["code"]) == ("bad", 78)


def test_the_rendezvous_is_connected_to(folder, capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code, found = report(capsys, "--rendezvous", f"127.0.0.1:{port}")
        assert (code, found["rendezvous"]["found"]) == (0, f"127.0.0.1:{port} answers")
    code, found = report(capsys, "--rendezvous", f"127.0.0.1:{port}")
    assert (code, found["rendezvous"]["state"]) == (0, "ok")
    assert "nothing listens there yet" in found["rendezvous"]["found"]


@pytest.mark.parametrize("address", ["host:", "host:99999", "a b:1", "host:0"])
def test_an_invalid_rendezvous_is_refused_by_name(folder, capsys, address):
    assert main(["doctor", "--rendezvous", address]) == 2
    assert repr(address) in capsys.readouterr().err


def test_every_check_is_printed_on_a_line(folder, capsys):
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for check in ("GPUs", "torch", "/dev/shm", "runs", "hub cache", "temporary files", "clock", "rendezvous"):
        assert any(line.startswith(check) for line in lines), check


def test_the_doctor_leaves_no_files(folder, capsys):
    main(["doctor"])
    assert list(folder.iterdir()) == []


def test_a_compiler_cache_must_be_writable_only_with_gpus(folder, capsys, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", "/proc/self/triton")
    assert report(capsys)[1]["TRITON_CACHE_DIR"]["state"] == "note"
    monkeypatch.setattr(gpus, "ask_driver", lambda: FACTS)
    assert report(capsys)[1]["TRITON_CACHE_DIR"]["state"] == "bad"
