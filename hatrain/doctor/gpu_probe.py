"""`python -m hatrain.doctor.gpu_probe driver|torch`: prints what NVIDIA's driver, or torch, reports, as JSON.

It runs in its own process, because a driver that hangs or crashes takes its caller down with it.
"""

import contextlib
import ctypes
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

_MAJOR, _MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of the driver API."""


def driver() -> dict[str, Any]:
    """Return {"library", "cuda", "error", "gpus"}: whether libcuda was found, the newest CUDA version that it supports
    (1000 × major + 10 × minor), the name of an error, and each visible GPU."""
    found: dict[str, Any] = {"library": False, "cuda": None, "error": None, "gpus": []}
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return found | {"error": str(error)}
    found["library"] = True
    number = ctypes.c_int()
    if library.cuDriverGetVersion(ctypes.byref(number)) == 0:
        found["cuda"] = number.value
    if code := library.cuInit(0) or library.cuDeviceGetCount(ctypes.byref(number)):
        return found | {"error": _error_name(library, code)}
    found["gpus"] = [_gpu(library, index) for index in range(number.value)]
    return found


def _gpu(library: Any, index: int) -> dict[str, Any]:
    device, value, memory = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(256)
    library.cuDeviceGet(ctypes.byref(device), index)
    library.cuDeviceGetName(name, len(name), device)
    library.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    capability = []
    for attribute in (_MAJOR, _MINOR):
        library.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        capability.append(value.value)
    return {"name": name.value.decode(errors="replace"), "memory": memory.value, "capability": capability}


def _error_name(library: Any, code: int) -> str:
    name = ctypes.c_char_p()
    if library.cuGetErrorName(code, ctypes.byref(name)) == 0 and name.value:
        return name.value.decode()
    return f"error {code}"


def torch_report() -> dict[str, Any]:
    """Return what torch was built for, and the result of a bf16 product and an NCCL sum on the visible GPUs.

    `{"version": None}` if torch is not installed. `bf16_error` and `nccl_error` hold the reason of a failure.
    """
    try:
        import torch
    except ImportError:
        return {"version": None}
    found: dict[str, Any] = {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "architectures": torch.cuda.get_arch_list(),
        "gpus": torch.cuda.device_count(),
    }
    if not torch.distributed.is_available() or not torch.distributed.is_nccl_available():
        found["nccl"] = None
    else:
        found["nccl"] = ".".join(map(str, torch.cuda.nccl.version()))
    if not found["gpus"]:
        return found
    with _error_recorded(found, "bf16_error"):
        for index in range(found["gpus"]):
            ones = torch.ones(64, 64, dtype=torch.bfloat16, device=f"cuda:{index}")
            if (ones @ ones).float().mean().item() != 64.0:
                raise ArithmeticError(f"GPU {index} computes a wrong product")
    if found["nccl"] and found["gpus"] > 1:
        with _error_recorded(found, "nccl_error"):
            parts = [torch.ones(1024, device=f"cuda:{index}") for index in range(found["gpus"])]
            torch.cuda.nccl.all_reduce(parts)
            if any(part.min().item() != found["gpus"] for part in parts):
                raise ArithmeticError("the sum over the GPUs is wrong")
    return found


@contextlib.contextmanager
def _error_recorded(found: dict[str, Any], key: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        found[key] = f"{type(error).__name__}: {first}"


def main(arguments: list[str]) -> int:
    # Libraries may print to stdout: send that to stderr, so that only the JSON is left there.
    stdout = os.dup(1)
    os.dup2(2, 1)
    facts = torch_report() if arguments == ["torch"] else driver()
    with os.fdopen(stdout, "w") as out:
        json.dump(facts, out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
