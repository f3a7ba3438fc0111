"""What `make image`, `sbom`, `sqsh` and `sif` call, with programs that only write down how they were called."""

import shutil
import subprocess

import pytest

from tests.image.engine import ROOT

NEEDED = ("bash", "cut", "dirname", "git", "grep", "mktemp", "rm", "sed", "sort", "timeout")


class Desk:
    """A machine with the programs that it is given and no others."""

    def __init__(self, folder):
        self.folder, self.record = folder, folder / "record"
        (folder / "bin").mkdir()
        for program in NEEDED:
            (folder / "bin" / program).symlink_to(shutil.which(program))

    def add(self, program, body=""):
        script = self.folder / "bin" / program
        script.write_text(f'#!/usr/bin/env bash\nprintf "%s\\n" "{program} $*" >> "{self.record}"\n{body}\n')
        script.chmod(0o755)

    def call(self, verb, **around):
        told = subprocess.run(
            ["bash", str(ROOT / "docker" / "image.sh"), verb],
            env={"PATH": str(self.folder / "bin"), "TMPDIR": str(self.folder), **around},
            cwd=self.folder,
            capture_output=True,
            text=True,
        )
        calls = self.record.read_text().splitlines() if self.record.exists() else []
        return told, [call.replace(str(self.folder), "TMP").replace(str(ROOT), "ROOT") for call in calls]


@pytest.fixture
def desk(tmp_path):
    (tmp_path / "desk").mkdir()
    return Desk(tmp_path / "desk")


def test_a_docker_whose_engine_answers_comes_first(desk):
    for program in ("docker", "podman", "buildah"):
        desk.add(program)
    told, calls = desk.call("build")
    assert told.returncode == 0, told.stderr
    assert calls[0] == "docker info"
    assert calls[1].startswith("docker build ")


@pytest.mark.parametrize(("there", "taken"), [(["podman", "buildah"], "podman"), (["buildah"], "buildah")])
def test_a_docker_client_without_an_engine_is_passed_over(desk, there, taken):
    desk.add("docker", "[[ $1 != info ]]")
    for program in there:
        desk.add(program)
    _, calls = desk.call("build")
    assert calls[1].startswith(f"{taken} build ")


def test_where_there_is_none_it_says_what_to_install(desk):
    told, _ = desk.call("build")
    assert told.returncode == 2
    assert told.stderr == (
        "image.sh: found no docker with a running engine, no podman and no buildah; install one of them\n"
    )


def test_arguments_of_the_dockerfile_come_from_the_environment(desk):
    desk.add("docker")
    _, calls = desk.call(
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
        "--build-arg VERSION=0.1.0 --pull --no-cache --file ROOT/docker/Dockerfile "
        "--tag registry.example/hatrain:2 ROOT"
    )


@pytest.mark.parametrize(
    ("origin", "label"),
    [
        ("https://ada:secret@example.org/house.git", "https://example.org/house.git"),
        ("git@example.org:house.git", "git@example.org:house.git"),
        ("/srv/house", None),
    ],
)
def test_the_source_is_the_checkouts_origin_without_a_password(desk, origin, label):
    desk.add("docker")
    (desk.folder / "bin" / "git").unlink()
    desk.add("git", f'[[ $* == *remote.origin.url* ]] && echo "{origin}"')
    _, calls = desk.call("build")
    build = next(call for call in calls if call.startswith("docker build"))
    assert "secret" not in build
    assert (f"SOURCE={label} " in build) == (label is not None)
    assert ("--build-arg SOURCE=" in build) == (label is not None)


def test_the_size_is_told_by_layer_and_by_package(desk):
    desk.add("docker", '[[ $1 != history ]] || printf "1.2GB\\tRUN pip\\n0B\\tENV x\\n"')
    told, calls = desk.call("size")
    assert "1.2GB\tRUN pip" in told.stdout
    assert "ENV x" not in told.stdout
    assert calls[-1] == (
        "docker run --rm --interactive --network none --entrypoint python3 hatrain:latest - sizes"
    )


@pytest.mark.parametrize(("engine", "scheme"), [("docker", "dockerd"), ("podman", "podman")])
def test_a_squashfs_is_imported_by_enroot(desk, engine, scheme):
    desk.add(engine)
    desk.add("enroot")
    told, calls = desk.call("sqsh", IMAGE="hatrain:2")
    assert told.returncode == 0, told.stderr
    assert calls[-1] == f"enroot import --output hatrain-2.sqsh {scheme}://hatrain:2"


def test_enroot_reads_no_image_of_buildah(desk):
    desk.add("buildah")
    told, calls = desk.call("sqsh")
    assert told.returncode == 2
    assert "docs/image.md" in told.stderr
    assert calls == []


def test_a_sif_is_built_from_dockers_engine(desk):
    desk.add("docker")
    desk.add("apptainer")
    told, calls = desk.call("sif")
    assert told.returncode == 0, told.stderr
    assert calls[-1] == "apptainer build hatrain-latest.sif docker-daemon:hatrain:latest"


@pytest.mark.parametrize("engine", ["podman", "buildah"])
def test_a_sif_is_built_from_an_archive_of_the_others_which_does_not_stay(desk, engine):
    desk.add(engine, ': > "${3#docker-archive:}"; : > "$(cut -d: -f2 <<< "$3")"')
    desk.add("apptainer", "[[ -f ${3#docker-archive:} ]]")
    told, calls = desk.call("sif")
    assert told.returncode == 0, told.stderr
    push, build = calls
    archive = push.split()[3].removeprefix("docker-archive:").removesuffix(":hatrain:latest")
    assert push == f"{engine} push hatrain:latest docker-archive:{archive}:hatrain:latest"
    assert build == f"apptainer build hatrain-latest.sif docker-archive:{archive}"
    assert list(desk.folder.glob("hatrain.*")) == []


def test_another_word_is_refused(desk):
    told, _ = desk.call("squash", ENGINE="docker")
    assert told.returncode == 2
    assert "usage: image.sh build | size | sbom | sqsh | sif" in told.stderr
