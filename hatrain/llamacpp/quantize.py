"""The types of GGUF files that can be written, and llama.cpp's quantiser."""

import ctypes
from pathlib import Path

from hatrain.contract.spec import GGUF_TYPES
from hatrain.errors import BadInput
from hatrain.llamacpp.library import load

_FILE_TYPES = {"q8_0": 7, "q4_0": 2, "q4_k_s": 14, "q4_k_m": 15, "q5_k_m": 17, "q6_k": 18, "q3_k_m": 12}
"""llama_ftype of each type that the quantiser writes."""
assert {"f16", *_FILE_TYPES} == set(GGUF_TYPES)


def quantize(source: Path, target: Path, kind: str, *, threads: int) -> None:
    """Quantise an f16 file to a type of `GGUF_TYPES`. Raises BadInput with the quantiser's reason."""
    library = load()
    parameters = library.functions.llama_model_quantize_default_params()
    parameters.nthread, parameters.ftype = threads, _FILE_TYPES[kind]
    library.log.clear()
    if library.functions.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(parameters)):
        raise BadInput(f"{target}: llama.cpp could not quantise {source.name} to {kind}: {library.failure()}")
