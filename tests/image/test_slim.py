"""The Dockerfile at its slimmest, the launch wing alone, built for real: stages, user, entrypoint, folders, signals.
The whole of it, with torch and training, is in test_whole.py."""

import json
import re
import signal
import time

import pytest

from hatrain.contract.run import RunDirectory
from tests.image.engine import ROOT
from tests.image.folder import READ_ONLY, USERS, made, mounted
from tests.image.locks import pinned

IMAGE = "localhost/hatrain:slim"


@pytest.fixture(scope="module")
def built(engine):
    """What building it printed."""
    return engine.build(
        IMAGE,
        LOCK="requirements-launch.lock",
        SOURCES="",
        TRITON_COMPILER="",
        REVISION="0123abc",
        SOURCE="https://example.org/hatrain",
    )


@pytest.fixture(scope="module")
def image(engine, built):
    return engine


@pytest.fixture(scope="module")
def configuration(image):
    return image.inspect(IMAGE)["Config"]


@pytest.fixture(params=USERS.values(), ids=USERS)
def user(request):
    return request.param


def shell(image, script, *options):
    told = image.run(IMAGE, "-euc", script, options=["--entrypoint", "bash", *options])
    assert told.code == 0, told.err
    return told.out.strip()


# --- what the image says of itself --------------------------------------------------------------------------


def test_the_entrypoint_is_hatrain_with_no_shell_before_it(configuration):
    assert configuration["Entrypoint"] == ["hatrain"]
    assert not configuration.get("Cmd")
    assert configuration["User"] == "10001:0"
    assert configuration["WorkingDir"] == "/workspace"


def test_the_labels_say_where_it_comes_from(configuration):
    label = {name.rpartition(".")[2]: value for name, value in configuration["Labels"].items()}
    assert label["version"] == "0.1.0"
    assert label["revision"] == "0123abc"
    assert label["source"] == "https://example.org/hatrain"
    assert label["licenses"]


def test_every_cache_is_a_mounted_or_a_temporary_folder(configuration):
    told = dict(line.split("=", 1) for line in configuration["Env"])
    folders = {name: told[name] for name in told if name.endswith(("HOME", "DIR"))}
    assert len(folders) >= 6
    assert {name for name, folder in folders.items() if not folder.startswith(("/tmp", "/cache"))} == set()


def test_building_it_tells_what_takes_the_room(built):
    groups = re.findall(r"^(Python|Debian) packages: (\d+), ([\d,]+) MB$", built, re.MULTILINE)
    assert [group[0] for group in groups] == ["Python", "Debian"]
    assert int(groups[0][1]) == len(pinned("requirements-launch.lock")) + 1
    assert re.search(r"^ +\d+ MB  pydantic_core 2\.", built, re.MULTILINE)


def test_a_new_version_of_hatrain_is_a_small_layer_of_its_own(image):
    layers = json.loads(image.call("podman", "history", "--format", "json", IMAGE).out)
    copied = [layer["size"] for layer in layers if " COPY " in layer["CreatedBy"]]
    assert len(copied) == 2
    hatrain, packages = copied
    assert 0 < hatrain < 20e6
    assert packages > hatrain


def test_nothing_of_how_it_was_built_is_left(image, configuration):
    assert not any("PIP_" in line or "proxy" in line.lower() for line in configuration["Env"])
    script = r"""
        command -v pip pip3 gcc g++ cc c++ make nvcc || true
        find / -xdev \( -name '*.whl' -o -path /root/.cache -o -path '/var/lib/apt/lists/*Packages*' \)
    """
    found = shell(image, script, "--user", "0")
    assert found == ""


def test_python_is_the_one_that_hatrain_is_installed_for(image):
    told = shell(image, "command -v python3; python3 -c 'import hatrain, launch; print(hatrain.__file__)'")
    interpreter, package = told.splitlines()
    assert interpreter == "/opt/hatrain/bin/python3"
    assert package.startswith("/opt/hatrain/lib/")


def test_the_packages_are_those_of_the_lock(image):
    held = json.loads(
        shell(
            image,
            "python3 -c 'import importlib.metadata as m, json; "
            'print(json.dumps({d.name.lower().replace("_", "-"): d.version for d in m.distributions()}))\'',
        )
    )
    assert held.pop("hatrain") == "0.1.0"
    assert held == pinned("requirements-launch.lock")


def test_the_bill_of_materials_has_every_package_of_both_kinds(image):
    told = json.loads(image.script("sbom", IMAGE))
    assert (told["bomFormat"], told["specVersion"]) == ("CycloneDX", "1.6")
    assert told["metadata"]["component"]["version"] == "0.1.0"
    assert told["metadata"]["component"]["properties"] == [{"name": "revision", "value": "0123abc"}]
    names = [component["purl"] for component in told["components"] if component["type"] == "library"]
    assert len(names) == len(set(names))
    python = {
        name.partition("?")[0].removeprefix("pkg:pypi/") for name in names if name.startswith("pkg:pypi/")
    }
    assert python == {f"{name}@{version}" for name, version in pinned("requirements-launch.lock").items()} | {
        "hatrain@0.1.0"
    }
    assert any(name.startswith("pkg:deb/debian/libc6@") for name in names)
    licences = {component["name"]: component.get("licenses") for component in told["components"]}
    assert licences["pydantic"] == [{"expression": "MIT"}]
    assert licences["rich"] == [{"license": {"name": "MIT License"}}]


# --- who may run it, and where it writes --------------------------------------------------------------------


def test_nobody_writes_outside_of_what_is_meant_for_it(image, user):
    found = shell(
        image,
        "find / -xdev -type d -writable -not -path '/proc*' 2>/dev/null | sort | tr '\\n' ' '",
        *user,
    )
    assert set(found.split()) <= {
        "/cache",
        "/workspace",
        "/tmp",
        "/var/tmp",
        "/run/lock",
        "/dev",
        "/dev/shm",
        "/dev/mqueue",
    }


def test_it_works_with_a_read_only_root_and_no_home_for_anybody(image, user, tmp_path):
    folder = made(tmp_path / "work", rows=16)
    told = image.run(IMAGE, "plan", "job.yaml", options=[*READ_ONLY, *user, *mounted(folder)])
    assert told.code == 0, told.err
    assert "4 = 4 per epoch" in told.out
    told = image.run(
        IMAGE, "render", "job.yaml", "--out", "runs/kitchen", options=[*READ_ONLY, *user, *mounted(folder)]
    )
    assert told.code == 0, told.err
    assert (folder / "runs" / "kitchen" / "plan.json").is_file()


def test_a_user_without_an_entry_has_a_name_all_the_same(image, user):
    assert shell(image, "python3 -c 'import getpass; print(getpass.getuser())'", *user) == "hatrain"


def test_the_doctor_says_what_is_there_and_what_is_not(image, user, tmp_path):
    folder = made(tmp_path / "work", rows=1)
    options = [*READ_ONLY, *user]
    told = image.run(IMAGE, "doctor", "--json", options=[*options, *mounted(folder)])
    assert told.code == 0, told.out
    found = {one["check"]: one for one in json.loads(told.out)["findings"]}
    assert "computes on its processors" in found["GPUs"]["found"]
    assert found["torch"]["state"] == "note"
    assert found["TRITON_CACHE_DIR"]["state"] == found["temporary files"]["state"] == "ok"
    assert found["hub cache"]["state"] == "note"  # nothing is mounted at /cache
    assert (
        image.run(IMAGE, "doctor", options=options).code == 1
    )  # and nothing at /workspace: no run could begin


def test_the_verbs_leave_with_their_own_codes(image, tmp_path):
    folder = made(tmp_path / "work", rows=16)
    assert image.run(IMAGE).code == 0
    assert image.run(IMAGE, "plam", "job.yaml").code == 2
    told = image.run(IMAGE, "plan", "job.yaml", "--set", "method.batch_size=3", options=mounted(folder))
    assert told.code == 2
    assert "batch_size" in told.err


# --- signals and exit codes, with entry as process 1 and a pretended trainer -----------------------------------


def entry(image, folder, act, *, name=None):
    """Return entry at work on a run, or how it ended; `act` is what the trainer does."""
    image.run(IMAGE, "render", "job.yaml", "--out", "runs/kitchen", options=mounted(folder))
    (folder / "models" / "base").mkdir(exist_ok=True)
    options = [*READ_ONLY, *mounted(folder), "--volume", f"{ROOT}/tests:/tests:ro", "--env", f"ACT={act}"]
    options += ["--entrypoint", "python3"]
    words = ["/tests/fake_entry.py", "runs/kitchen"]
    if name:
        return image.start(IMAGE, *words, name=name, options=options)
    return image.run(IMAGE, *words, options=options)


@pytest.mark.parametrize(("act", "code"), [("finish", 0), ("fault", 1), ("die", 1), ("fatal", 78)])
def test_a_run_leaves_the_container_with_its_own_code(image, tmp_path, act, code):
    told = entry(image, made(tmp_path / "work", rows=16), act)
    assert told.code == code, told.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_to_the_container_reaches_the_trainer(image, tmp_path, number, code):
    folder = made(tmp_path / "work", rows=16)
    name = f"hatrain-test-{number}"
    running = entry(image, folder, "stop", name=name)
    run = RunDirectory(folder / "runs" / "kitchen")
    deadline = time.monotonic() + 120
    while not (run.folder / "calls").exists() and time.monotonic() < deadline and running.poll() is None:
        time.sleep(0.1)
    image.call("podman", "kill", "--signal", str(int(number)), name)
    _, err = running.communicate(timeout=120)
    assert running.returncode == code, err
    assert [event["event"] for event in run.events()] == ["attempt begun", "checkpoint sealed", "outcome"]


def test_a_launchers_script_runs_in_place_of_the_entrypoint(image, tmp_path):
    folder = made(tmp_path / "work", rows=16)
    image.run(IMAGE, "render", "job.yaml", "--out", "runs/kitchen", options=mounted(folder))
    told = image.run(
        IMAGE,
        "runs/kitchen/launch/node.sh",
        "runs/kitchen",
        options=["--entrypoint", "bash", *mounted(folder)],
    )
    assert told.code == 78
    assert "models/base: no such folder" in told.err
