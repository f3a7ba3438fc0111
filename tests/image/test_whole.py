"""The Dockerfile with everything but CUDA, built for real with the lock for processors: training as whoever it may be,
on a read-only root, without a network. Several minutes and gigabytes; `make image-test` runs it."""

import json
import shutil
import signal
import time

import pytest

from hatrain.contract.run import RunDirectory
from tests.image.folder import READ_ONLY, USERS, made, mounted
from tests.image.locks import pinned

pytestmark = pytest.mark.long
IMAGE = "localhost/hatrain:cpu"


@pytest.fixture(scope="module")
def image(engine):
    # One layer: each would be written out twice, and it is not layers that are looked at here.
    engine.build(
        IMAGE, "--layers=false", LOCK="requirements-cpu.lock", SOURCES="deepspeed", DEEPSPEED_OPS="CPU_ADAM"
    )
    return engine


@pytest.fixture(scope="module")
def base(image, tmp_path_factory):
    """A base model that the image itself made."""
    folder = made(tmp_path_factory.mktemp("base") / "work", rows=64)
    words = "tiny --data data/train.jsonl --out models/base --vocabulary 300 --hidden 32 --layers 1 --heads 2"
    told = image.run(IMAGE, *words.split(), options=[*READ_ONLY, *mounted(folder)])
    assert told.code == 0, told.err
    # What a run seals may be read as the umask says; a library writes this one for its owner alone.
    (folder / "models" / "base" / "model.safetensors").chmod(0o644)
    return folder / "models" / "base"


@pytest.fixture
def folder(base, tmp_path):
    """A folder with rows and that base model, for whoever comes."""
    folder = made(tmp_path / "work", rows=64)
    shutil.copytree(base, folder / "models" / "base")
    return folder


def python(image, code, *options):
    told = image.run(IMAGE, "-c", code, options=["--entrypoint", "python3", *READ_ONLY, *options])
    assert told.code == 0, told.err
    return told.out.strip()


def test_the_packages_are_those_of_the_locks(image):
    code = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    held = {
        name.lower().replace("_", "-"): version for name, version in json.loads(python(image, code)).items()
    }
    del held["hatrain"]
    assert held == pinned("requirements-cpu.lock") | pinned("requirements-deepspeed.lock")


def test_deepspeeds_op_was_built_ahead_and_for_older_processors(image):
    code = "from deepspeed.ops.op_builder import CPUAdamBuilder as B; print(B().load().__file__)"
    library = python(image, code).splitlines()[-1]
    assert library.startswith("/opt/hatrain/lib/")
    told = image.run(
        IMAGE, "-c", f"objdump --disassemble {library} | grep --count zmm", options=["--entrypoint", "bash"]
    )
    assert told.out.strip() == "0", told.err  # registers of AVX-512, which the machine that built it may have


@pytest.mark.parametrize("user", USERS.values(), ids=USERS)
def test_anybody_trains_on_a_read_only_root_without_a_network(image, folder, user):
    told = image.run(IMAGE, "train", "job.yaml", options=[*READ_ONLY, *user, *mounted(folder)])
    assert told.code == 0, told.err
    run = RunDirectory(folder / "runs" / "kitchen")
    assert run.done.is_file()
    assert (run.model / "model.safetensors").is_file()
    assert (folder / "models" / "kitchen").is_symlink()
    assert image.run(IMAGE, "doctor", "kitchen", options=[*READ_ONLY, *user, *mounted(folder)]).code == 0


def test_ranks_of_one_container_meet(image, folder):
    two = ["--set", "hardware.gpus_per_node=2", "--set", "hardware.sharding=ddp"]
    told = image.run(IMAGE, "train", "job.yaml", *two, options=[*READ_ONLY, *mounted(folder)])
    assert told.code == 0, told.err


def test_zero_offloads_to_the_processor_with_an_op_that_nobody_has_to_compile(image, folder):
    settings = ("hardware.gpus_per_node=2", "hardware.sharding=zero2", "hardware.offload=optimizer")
    words = [word for setting in settings for word in ("--set", setting)]
    told = image.run(IMAGE, "train", "job.yaml", *words, options=[*READ_ONLY, *mounted(folder)], timeout=1200)
    assert told.code == 0, told.out[-3000:] + told.err
    assert RunDirectory(folder / "runs" / "kitchen").done.is_file()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_stopped_container_leaves_a_checkpoint_that_the_next_goes_on_from(image, folder, number, code):
    words = ["train", "job.yaml", "--set", "method.epochs=400", "--set", "checkpoints.save_steps=100000"]
    options, name = [*READ_ONLY, *mounted(folder)], f"hatrain-whole-{number}"
    running = image.start(IMAGE, *words, name=name, options=options)
    run = RunDirectory(folder / "runs" / "kitchen")
    deadline = time.monotonic() + 300
    while not run.metrics.exists() and time.monotonic() < deadline and running.poll() is None:
        time.sleep(0.2)
    image.call("podman", "kill", "--signal", str(int(number)), name)
    _, err = running.communicate(timeout=300)
    assert running.returncode == code, err
    sealed = [event for event in run.events() if event["event"] == "checkpoint sealed"]
    assert len(sealed) == 1
    # Another signal while it goes on: what it began with is what was saved.
    running = image.start(IMAGE, *words, name=name, options=options)
    while len(run.all_attempts()) < 2 or not _resumed(run):
        assert time.monotonic() < deadline + 300
        assert running.poll() is None
        time.sleep(0.2)
    image.call("podman", "kill", "--signal", "INT", name)
    running.communicate(timeout=300)
    assert running.returncode == 130
    assert f"checkpoint-{sealed[0]['step']}" in (run.attempts / "2" / "log.txt").read_text()


def _resumed(run: RunDirectory) -> bool:
    """Return whether a step was logged by the second attempt."""
    return any('"attempt": 2' in line for line in run.metrics.read_text().splitlines())


def test_weights_that_are_no_numbers_are_not_tried_again(image, folder):
    told = image.run(
        IMAGE,
        *("train", "job.yaml", "--set", "method.learning_rate=1e30", "--set", "method.gradient_clip=1e30"),
        options=[*READ_ONLY, *mounted(folder)],
    )
    assert told.code == 78, told.err
