"""The Dockerfile with the smallest lock file, which can plan but not train, built for real: stages, user, entrypoint,
folders, signals. test_whole.py builds it with torch, and trains."""

import json
import re
import signal
import time

import pytest

import hatrain
from hatrain.contract.run import RunDirectory
from tests.image.engine import ROOT
from tests.image.folder import READ_ONLY, USERS, make_workspace, mounted
from tests.image.locks import pinned

IMAGE = "localhost/hatrain:slim"


@pytest.fixture(scope="module")
def built(engine):
    """The output of the build."""
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
    result = image.run(IMAGE, "-euc", script, options=["--entrypoint", "bash", *options])
    assert result.code == 0, result.err
    return result.out.strip()


# --- the image and its metadata -----------------------------------------------------------------------------


def test_the_entrypoint_is_hatrain_without_a_shell(configuration):
    assert configuration["Entrypoint"] == ["hatrain"]
    assert not configuration.get("Cmd")
    assert configuration["User"] == "10001:0"
    assert configuration["WorkingDir"] == "/workspace"


def test_the_labels_name_version_revision_and_source(configuration):
    label = {name.rpartition(".")[2]: value for name, value in configuration["Labels"].items()}
    assert label["version"] == hatrain.__version__
    assert label["revision"] == "0123abc"
    assert label["source"] == "https://example.org/hatrain"
    assert label["licenses"] == "MIT"


def test_every_cache_is_in_a_volume_or_a_temporary_folder(configuration):
    variables = dict(line.split("=", 1) for line in configuration["Env"])
    folders = {name: variables[name] for name in variables if name.endswith(("HOME", "DIR"))}
    assert len(folders) >= 6
    assert {name for name, folder in folders.items() if not folder.startswith(("/tmp", "/cache"))} == set()


def test_the_build_prints_the_largest_packages(built):
    groups = re.findall(r"^(Python|Debian) packages: (\d+), ([\d,]+) MB$", built, re.MULTILINE)
    assert [group[0] for group in groups] == ["Python", "Debian"]
    assert int(groups[0][1]) == len(pinned("requirements-launch.lock")) + 1
    assert re.search(r"^ +\d+ MB  pydantic_core 2\.", built, re.MULTILINE)


def test_hatrain_itself_is_a_small_layer_of_its_own(image):
    layers = json.loads(image.call("podman", "history", "--format", "json", IMAGE).out)
    copied = [layer["size"] for layer in layers if " COPY " in layer["CreatedBy"]]
    assert len(copied) == 2
    hatrain, packages = copied
    assert 0 < hatrain < 20e6
    assert packages > hatrain


def test_the_image_has_no_build_tools_and_no_build_settings(image, configuration):
    assert not any("PIP_" in line or "proxy" in line.lower() for line in configuration["Env"])
    script = r"""
        command -v pip pip3 gcc g++ cc c++ make nvcc || true
        find / -xdev \( -name '*.whl' -o -path /root/.cache -o -path '/var/lib/apt/lists/*Packages*' \)
    """
    found = shell(image, script, "--user", "0")
    assert found == ""


def test_python3_is_the_interpreter_of_hatrain(image):
    output = shell(image, "command -v python3; python3 -c 'import hatrain, launch; print(hatrain.__file__)'")
    interpreter, package = output.splitlines()
    assert interpreter == "/opt/hatrain/bin/python3"
    assert package.startswith("/opt/hatrain/lib/")


def test_the_packages_are_those_of_the_lock_file(image):
    installed = image.packages(IMAGE)
    assert installed.pop("hatrain") == hatrain.__version__
    assert installed == pinned("requirements-launch.lock")


def test_the_sbom_lists_every_python_and_debian_package(image):
    sbom = json.loads(image.script("sbom", IMAGE))
    assert (sbom["bomFormat"], sbom["specVersion"]) == ("CycloneDX", "1.6")
    assert sbom["metadata"]["component"]["version"] == hatrain.__version__
    assert sbom["metadata"]["component"]["properties"] == [{"name": "revision", "value": "0123abc"}]
    names = [component["purl"] for component in sbom["components"] if component["type"] == "library"]
    assert len(names) == len(set(names))
    python = {name.partition("?")[0].removeprefix("pkg:pypi/") for name in names if name.startswith("pkg:pypi/")}
    assert python == {f"{name}@{version}" for name, version in pinned("requirements-launch.lock").items()} | {
        f"hatrain@{hatrain.__version__}"
    }
    assert any(name.startswith("pkg:deb/debian/libc6@") for name in names)
    licences = {component["name"]: component.get("licenses") for component in sbom["components"]}
    assert licences["pydantic"] == [{"expression": "MIT"}]
    assert licences["rich"] == [{"license": {"name": "MIT License"}}]


# --- users, and where they can write ------------------------------------------------------------------------


def test_users_can_write_only_to_the_intended_folders(image, user):
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


def test_a_job_is_planned_and_rendered_on_a_read_only_root_by_any_user(image, user, tmp_path):
    folder = make_workspace(tmp_path / "work", rows=16)
    result = image.run(IMAGE, "plan", "job.yaml", options=[*READ_ONLY, *user, *mounted(folder)])
    assert result.code == 0, result.err
    assert "4 = 4 per epoch" in result.out
    result = image.run(
        IMAGE, "render", "job.yaml", "--out", "runs/kitchen", options=[*READ_ONLY, *user, *mounted(folder)]
    )
    assert result.code == 0, result.err
    assert (folder / "runs" / "kitchen" / "plan.json").is_file()


def test_a_user_without_a_passwd_entry_has_a_name(image, user):
    assert shell(image, "python3 -c 'import getpass; print(getpass.getuser())'", *user) == "hatrain"


def test_the_doctor_reports_gpus_torch_and_folders(image, user, tmp_path):
    folder = make_workspace(tmp_path / "work", rows=1)
    options = [*READ_ONLY, *user]
    result = image.run(IMAGE, "doctor", "--json", options=[*options, *mounted(folder)])
    assert result.code == 0, result.out
    found = {finding["check"]: finding for finding in json.loads(result.out)["findings"]}
    assert "trains on the CPU" in found["GPUs"]["found"]
    assert found["torch"]["state"] == "note"
    assert found["TRITON_CACHE_DIR"]["state"] == found["temporary files"]["state"] == "ok"
    assert found["hub cache"]["state"] == "note"  # nothing is mounted at /cache
    # Without a volume at /workspace no run can start.
    assert image.run(IMAGE, "doctor", options=options).code == 1


def test_verbs_exit_with_their_own_codes(image, tmp_path):
    folder = make_workspace(tmp_path / "work", rows=16)
    assert image.run(IMAGE).code == 0
    assert image.run(IMAGE, "plam", "job.yaml").code == 2
    result = image.run(IMAGE, "plan", "job.yaml", "--set", "method.batch_size=3", options=mounted(folder))
    assert result.code == 2
    assert "batch_size" in result.err


# --- signals and exit codes, with entry as process 1 and a fake trainer ----------------------------------------


def entry(image, folder, act, *, name=None):
    """Run entry to its end, or start it under a name. `act` is what the fake trainer does."""
    image.run(IMAGE, "render", "job.yaml", "--out", "runs/kitchen", options=mounted(folder))
    (folder / "models" / "base").mkdir(exist_ok=True)
    options = [*READ_ONLY, *mounted(folder), "--volume", f"{ROOT}/tests:/tests:ro", "--env", f"ACT={act}"]
    options += ["--entrypoint", "python3"]
    arguments = ["/tests/fake_entry.py", "runs/kitchen"]
    if name:
        return image.start(IMAGE, *arguments, name=name, options=options)
    return image.run(IMAGE, *arguments, options=options)


@pytest.mark.parametrize(("act", "code"), [("finish", 0), ("fault", 1), ("die", 1), ("fatal", 78)])
def test_a_container_exits_with_the_code_of_its_run(image, tmp_path, act, code):
    result = entry(image, make_workspace(tmp_path / "work", rows=16), act)
    assert result.code == code, result.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_to_the_container_reaches_the_trainer(image, tmp_path, number, code):
    folder = make_workspace(tmp_path / "work", rows=16)
    name = f"hatrain-test-{number}"
    running = entry(image, folder, "stop", name=name)
    run = RunDirectory(folder / "runs" / "kitchen")
    deadline = time.monotonic() + 600
    while not (run.folder / "calls").exists() and time.monotonic() < deadline and running.poll() is None:
        time.sleep(0.1)
    image.call("podman", "kill", "--signal", str(int(number)), name)
    _, err = running.communicate(timeout=600)
    assert running.returncode == code, err
    assert [event["event"] for event in run.events()] == ["attempt begun", "checkpoint sealed", "outcome"]


def test_a_rendered_script_can_replace_the_entrypoint(image, tmp_path):
    folder = make_workspace(tmp_path / "work", rows=16)
    image.run(IMAGE, "render", "job.yaml", "--out", "runs/kitchen", options=mounted(folder))
    result = image.run(
        IMAGE,
        "runs/kitchen/launch/node.sh",
        "runs/kitchen",
        options=["--entrypoint", "bash", *mounted(folder)],
    )
    assert result.code == 78
    assert "models/base: no such folder" in result.err
