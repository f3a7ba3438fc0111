"""The lock files of the image: tested versions, a hash for every package, no local paths. No image is built."""

import importlib.metadata
import re
import runpy

import pytest

from tests.image.locks import DOCKER, ROOT, normalized, pinned, public, versions

WHEELS = ("requirements.lock", "requirements-cpu.lock", "requirements-launch.lock", "requirements-gptq.lock")
CUDA = re.compile(r"nvidia-|cuda-|triton$")
"""Packages that torch needs only on GPUs."""
ALL = sorted(path.name for path in DOCKER.glob("*.lock"))


@pytest.mark.parametrize("name", ALL)
def test_every_package_has_hashes_and_no_url(name):
    text = (DOCKER / name).read_text(encoding="utf-8")
    blocks = re.split(r"\n(?=\S)", text.rstrip())
    assert blocks[0].startswith("#")
    for block in blocks[1:]:
        assert re.fullmatch(r"[\w.-]+==[\w.+]+( \\\n +--hash=sha256:[0-9a-f]{64})+", block), block[:200]
    assert "://" not in text


@pytest.mark.parametrize(
    ("image", "tested"),
    [
        ("requirements.lock", "requirements.lock"),
        ("requirements-cpu.lock", "requirements.lock"),
        ("requirements-launch.lock", "requirements.lock"),
        ("requirements-deepspeed.lock", "requirements-deepspeed.lock"),
        ("requirements-gptq.lock", "requirements-gptq.lock"),
        ("requirements-gptqmodel.lock", "requirements-gptq.lock"),
        ("requirements-gguf.lock", "requirements-gguf.lock"),
    ],
)
def test_the_image_holds_the_versions_of_the_tested_environment(image, tested):
    in_image, in_tests = pinned(image), versions(ROOT / tested)
    assert {
        name for name in in_image if name not in in_tests and not CUDA.match(name) and name != "setuptools"
    } == set()
    both = set(in_image) & set(in_tests)
    assert {name: (in_image[name], in_tests[name]) for name in both if public(in_image[name]) != in_tests[name]} == {}


def test_the_cuda_and_cpu_images_hold_the_same_versions():
    cuda, cpu = pinned("requirements.lock"), pinned("requirements-cpu.lock")
    assert {name for name in cpu if name not in cuda} == set()
    assert {name: (cuda[name], public(cpu[name])) for name in cpu if cuda[name] != public(cpu[name])} == {}
    assert {name for name in cuda if name not in cpu} == {name for name in cuda if CUDA.match(name)}


def test_the_suite_runs_on_the_versions_of_the_image():
    """So that a green test suite holds for the image."""
    installed = {normalized(package.name): package.version for package in importlib.metadata.distributions()}
    wrong = {
        name: (version, installed[name])
        for name, version in (pinned("requirements-cpu.lock") | pinned("requirements-deepspeed.lock")).items()
        if name in installed and name != "setuptools" and public(installed[name]) != public(version)
    }
    assert wrong == {}
    assert len(set(installed) & set(pinned("requirements-cpu.lock"))) > 40


def test_torch_in_the_cuda_image_depends_on_cuda_wheels():
    cuda = pinned("requirements.lock")
    assert "+" not in cuda["torch"]
    assert {"triton", "nvidia-nccl-cu13", "nvidia-cublas"} <= set(cuda)


@pytest.mark.parametrize("name", WHEELS)
def test_packages_built_from_source_have_their_own_lock_files(name):
    assert not {"deepspeed", "flash-attn", "gptqmodel"} & set(pinned(name))


def test_the_base_images_have_the_cuda_version_of_torch():
    """DeepSpeed refuses to compile with another major version than torch's."""
    text = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    tags = re.findall(
        r"^ARG (?:BUILD|BASE)_IMAGE=docker\.io/nvidia/cuda:(\d+)\.\d+\.\d+-\w+-ubuntu24\.04",
        text,
        re.MULTILINE,
    )
    assert len(tags) == 2
    runtime = pinned("requirements.lock")["nvidia-cuda-runtime"].split(".")[0]
    assert set(tags) == {runtime}


def test_base_images_are_pinned_to_the_registrys_digest_or_left_unchanged():
    lock = runpy.run_path(str(DOCKER / "lock.py"))
    text = "ARG BUILD_IMAGE=docker.io/a/b:1\nARG BASE_IMAGE=docker.io/a/c:2@sha256:" + "1" * 64 + "\nARG LOCK=x:y\n"
    pinned = lock["with_digests"](text, lambda image: f"sha256:{image[-1] * 64}")
    assert pinned.splitlines() == [
        "ARG BUILD_IMAGE=docker.io/a/b:1@sha256:" + "1" * 64,
        "ARG BASE_IMAGE=docker.io/a/c:2@sha256:" + "2" * 64,
        "ARG LOCK=x:y",
    ]
    assert lock["with_digests"](text, lambda image: None) == text
