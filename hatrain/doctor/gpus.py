"""Checks this machine's GPUs, NVIDIA's driver and torch against each other. Imports no torch: a subprocess asks it."""

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

from hatrain.contract.gpus import GIB
from hatrain.contract.run import Exit
from hatrain.doctor.finding import Finding, State

PROBE_SECONDS = 60.0
"""Time limit for the driver. Its first call on a node with eight GPUs takes several seconds."""
TORCH_SECONDS = 300.0
KERNEL_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Facts:
    """What the driver reports."""

    library: bool
    """Whether libcuda was found."""
    cuda: int | None
    """The newest CUDA version that the driver supports: 1000 × major + 10 × minor."""
    error: str | None
    gpus: tuple[Mapping[str, Any], ...]
    """name, memory in bytes and capability [major, minor] of each visible GPU."""
    kernel: str | None
    """Version of the kernel's NVIDIA driver, which a container sees even without a GPU."""


def ask_driver() -> Facts:
    report = _ask("driver", PROBE_SECONDS)
    if isinstance(report, str):
        return Facts(library=True, cuda=None, error=report, gpus=(), kernel=_kernel_driver())
    return Facts(
        library=report["library"],
        cuda=report["cuda"],
        error=report["error"],
        gpus=tuple(report["gpus"]),
        kernel=_kernel_driver(),
    )


def ask_torch() -> Mapping[str, Any] | str:
    """Return torch's report (see gpu_probe.py), or why there is none."""
    return _ask("torch", TORCH_SECONDS)


def _ask(what: str, limit: float) -> Mapping[str, Any] | str:
    command = [sys.executable, "-m", "hatrain.doctor.gpu_probe", what]
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=limit)
        return dict(json.loads(process.stdout))
    except subprocess.TimeoutExpired:
        return f"no answer in {limit:g} s"
    except ValueError:
        last_line = process.stderr.strip().rpartition("\n")[2]
        return f"ended {_reason(process.returncode)}: {last_line}".rstrip(": ")


def driver_findings(facts: Facts, built_for: str | None, needed: int, *, only_machine: bool) -> Iterator[Finding]:
    """Check the driver and its GPUs for `needed` ranks; 0 if no run needs any.

    `built_for` is the CUDA version that torch was built for. A broken node of a cluster is a reason to retry on
    another (75); where this is the only machine, a retry would fail again (78).
    """
    broken = Exit.FATAL if only_machine else Exit.REQUEUE
    count = len(facts.gpus)
    if not count:
        yield _no_gpu(facts, needed, broken)
        return
    names = ", ".join(
        f"{gpu['name']} ({gpu['memory'] / GIB:.0f} GiB, {'.'.join(map(str, gpu['capability']))})" for gpu in facts.gpus
    )
    if count >= needed:
        yield Finding("GPUs", "ok", f"{count}: {names}")
    else:
        visible = visible_devices(os.environ)
        hidden = visible is not None and visible < needed
        reason = f"CUDA_VISIBLE_DEVICES shows {visible}" if hidden else "a GPU is missing or has failed"
        yield Finding(
            "GPUs",
            "bad",
            f"{count} for {needed} ranks: {names}",
            f"{reason}; set hardware.gpus_per_node to {count}, or make more visible"
            if hidden or only_machine
            else reason,
            Exit.FATAL if hidden else broken,
        )
    supported = f"{facts.cuda // 1000}.{facts.cuda % 1000 // 10}" if facts.cuda else "of an unknown version"
    driver = f"driver {facts.kernel or 'of unknown version'} supports CUDA {supported}"
    if built_for is None:
        yield Finding(
            "CUDA",
            "bad" if needed else "note",
            f"{driver}; torch is missing, or built without CUDA",
            "install the CUDA build of torch",
            Exit.FATAL,
        )
    elif facts.cuda and facts.cuda // 1000 < int(built_for.split(".")[0]):
        # CUDA guarantees that newer libraries run on older drivers only within a major version.
        yield Finding(
            "CUDA",
            "bad",
            f"{driver}, and torch was built for {built_for}",
            f"install a driver that supports CUDA {built_for.split('.')[0]}, or a torch built for {supported}",
            broken,
        )
    else:
        yield Finding("CUDA", "ok", f"{driver}, torch was built for {built_for}")


def _no_gpu(facts: Facts, needed: int, broken: Exit) -> Finding:
    if facts.library and facts.error and facts.error != "CUDA_ERROR_NO_DEVICE":
        return Finding("GPUs", "bad", f"the driver fails: {facts.error}", "see nvidia-smi and dmesg", broken)
    state: State = "bad" if needed else "note"
    if not facts.library and facts.kernel:
        return Finding(
            "GPUs",
            state,
            f"the kernel has NVIDIA's driver {facts.kernel}, but its libraries are not installed here",
            "start the container with its GPUs: docker run --gpus all, podman --device nvidia.com/gpu=all, "
            "apptainer --nv",
            Exit.FATAL,
        )
    if facts.library and visible_devices(os.environ) == 0:
        return Finding("GPUs", state, "CUDA_VISIBLE_DEVICES hides all GPUs", "unset it", Exit.FATAL)
    what = "the driver finds none" if facts.library else "no NVIDIA driver"
    remedy = f"the job needs {needed}: request them, or set hardware.gpu: cpu" if needed else ""
    return Finding("GPUs", state, f"{what}: this machine trains on the CPU", remedy, broken)


def torch_findings(facts: Facts, report: Mapping[str, Any] | str, *, only_machine: bool) -> Iterator[Finding]:
    """Check torch, bf16 and NCCL by torch's report, or the reason why there is none."""
    broken = Exit.FATAL if only_machine else Exit.REQUEUE
    if isinstance(report, str):
        yield Finding("torch", "bad", report, "run python -c 'import torch' for details", broken)
        return
    if report["version"] is None:
        yield Finding("torch", "note", "not installed: this environment can plan and render, but not train")
        return
    cuda = f"CUDA {report['cuda']}" if report["cuda"] else "no CUDA"
    yield Finding("torch", "ok", f"{report['version']}, {cuda}")
    if not facts.gpus:
        return
    architectures = report["architectures"]
    unsupported = {gpu["name"] for gpu in facts.gpus if not _runs_on(gpu["capability"], architectures)}
    if unsupported:
        yield Finding(
            "architectures",
            "bad",
            f"torch has no code for {', '.join(sorted(unsupported))}; it has {' '.join(architectures)}",
            "install a torch that is built for this GPU",
            Exit.FATAL,
        )
    if error := report.get("bf16_error"):
        yield Finding("bf16", "bad", error, "see nvidia-smi and dmesg", broken)
    elif emulated := {gpu["name"] for gpu in facts.gpus if gpu["capability"] < [8, 0]}:
        found = f"{', '.join(sorted(emulated))}: emulated, which is slow"
        yield Finding("bf16", "note", found, "set model.dtype: fp16")
    else:
        yield Finding("bf16", "ok", "computed on every GPU")
    if error := report.get("nccl_error"):
        yield Finding("NCCL", "bad", error, "set NCCL_DEBUG=INFO for details", broken)
    elif not report["nccl"]:
        yield Finding("NCCL", "note", "torch was built without it: one GPU only", code=Exit.FATAL)
    else:
        summed = ", a sum over all GPUs is correct" if len(facts.gpus) > 1 else ""
        yield Finding("NCCL", "ok", f"{report['nccl']}{summed}")


def torch_cuda() -> str | None:
    """Read the CUDA version that torch was built for from its version file; None without torch or without CUDA."""
    found = importlib.util.find_spec("torch")
    if found is None or not found.origin:
        return None
    try:
        text = Path(found.origin).with_name("version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    cuda = re.search(r"^cuda\b[^=]*= '([\d.]+)'", text, re.MULTILINE)
    return cuda[1] if cuda else None


def visible_devices(environment: Mapping[str, str]) -> int | None:
    """Count the GPUs in $CUDA_VISIBLE_DEVICES; None if it is not set. An empty name or -1 ends the list."""
    value = environment.get("CUDA_VISIBLE_DEVICES")
    if value is None:
        return None
    names = [name.strip() for name in value.split(",")]
    return next((index for index, name in enumerate(names) if name in ("", "-1")), len(names))


def _runs_on(capability: list[int], architectures: list[str]) -> bool:
    """Whether a GPU runs code for one of the architectures: its own major version, or PTX of an older one."""
    major, minor = capability
    for name in architectures:
        if match := re.fullmatch(r"(sm|compute)_(\d+)(\d)[af]?", name):
            kind, built = match[1], (int(match[2]), int(match[3]))
            if kind == "compute" and built <= (major, minor):
                return True
            if built[0] == major and built[1] <= minor:
                return True
    return False


def _kernel_driver() -> str | None:
    try:
        version = re.search(r"Kernel Module.*?\s(\d+\.[\d.]+)\s", KERNEL_DRIVER.read_text(encoding="utf-8"))
    except OSError:
        return None
    return version[1] if version else None


def _reason(code: int) -> str:
    return f"with {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
