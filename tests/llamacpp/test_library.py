"""Finding libllama. Nothing here needs it to be installed; tests/export runs the real one."""

import sys
from pathlib import Path

import pytest

from hatrain.errors import BadInput
from hatrain.llamacpp import library


@pytest.fixture
def prefix(tmp_path, monkeypatch):
    monkeypatch.delenv(library.VARIABLE, raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(library, "find_spec", lambda name: None)
    library.load.cache_clear()
    yield tmp_path
    library.load.cache_clear()


def touch(*names: Path) -> None:
    for name in names:
        name.parent.mkdir(parents=True, exist_ok=True)
        name.touch()


def test_without_a_library_one_line_says_how_to_get_one(prefix):
    with pytest.raises(BadInput) as caught:
        library.find()
    assert caught.value.problems == (
        "libllama of llama.cpp is not installed; make gguf installs it; "
        "$HATRAIN_LLAMA_CPP names a libllama of your own (docs/export.md)",
    )


def test_the_library_of_make_gguf_is_found_beside_the_interpreter(prefix):
    folder = prefix / "llama.cpp"
    touch(folder / "libllama-common.so", folder / "libggml.so", folder / "libllama.v0.5.0.so")
    assert library.find() == folder / "libllama.v0.5.0.so"


def test_the_library_of_llama_cpp_python_is_found(prefix, monkeypatch):
    package = type("Spec", (), {"submodule_search_locations": [str(prefix / "llama_cpp")]})
    monkeypatch.setattr(library, "find_spec", lambda name: package if name == "llama_cpp" else None)
    touch(prefix / "llama_cpp" / "lib" / "libllama.so")
    assert library.find() == prefix / "llama_cpp" / "lib" / "libllama.so"


def test_a_named_library_comes_first(prefix, monkeypatch):
    touch(prefix / "llama.cpp" / "libllama.so", prefix / "own" / "libllama.so")
    monkeypatch.setenv(library.VARIABLE, str(prefix / "own"))
    assert library.find() == prefix / "own" / "libllama.so"
    monkeypatch.setenv(library.VARIABLE, str(prefix / "own" / "libllama.so"))
    assert library.find() == prefix / "own" / "libllama.so"


def test_a_named_place_without_a_library_is_refused_though_another_is_installed(prefix, monkeypatch):
    touch(prefix / "llama.cpp" / "libllama.so")
    monkeypatch.setenv(library.VARIABLE, str(prefix / "nowhere"))
    with pytest.raises(BadInput, match=r"\$HATRAIN_LLAMA_CPP: .*nowhere: no libllama there; accepted: "):
        library.find()


def test_a_file_that_is_no_library_is_one_line(prefix):
    touch(prefix / "llama.cpp" / "libllama.so")
    with pytest.raises(BadInput, match=r"libllama.so: cannot be used as libllama: .*; make gguf installs it"):
        library.load()


def test_another_library_is_one_line(prefix, monkeypatch):
    import ctypes.util

    libc = ctypes.util.find_library("c")
    monkeypatch.setattr(library, "find", lambda: Path(libc))
    with pytest.raises(BadInput, match=r"cannot be used as libllama: .*undefined symbol"):
        library.load()
