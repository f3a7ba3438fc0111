"""The commands of `make image`, `sbom`, `sqsh` and `sif`, with stub programs that record how they are called."""

import shutil
import subprocess

import pytest

import hatrain
from tests.image.engine import ROOT

NEEDED = ("bash", "cut", "dirname", "git", "grep", "mktemp", "rm", "sed", "sort", "timeout")


class Machine:
    """A PATH with only the programs that a test adds."""

    def __init__(self, folder):
        self.folder, self.record = folder, folder / "record"
        (folder / "bin").mkdir()
        for program in NEEDED:
            (folder / "bin" / program).symlink_to(shutil.which(program))

    def add(self, program, body=""):
        script = self.folder / "bin" / program
        script.write_text(f'#!/usr/bin/env bash\nprintf "%s\\n" "{program} $*" >> "{self.record}"\n{body}\n')
        script.chmod(0o755)

    def call(self, verb, **variables):
        result = subprocess.run(
            ["bash", str(ROOT / "docker" / "image.sh"), verb],
            env={"PATH": str(self.folder / "bin"), "TMPDIR": str(self.folder), **variables},
            cwd=self.folder,
            capture_output=True,
            text=True,
        )
        calls = self.record.read_text().splitlines() if self.record.exists() else []
        return result, [call.replace(str(self.folder), "TMP").replace(str(ROOT), "ROOT") for call in calls]


@pytest.fixture
def machine(tmp_path):
    (tmp_path / "machine").mkdir()
    return Machine(tmp_path / "machine")


def test_a_running_docker_is_preferred(machine):
    for program in ("docker", "podman", "buildah"):
        machine.add(program)
    result, calls = machine.call("build")
    assert result.returncode == 0, result.stderr
    assert calls[0] == "docker info"
    assert calls[1].startswith("docker build ")


@pytest.mark.parametrize(("installed", "chosen"), [(["podman", "buildah"], "podman"), (["buildah"], "buildah")])
def test_a_docker_client_without_an_engine_is_skipped(machine, installed, chosen):
    machine.add("docker", "[[ $1 != info ]]")
    for program in installed:
        machine.add(program)
    _, calls = machine.call("build")
    assert calls[1].startswith(f"{chosen} build ")


def test_without_an_engine_the_error_says_what_to_install(machine):
    result, _ = machine.call("build")
    assert result.returncode == 2
    assert result.stderr == ("image.sh: found no running docker, no podman and no buildah; install one of them\n")


def test_arguments_of_the_dockerfile_come_from_the_environment(machine):
    machine.add("docker")
    _, calls = machine.call(
        "build",
        LOCK="requirements-gptq.lock",
        SOURCES="",
        TORCH_CUDA_ARCH_LIST="9.0",
        BASE_IMAGE="",
        BUILD_FLAGS="--pull --no-cache",
        IMAGE="registry.example/hatrain:2",
        SOURCE="https://example.org/x",
        REVISION="abc",
        LICENSES="MIT",
    )
    assert calls[1] == (
        "docker build --build-arg LICENSES=MIT --build-arg LOCK=requirements-gptq.lock --build-arg REVISION=abc "
        "--build-arg SOURCE=https://example.org/x --build-arg SOURCES= --build-arg TORCH_CUDA_ARCH_LIST=9.0 "
        f"--build-arg VERSION={hatrain.__version__} --pull --no-cache --file ROOT/docker/Dockerfile "
        "--tag registry.example/hatrain:2 ROOT"
    )


@pytest.mark.parametrize(
    ("origin", "label"),
    [
        ("https://ada:secret@example.org/project.git", "https://example.org/project.git"),
        ("git@example.org:project.git", "git@example.org:project.git"),
        ("/srv/project", None),
    ],
)
def test_the_source_is_the_checkouts_origin_without_a_password(machine, origin, label):
    machine.add("docker")
    (machine.folder / "bin" / "git").unlink()
    machine.add("git", f'[[ $* == *remote.origin.url* ]] && echo "{origin}"')
    _, calls = machine.call("build")
    build = next(call for call in calls if call.startswith("docker build"))
    assert "secret" not in build
    assert (f"SOURCE={label} " in build) == (label is not None)
    assert ("--build-arg SOURCE=" in build) == (label is not None)


def test_the_size_is_printed_by_layer_and_by_package(machine):
    machine.add("docker", '[[ $1 != history ]] || printf "1.2GB\\tRUN pip\\n0B\\tENV x\\n"')
    result, calls = machine.call("size")
    assert "1.2GB\tRUN pip" in result.stdout
    assert "ENV x" not in result.stdout
    assert calls[-1] == ("docker run --rm --interactive --network none --entrypoint python3 hatrain:latest - sizes")


@pytest.mark.parametrize(("engine", "scheme"), [("docker", "dockerd"), ("podman", "podman")])
def test_a_squashfs_is_imported_by_enroot(machine, engine, scheme):
    machine.add(engine)
    machine.add("enroot")
    result, calls = machine.call("sqsh", IMAGE="hatrain:2")
    assert result.returncode == 0, result.stderr
    assert calls[-1] == f"enroot import --output hatrain-2.sqsh {scheme}://hatrain:2"


def test_enroot_cannot_import_from_buildah(machine):
    machine.add("buildah")
    result, calls = machine.call("sqsh")
    assert result.returncode == 2
    assert "docs/image.md" in result.stderr
    assert calls == []


def test_a_sif_is_built_from_dockers_engine(machine):
    machine.add("docker")
    machine.add("apptainer")
    result, calls = machine.call("sif")
    assert result.returncode == 0, result.stderr
    assert calls[-1] == "apptainer build hatrain-latest.sif docker-daemon:hatrain:latest"


@pytest.mark.parametrize("engine", ["podman", "buildah"])
def test_a_sif_is_built_through_a_temporary_archive_elsewhere(machine, engine):
    machine.add(engine, ': > "${3#docker-archive:}"; : > "$(cut -d: -f2 <<< "$3")"')
    machine.add("apptainer", "[[ -f ${3#docker-archive:} ]]")
    result, calls = machine.call("sif")
    assert result.returncode == 0, result.stderr
    push, build = calls
    archive = push.split()[3].removeprefix("docker-archive:").removesuffix(":hatrain:latest")
    assert push == f"{engine} push hatrain:latest docker-archive:{archive}:hatrain:latest"
    assert build == f"apptainer build hatrain-latest.sif docker-archive:{archive}"
    assert list(machine.folder.glob("hatrain.*")) == []


def test_an_unknown_command_is_refused(machine):
    result, _ = machine.call("squash", ENGINE="docker")
    assert result.returncode == 2
    assert "usage: image.sh build | size | sbom | sqsh | sif" in result.stderr
