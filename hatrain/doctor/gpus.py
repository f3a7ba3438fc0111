"""The GPUs of this machine, as the driver and torch see them, and whether they go together. Never imports torch: a
process of its own asks it."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatrain.contract.run import Exit
from hatrain.doctor.finding import GIB, Finding, State

PROBE_SECONDS = 60.0
"""How long the driver is waited for; the first call on a node with eight GPUs takes several seconds."""
TORCH_SECONDS = 300.0
KERNEL_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Facts:
    """What the driver says."""

    library: bool
    """Whether libcuda is here."""
    cuda: int | None
    """Newest CUDA that the driver speaks: 1000 × major + 10 × minor."""
    error: str | None
    gpus: tuple[Mapping[str, Any], ...]
    """name, memory in bytes, capability [major, minor] of each visible GPU."""
    kernel: str | None
    """Version of the kernel's NVIDIA driver, which a container sees even when it was given no GPU."""


def probe() -> Facts:
    """Ask the driver, in a process that may hang or crash without harm."""
    said = _ask("driver", PROBE_SECONDS)
    if isinstance(said, str):
        return Facts(library=True, cuda=None, error=said, gpus=(), kernel=_kernel_driver())
    return Facts(
        library=said["library"],
        cuda=said["cuda"],
        error=said["error"],
        gpus=tuple(said["gpus"]),
        kernel=_kernel_driver(),
    )


def ask_torch() -> Mapping[str, Any] | str:
    """Ask torch in the same way. Returns its facts, or how it failed to tell them."""
    return _ask("torch", TORCH_SECONDS)


def _ask(whom: str, limit: float) -> Mapping[str, Any] | str:
    command = [sys.executable, "-m", "hatrain.doctor.gpu_probe", whom]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=limit)
        return dict(json.loads(told.stdout))
    except subprocess.TimeoutExpired:
        return f"no answer in {limit:g} s"
    except ValueError:
        return f"ended {_how(told.returncode)}: {told.stderr.strip().rpartition(chr(10))[2]}".rstrip(": ")


def findings(facts: Facts, built_for: str | None, needed: int, *, local: bool) -> Iterator[Finding]:
    """Judge the GPUs of this machine for `needed` ranks on it; 0 when no run asks for any.

    `built_for` is the CUDA that torch was built for. What is broken on a machine of a cluster may be whole on
    another (75); on a workstation there is no other, and nothing is broken that time alone would mend (78).
    """
    broken = Exit.FATAL if local else Exit.REQUEUE
    count = len(facts.gpus)
    if not count:
        yield _no_gpu(facts, needed, broken)
        return
    names = ", ".join(
        f"{gpu['name']} ({gpu['memory'] / GIB:.0f} GiB, {'.'.join(map(str, gpu['capability']))})"
        for gpu in facts.gpus
    )
    if count >= needed:
        yield Finding("GPUs", "ok", f"{count}: {names}")
    else:
        visible = visible_devices(os.environ)
        hidden = visible is not None and visible < needed
        remedy = (
            f"CUDA_VISIBLE_DEVICES shows {visible}" if hidden else "one has dropped out, or never was here"
        )
        yield Finding(
            "GPUs",
            "bad",
            f"{count} for {needed} ranks: {names}",
            f"{remedy}; ask for as many as hardware.gpus_per_node says" if hidden or local else remedy,
            Exit.FATAL if hidden else broken,
        )
    speaks = f"{facts.cuda // 1000}.{facts.cuda % 1000 // 10}" if facts.cuda else "an unknown"
    driver = f"driver {facts.kernel or 'of unknown version'} speaks CUDA {speaks}"
    if built_for is None:
        yield Finding(
            "CUDA",
            "bad" if needed else "note",
            f"{driver}; torch is missing, or built without CUDA",
            "install the CUDA build of torch",
            Exit.FATAL,
        )
    elif facts.cuda and facts.cuda // 1000 < int(built_for.split(".")[0]):
        # Within a major version CUDA promises that newer libraries run on older drivers; across them it does not.
        yield Finding(
            "CUDA",
            "bad",
            f"{driver}, and torch was built for {built_for}",
            f"install a driver that speaks CUDA {built_for.split('.')[0]}, or a torch built for {speaks}",
            broken,
        )
    else:
        yield Finding("CUDA", "ok", f"{driver}, torch was built for {built_for}")


def _no_gpu(facts: Facts, needed: int, broken: Exit) -> Finding:
    if facts.library and facts.error and facts.error != "CUDA_ERROR_NO_DEVICE":
        return Finding(
            "GPUs", "bad", f"the driver says {facts.error}", "look at nvidia-smi and dmesg", broken
        )
    state: State = "bad" if needed else "note"
    if not facts.library and facts.kernel:
        return Finding(
            "GPUs",
            state,
            f"the kernel has NVIDIA's driver {facts.kernel}, and none of its libraries is here",
            "start the container with its GPUs: docker run --gpus all, podman --device nvidia.com/gpu=all, "
            "apptainer --nv",
            Exit.FATAL,
        )
    if facts.library and visible_devices(os.environ) == 0:
        return Finding("GPUs", state, "CUDA_VISIBLE_DEVICES hides them all", "unset it", Exit.FATAL)
    what = "none that the driver knows" if facts.library else "no NVIDIA driver"
    remedy = f"the job wants {needed}; ask for them, or say hardware.gpu: cpu" if needed else ""
    return Finding("GPUs", state, f"{what}: this machine computes on its processors", remedy, broken)


def torch_findings(facts: Facts, said: Mapping[str, Any] | str, *, local: bool) -> Iterator[Finding]:
    """Judge torch, bf16 and NCCL, as torch told of them, or failed to."""
    broken = Exit.FATAL if local else Exit.REQUEUE
    if isinstance(said, str):
        yield Finding("torch", "bad", said, "python -c 'import torch' says more", broken)
        return
    if said["version"] is None:
        yield Finding("torch", "note", "not installed: this environment plans and renders, and cannot train")
        return
    yield Finding(
        "torch", "ok", f"{said['version']}, {'CUDA ' + said['cuda'] if said['cuda'] else 'no CUDA'}"
    )
    if not facts.gpus:
        return
    strangers = [gpu["name"] for gpu in facts.gpus if not _runs_on(gpu["capability"], said["architectures"])]
    if strangers:
        yield Finding(
            "architectures",
            "bad",
            f"torch has no code for {', '.join(sorted(set(strangers)))}; it has {' '.join(said['architectures'])}",
            "take a torch built for it",
            Exit.FATAL,
        )
    if error := said.get("bf16_error"):
        yield Finding("bf16", "bad", error, "look at nvidia-smi and dmesg", broken)
    elif slow := [gpu["name"] for gpu in facts.gpus if gpu["capability"] < [8, 0]]:
        yield Finding(
            "bf16",
            "note",
            f"{', '.join(sorted(set(slow)))}: imitated, and slow",
            "model.dtype: fp16 is faster",
        )
    else:
        yield Finding("bf16", "ok", "computed on every GPU")
    if error := said.get("nccl_error"):
        yield Finding("NCCL", "bad", error, "NCCL_DEBUG=INFO says more", broken)
    elif not said["nccl"]:
        yield Finding("NCCL", "note", "torch was built without it: one GPU only", code=Exit.FATAL)
    else:
        summed = ", a sum over all GPUs is right" if len(facts.gpus) > 1 else ""
        yield Finding("NCCL", "ok", f"{said['nccl']}{summed}")


def torch_cuda() -> str | None:
    """Return the CUDA that torch was built for, read from its version file; None without torch or without CUDA."""
    found = importlib.util.find_spec("torch")
    if found is None or not found.origin:
        return None
    try:
        text = Path(found.origin).with_name("version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    told = re.search(r"^cuda\b[^=]*= '([\d.]+)'", text, re.MULTILINE)
    return told[1] if told else None


def visible_devices(around: Mapping[str, str]) -> int | None:
    """Return how many GPUs $CUDA_VISIBLE_DEVICES shows at most; None when it is not set. -1 ends the list."""
    told = around.get("CUDA_VISIBLE_DEVICES")
    if told is None:
        return None
    names = [name.strip() for name in told.split(",")]
    return next((at for at, name in enumerate(names) if name in ("", "-1")), len(names))


def _runs_on(capability: list[int], architectures: list[str]) -> bool:
    """Return whether code for one of the architectures runs on a GPU: its own major version, or PTX below it."""
    major, minor = capability
    for name in architectures:
        if told := re.fullmatch(r"(sm|compute)_(\d+)(\d)[af]?", name):
            kind, built = told[1], (int(told[2]), int(told[3]))
            if kind == "compute" and built <= (major, minor):
                return True
            if built[0] == major and built[1] <= minor:
                return True
    return False


def _kernel_driver() -> str | None:
    try:
        told = re.search(r"Kernel Module.*?\s(\d+\.[\d.]+)\s", KERNEL_DRIVER.read_text(encoding="utf-8"))
    except OSError:
        return None
    return told[1] if told else None


def _how(code: int) -> str:
    return f"with {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
