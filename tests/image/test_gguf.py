"""The Dockerfile with `GGUF=cpu` and the CPU lock file, built for real: llama.cpp is compiled from source, and a job in
the image trains, exports and is judged. It takes a quarter of an hour; `make image-test` runs it."""

import json
import subprocess

import pytest

from hatrain.contract.run import RunDirectory
from tests.image.folder import READ_ONLY, make_base, mounted
from tests.image.locks import pinned
from tests.require import need

pytestmark = pytest.mark.long
IMAGE = "localhost/hatrain:gguf"
EXPORT = "export: {gguf: [f16, q8_0, q4_k_m], ollama: true, requests: 4}\n"


@pytest.fixture(scope="module")
def image(engine):
    # A single layer saves disk; no test here looks at layers.
    engine.build(
        IMAGE, "--layers=false", LOCK="requirements-cpu.lock", SOURCES="", TRITON_COMPILER="", GGUF="cpu", MAX_JOBS="2"
    )
    return engine


@pytest.fixture
def folder(image, tmp_path):
    """A workspace with rows, a base model made by the image, and a job that exports."""
    folder = make_base(image, IMAGE, tmp_path / "work", hidden=256)
    with (folder / "job.yaml").open("a", encoding="utf-8") as job:
        job.write(EXPORT)
    return folder


def shell(image, script, *options):
    result = image.run(IMAGE, "-euc", script, options=["--entrypoint", "bash", *READ_ONLY, *options])
    assert result.code == 0, result.err
    return result.out.strip()


def test_the_packages_are_those_of_the_lock_files(image):
    installed = image.packages(IMAGE)
    del installed["hatrain"]
    locks = ("requirements-cpu.lock", "requirements-gguf.lock", "requirements-llama-cpp.lock")
    assert installed == {name: version for lock in locks for name, version in pinned(lock).items()}


def test_the_bill_of_materials_lists_llama_cpp_and_the_converter(image):
    components = {component["name"]: component for component in json.loads(image.script("sbom", IMAGE))["components"]}
    for lock in ("requirements-gguf.lock", "requirements-llama-cpp.lock"):
        for name, version in pinned(lock).items():
            found = components.get(name) or components[name.replace("-", "_")]
            assert found["version"] == version
            assert found["purl"] == f"pkg:pypi/{name}@{version}"
            assert found["licenses"]


def test_no_compiler_is_left(image):
    # ninja is a package that DeepSpeed depends on.
    assert shell(image, "command -v gcc g++ cc c++ cmake make nvcc pip || true") == ""


def test_the_compiled_library_is_found_and_runs_on_older_cpus(image, tmp_path):
    need("buildah", "objdump")
    code = "from hatrain.llamacpp.library import load; print(load().path)"
    result = image.run(IMAGE, "-c", code, options=["--entrypoint", "python3", *READ_ONLY])
    assert result.code == 0, result.err
    library = result.out.strip()
    assert library.startswith("/opt/hatrain/lib/") and library.endswith("libllama.so")
    # A backend is a file of its own, which is loaded where it can be.
    tmp_path.chmod(0o777)
    shell(image, f"cp {library.replace('libllama', 'libggml-cpu')} /workspace", *mounted(tmp_path))
    disassemble = ["objdump", "--disassemble", str(tmp_path / "libggml-cpu.so")]
    listing = subprocess.run(disassemble, capture_output=True, text=True, check=True).stdout
    assert "ymm" in listing and "zmm" not in listing  # AVX2, and no AVX-512


def test_a_job_in_the_image_exports_what_it_trained(image, folder):
    result = image.run(IMAGE, "train", "job.yaml", options=[*READ_ONLY, *mounted(folder)], timeout=1200)
    assert result.code == 0, result.out[-3000:] + result.err
    run = RunDirectory(folder / "runs" / "kitchen")
    assert run.done.is_file()
    names = {path.name for path in run.export.iterdir()}
    assert names >= {"kitchen.f16.gguf", "kitchen.q8_0.gguf", "kitchen.q4_k_m.gguf", "Modelfile", "README.md"}
    report = json.loads((run.export / "export.json").read_text(encoding="utf-8"))
    assert report["compared_answers"] > 0


def test_an_exported_file_is_exported_again_by_hand_and_answers(image, folder):
    options = [*READ_ONLY, *mounted(folder)]
    result = image.run(IMAGE, "export", "models/base", "--gguf", "q8_0", "--out", "files", options=options)
    assert result.code == 0, result.err
    result = image.run(IMAGE, "ask", "files/base.q8_0.gguf", "turn on the lamp", options=options)
    assert result.code == 0, result.err
