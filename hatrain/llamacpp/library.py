"""Finds libllama and declares the part of its C interface that is used here (llama.h of llama.cpp).

Parameter structures grow between versions. They are declared larger than any version's, with the fields at their start
that have kept their place: the library fills a structure in, and reads only its own part of it.
"""

import ctypes
import os
import sys
from ctypes import POINTER, c_bool, c_char_p, c_float, c_int8, c_int32, c_size_t, c_uint32, c_void_p
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hatrain.errors import BadInput

VARIABLE = "HATRAIN_LLAMA_CPP"
"""Names libllama, or the folder that holds it."""
HOW = f"make gguf installs it; ${VARIABLE} names a libllama of your own (docs/export.md)"
_NAMES = ("libllama*.so", "libllama*.dylib", "llama*.dll")


class ModelParams(ctypes.Structure):
    _fields_ = [("_all", ctypes.c_uint64 * 64)]


class ContextParams(ctypes.Structure):
    _fields_ = [
        ("n_ctx", c_uint32),
        ("n_batch", c_uint32),
        ("n_ubatch", c_uint32),
        ("n_seq_max", c_uint32),
        ("_rest", ctypes.c_uint64 * 64),
    ]


class QuantizeParams(ctypes.Structure):
    _fields_ = [("nthread", c_int32), ("ftype", c_int32), ("_rest", ctypes.c_uint64 * 64)]


class Batch(ctypes.Structure):
    _fields_ = [
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", POINTER(c_float)),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(c_int8)),
    ]


_ERROR = 4
"""GGML_LOG_LEVEL_ERROR"""
_LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, c_char_p, c_void_p)
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "llama_backend_init": (None, []),
    "ggml_backend_load_all_from_path": (None, [c_char_p]),
    "llama_log_set": (None, [_LOG, c_void_p]),
    "llama_model_default_params": (ModelParams, []),
    "llama_context_default_params": (ContextParams, []),
    "llama_model_quantize_default_params": (QuantizeParams, []),
    "llama_model_quantize": (c_uint32, [c_char_p, c_char_p, POINTER(QuantizeParams)]),
    "llama_model_load_from_file": (c_void_p, [c_char_p, ModelParams]),
    "llama_model_free": (None, [c_void_p]),
    "llama_model_get_vocab": (c_void_p, [c_void_p]),
    "llama_model_n_swa": (c_int32, [c_void_p]),
    "llama_model_n_ctx_train": (c_int32, [c_void_p]),
    "llama_model_meta_val_str": (c_int32, [c_void_p, c_char_p, c_char_p, c_size_t]),
    "llama_init_from_model": (c_void_p, [c_void_p, ContextParams]),
    "llama_free": (None, [c_void_p]),
    "llama_set_n_threads": (None, [c_void_p, c_int32, c_int32]),
    "llama_get_memory": (c_void_p, [c_void_p]),
    "llama_memory_clear": (None, [c_void_p, c_bool]),
    "llama_memory_seq_rm": (c_bool, [c_void_p, c_int32, c_int32, c_int32]),
    "llama_batch_init": (Batch, [c_int32, c_int32, c_int32]),
    "llama_batch_free": (None, [Batch]),
    "llama_decode": (c_int32, [c_void_p, Batch]),
    "llama_get_logits_ith": (POINTER(c_float), [c_void_p, c_int32]),
    "llama_vocab_n_tokens": (c_int32, [c_void_p]),
    "llama_vocab_get_text": (c_char_p, [c_void_p, c_int32]),
    "llama_vocab_get_attr": (ctypes.c_int, [c_void_p, c_int32]),
    "llama_vocab_is_eog": (c_bool, [c_void_p, c_int32]),
    "llama_vocab_bos": (c_int32, [c_void_p]),
    "llama_vocab_eos": (c_int32, [c_void_p]),
    "llama_vocab_pad": (c_int32, [c_void_p]),
    "llama_vocab_get_add_bos": (c_bool, [c_void_p]),
    "llama_tokenize": (
        c_int32,
        [c_void_p, c_char_p, c_int32, POINTER(c_int32), c_int32, c_bool, c_bool],
    ),
    "llama_token_to_piece": (c_int32, [c_void_p, c_int32, c_char_p, c_int32, c_int32, c_bool]),
}


@dataclass(frozen=True)
class Library:
    """libllama, loaded and initialised."""

    path: Path
    functions: Any
    """The functions of `_FUNCTIONS`, by name."""
    log: "_Log"

    def failure(self) -> str:
        """Return the error that the library logged, for a message."""
        return self.log.first or "no reason given"


class _Log:
    """Keeps the library's first error since `clear`, which says most, and its log off stderr."""

    def __init__(self) -> None:
        self.first = ""
        self.callback = _LOG(self._receive)
        """The library holds no reference: it lives as long as this object."""

    def _receive(self, level: int, text: bytes | None, _: Any) -> None:
        if level == _ERROR and text:
            self.first = self.first or " ".join(text.decode("utf-8", "replace").split())

    def clear(self) -> None:
        self.first = ""


@lru_cache(maxsize=1)
def load() -> Library:
    """Load libllama and its backends. Raises BadInput when there is none, or one that cannot be used."""
    path = find()
    try:
        functions = ctypes.CDLL(str(path))
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(functions, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise BadInput(f"{path}: cannot be used as libllama: {error}; {HOW}") from None
    log = _Log()
    functions.llama_log_set(log.callback, None)
    # Some builds keep a backend for each processor family in a file beside the library.
    functions.ggml_backend_load_all_from_path(str(path.parent).encode())
    functions.llama_backend_init()
    context, quantize = functions.llama_context_default_params(), functions.llama_model_quantize_default_params()
    if (context.n_ctx, context.n_batch, context.n_ubatch, quantize.nthread) != (512, 2048, 512, 0):
        raise BadInput(f"{path}: its interface is not the one that hatrain knows; {HOW}")
    return Library(path, functions, log)


def find() -> Path:
    """Return the path of libllama: of `$HATRAIN_LLAMA_CPP`, else of `make gguf`, else of llama-cpp-python.

    Raises BadInput when there is none.
    """
    if named := os.environ.get(VARIABLE):
        if path := _in_place(Path(named)):
            return path
        raise BadInput(f"${VARIABLE}: {named}: no libllama there; accepted: the library, or the folder that holds it")
    package = find_spec("llama_cpp")
    places = list(package.submodule_search_locations or ()) if package else []
    for folder in [Path(sys.prefix) / "llama.cpp", *(Path(place) / "lib" for place in places)]:
        if path := _in_place(folder):
            return path
    raise BadInput(f"libllama of llama.cpp is not installed; {HOW}")


def _in_place(place: Path) -> Path | None:
    """Return the library at a place. A folder may also hold libllama-common, which is another library."""
    if place.is_file():
        return place
    found = [path for name in _NAMES for path in sorted(place.glob(name)) if "common" not in path.name]
    return found[0] if found else None
