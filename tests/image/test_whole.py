"""The Dockerfile with the CPU lock file, built for real: training by any user, on a read-only root, without a network.
It takes several minutes and gigabytes; `make image-test` runs it."""

import shutil
import signal
import time

import pytest

from hatrain.contract.run import RunDirectory
from tests.image.folder import READ_ONLY, USERS, make_base, make_workspace, mounted
from tests.image.locks import pinned

pytestmark = pytest.mark.long
IMAGE = "localhost/hatrain:cpu"


@pytest.fixture(scope="module")
def image(engine):
    # A single layer saves disk; no test here looks at layers.
    engine.build(IMAGE, "--layers=false", LOCK="requirements-cpu.lock", SOURCES="deepspeed", DEEPSPEED_OPS="CPU_ADAM")
    return engine


@pytest.fixture(scope="module")
def base(image, tmp_path_factory):
    """A base model made by the image."""
    folder = make_base(image, IMAGE, tmp_path_factory.mktemp("base") / "work", hidden=32)
    # The library writes this file readable by its owner only, and other users need it here.
    (folder / "models" / "base" / "model.safetensors").chmod(0o644)
    return folder / "models" / "base"


@pytest.fixture
def folder(base, tmp_path):
    """A workspace with rows and that base model."""
    folder = make_workspace(tmp_path / "work", rows=64)
    shutil.copytree(base, folder / "models" / "base")
    return folder


def python(image, code, *options):
    result = image.run(IMAGE, "-c", code, options=["--entrypoint", "python3", *READ_ONLY, *options])
    assert result.code == 0, result.err
    return result.out.strip()


def test_the_packages_are_those_of_the_lock_files(image):
    installed = image.packages(IMAGE)
    del installed["hatrain"]
    assert installed == pinned("requirements-cpu.lock") | pinned("requirements-deepspeed.lock")


def test_deepspeeds_op_is_prebuilt_and_runs_on_older_cpus(image):
    code = "from deepspeed.ops.op_builder import CPUAdamBuilder as B; print(B().load().__file__)"
    library = python(image, code).splitlines()[-1]
    assert library.startswith("/opt/hatrain/lib/")
    result = image.run(
        IMAGE, "-c", f"objdump --disassemble {library} | grep --count zmm", options=["--entrypoint", "bash"]
    )
    assert result.out.strip() == "0", result.err  # AVX-512 registers


@pytest.mark.parametrize("user", USERS.values(), ids=USERS)
def test_any_user_trains_on_a_read_only_root_without_a_network(image, folder, user):
    result = image.run(IMAGE, "train", "job.yaml", options=[*READ_ONLY, *user, *mounted(folder)])
    assert result.code == 0, result.err
    run = RunDirectory(folder / "runs" / "kitchen")
    assert run.done.is_file()
    assert (run.model / "model.safetensors").is_file()
    assert (folder / "models" / "kitchen").is_symlink()
    assert image.run(IMAGE, "doctor", "kitchen", options=[*READ_ONLY, *user, *mounted(folder)]).code == 0


def test_two_ranks_train_in_one_container(image, folder):
    two = ["--set", "hardware.gpus_per_node=2", "--set", "hardware.sharding=ddp"]
    result = image.run(IMAGE, "train", "job.yaml", *two, options=[*READ_ONLY, *mounted(folder)])
    assert result.code == 0, result.err


def test_zero_offloads_to_the_cpu_with_the_prebuilt_op(image, folder):
    settings = ("hardware.gpus_per_node=2", "hardware.sharding=zero2", "hardware.offload=optimizer")
    overrides = [argument for setting in settings for argument in ("--set", setting)]
    result = image.run(IMAGE, "train", "job.yaml", *overrides, options=[*READ_ONLY, *mounted(folder)], timeout=1200)
    assert result.code == 0, result.out[-3000:] + result.err
    assert RunDirectory(folder / "runs" / "kitchen").done.is_file()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_stopped_container_saves_a_checkpoint_that_the_next_resumes(image, folder, number, code):
    command = ["train", "job.yaml", "--set", "method.epochs=400", "--set", "checkpoints.save_steps=100000"]
    options, name = [*READ_ONLY, *mounted(folder)], f"hatrain-whole-{number}"
    running = image.start(IMAGE, *command, name=name, options=options)
    run = RunDirectory(folder / "runs" / "kitchen")
    deadline = time.monotonic() + 600
    while not run.metrics.exists() and time.monotonic() < deadline and running.poll() is None:
        time.sleep(0.2)
    image.call("podman", "kill", "--signal", str(int(number)), name)
    _, err = running.communicate(timeout=600)
    assert running.returncode == code, err
    sealed = [event for event in run.events() if event["event"] == "checkpoint sealed"]
    assert len(sealed) == 1
    # Interrupt the resumed run: it must have started from the saved checkpoint.
    running = image.start(IMAGE, *command, name=name, options=options)
    while len(run.all_attempts()) < 2 or not _resumed(run):
        assert time.monotonic() < deadline + 600
        assert running.poll() is None
        time.sleep(0.2)
    image.call("podman", "kill", "--signal", "INT", name)
    running.communicate(timeout=600)
    assert running.returncode == 130
    assert f"checkpoint-{sealed[0]['step']}" in (run.attempts / "2" / "log.txt").read_text()


def _resumed(run: RunDirectory) -> bool:
    """Whether the second attempt has logged a step."""
    return any('"attempt": 2' in line for line in run.metrics.read_text().splitlines())


def test_diverged_training_is_fatal(image, folder):
    result = image.run(
        IMAGE,
        *("train", "job.yaml", "--set", "method.learning_rate=1e30", "--set", "method.gradient_clip=1e30"),
        options=[*READ_ONLY, *mounted(folder)],
    )
    assert result.code == 78, result.err
