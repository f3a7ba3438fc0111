"""Reads the options of `accelerate launch` and `torchrun`, and accelerate's configuration file: how many processes, and
how they share the model."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from hatrain.contract.load import Document, read_file
from hatrain.contract.spec import Offload
from hatrain.errors import BadInput, nearest

Sharding = Literal["none", "ddp", "fsdp", "zero1", "zero2", "zero3", "auto"]
Setting = Callable[..., tuple[str | None, str]]
"""Returns a setting from the launcher's command line, else from its file; and where it was found."""


@dataclass(frozen=True)
class Launch:
    nodes: int = 1
    gpus_per_node: int = 1
    sharding: Sharding = "auto"
    offload: Offload = "none"
    cpu: bool = False
    precision: str | None = None
    """accelerate's mixed_precision, if it was given."""
    notes: list[str] = field(default_factory=list)


# Options with and without a value, from the parsers of accelerate 1.15 and torch 2.13. Those in *_CLUSTER are not part
# of a job: hatrain's launchers set them.
# fmt: off
_ACCELERATE = (
    "config_file", "num_processes", "num_machines", "mixed_precision", "zero_stage",
    "deepspeed_config_file", "gpu_ids", "fsdp_sharding_strategy", "fsdp_offload_params",
    "offload_optimizer_device", "offload_param_device",
)
_ACCELERATE_SWITCHES = ("cpu", "multi_gpu", "use_fsdp", "use_deepspeed")
_ACCELERATE_CLUSTER = (
    "machine_rank", "main_process_ip", "main_process_port", "rdzv_backend", "rdzv_conf", "max_restarts",
    "monitor_interval", "num_cpu_threads_per_process", "log_dir", "role", "tee", "deepspeed_hostfile",
    "deepspeed_multinode_launcher", "fsdp_version", "fsdp_auto_wrap_policy",
    "fsdp_transformer_layer_cls_to_wrap", "fsdp_backward_prefetch", "fsdp_state_dict_type",
    "fsdp_forward_prefetch", "fsdp_use_orig_params", "fsdp_cpu_ram_efficient_loading",
    "fsdp_sync_module_states", "fsdp_reshard_after_forward", "zero3_init_flag", "zero3_save_16bit_model",
)
_ACCELERATE_CLUSTER_SWITCHES = ("same_network", "enable_cpu_affinity", "quiet", "debug")
_TORCHRUN = ("nnodes", "nproc_per_node")
_TORCHRUN_CLUSTER = (
    "node_rank", "master_addr", "master_port", "local_addr", "rdzv_backend", "rdzv_endpoint", "rdzv_id",
    "rdzv_conf", "max_restarts", "monitor_interval", "log_dir", "role", "tee", "redirects",
    "start_method", "shutdown_timeout",
)
# fmt: on

_KINDS = ("NO", "MULTI_GPU", "MULTI_CPU", "FSDP", "DEEPSPEED")
"""accelerate's distributed types that a job can express."""


def _options(
    launcher: str,
    tokens: Sequence[str],
    valued: Collection[str],
    switches: Collection[str],
) -> tuple[dict[str, str], list[str]]:
    """Split a launcher's options from the script that follows. Raises BadInput for an unknown one."""
    options: dict[str, str] = {}
    rest = list(tokens)
    while rest and rest[0].startswith("-"):
        written, equals, value = rest.pop(0).partition("=")
        name = written.lstrip("-").replace("-", "_")
        if name in switches:
            options[name] = "true"
        elif name not in valued:
            known = ["--" + option for option in (*valued, *switches)]
            raise BadInput(f"{launcher} {written}: no such option{nearest('--' + name, known)}")
        elif equals:
            options[name] = value
        elif rest:
            options[name] = rest.pop(0)
        else:
            raise BadInput(f"{launcher} {written}: found nothing; accepted: a value")
    return options, rest


def _ignored_note(launcher: str, options: Mapping[str, str], ignored: Collection[str]) -> list[str]:
    names = [f"--{name}" for name in options if name in ignored]
    return [f"{launcher} {', '.join(names)}: ignored; set by the cluster file and the plan"] if names else []


def _number(text: str, where: str, least: int = 1) -> int:
    if not re.fullmatch(r"\d+", text) or int(text) < least:
        raise BadInput(f"{where}: found {text!r}; accepted: a whole number, at least {least}")
    return int(text)


# --- torchrun -----------------------------------------------------------------------------------------------


def torchrun(tokens: Sequence[str], visible: int | None) -> tuple[Launch, list[str]]:
    """Read torchrun's options. Returns the launch, and the script with its arguments.

    `visible` is the number of GPUs in CUDA_VISIBLE_DEVICES, for `--nproc-per-node gpu`.
    """
    options, script = _options("torchrun", tokens, [*_TORCHRUN, *_TORCHRUN_CLUSTER], ["standalone"])
    nodes = options.get("nnodes", "1").partition(":")[0]
    processes = options.get("nproc_per_node", "1")
    if processes in ("gpu", "auto") and visible:
        processes = str(visible)
    launch = Launch(
        nodes=_number(nodes, "torchrun --nnodes"),
        gpus_per_node=_number(processes, "torchrun --nproc-per-node"),
        notes=_ignored_note("torchrun", options, _TORCHRUN_CLUSTER),
    )
    return launch, script


# --- accelerate ---------------------------------------------------------------------------------------------


def accelerate(tokens: Sequence[str], visible: int | None) -> tuple[Launch, list[str]]:
    """Read the options of `accelerate launch`, and its configuration file if it exists.

    Without one, the guide's configuration is assumed, FSDP on 2 GPUs, unless the options say otherwise.
    Raises BadInput for an option or a distributed type that a job cannot express.
    """
    options, script = _options(
        "accelerate",
        tokens,
        [*_ACCELERATE, *_ACCELERATE_CLUSTER],
        [*_ACCELERATE_SWITCHES, *_ACCELERATE_CLUSTER_SWITCHES],
    )
    notes = _ignored_note("accelerate", options, [*_ACCELERATE_CLUSTER, *_ACCELERATE_CLUSTER_SWITCHES])
    config, exists = _config(options)
    kind = _kind(options, config)
    if kind is None:
        kind = "FSDP"
        config.data.setdefault("num_processes", str(visible or 2))
        name = options.get("config_file", "accelerate's configuration file")
        count = options.get("num_processes") or config.data["num_processes"]
        notes.append(f"{name}: {'has no distributed_type' if exists else 'no such file'}; assumed FSDP on {count} GPUs")
    return _launch(kind, options, config, visible, notes), script


def _config(options: Mapping[str, str]) -> tuple[Document, bool]:
    """Return accelerate's configuration, and whether its file exists; without it the configuration is empty."""
    default = Path.home() / ".cache/huggingface/accelerate/default_config.yaml"
    path = Path(options["config_file"]) if "config_file" in options else default
    if not path.is_file():
        return Document(str(path), data={}), False
    config = read_file(path)
    if config.problems:
        raise BadInput(config.problems)
    if not isinstance(config.data, dict):
        raise BadInput(f"{path}: accepted: a mapping of keys, as in a configuration file of accelerate")
    return config, True


def _kind(options: Mapping[str, str], config: Document) -> str | None:
    """Return accelerate's distributed_type; None if neither options nor file determine it."""
    for switch, kind in (("use_deepspeed", "DEEPSPEED"), ("use_fsdp", "FSDP"), ("cpu", "MULTI_CPU")):
        if switch in options:
            return kind
    if "multi_gpu" in options:
        return "MULTI_GPU"
    if kind := config.data.get("distributed_type"):
        return str(kind)
    if options.get("num_processes", "") == "1":
        return "NO"
    return "MULTI_GPU" if "num_processes" in options and "config_file" not in options else None


def _launch(kind: str, options: Mapping[str, str], config: Document, visible: int | None, notes: list[str]) -> Launch:
    def setting(name: str, *section: str) -> tuple[str | None, str]:
        if name in options:
            return options[name], f"accelerate --{name}"
        at: Any = config.data
        for part in section:
            at = at.get(part) if isinstance(at, dict) else None
        value = at.get(name) if isinstance(at, dict) else None
        return (None if value is None else str(value)), config.where((*section, name))

    if kind not in _KINDS:
        where = config.where(("distributed_type",))
        raise BadInput(f"{where}: found {kind!r}; accepted: {' | '.join(_KINDS)}{nearest(kind, _KINDS)}")
    machines, where = setting("num_machines")
    nodes = _number(machines or "1", where)
    processes, where = setting("num_processes")
    if kind == "NO":
        processes = "1"
    elif processes is None and (gpus := options.get("gpu_ids", "all")) != "all":
        processes = str(len(gpus.split(",")))
    elif processes is None and visible:
        processes = str(visible)
    elif processes is None:
        raise BadInput(f"{where}: missing; accepted: the number of processes on all machines together")
    count = _number(processes, where)
    if count % nodes:
        raise BadInput(f"{where}: found {count} processes on {nodes} machines; accepted: a multiple of {nodes}")

    offload: Offload = "none"
    if kind == "FSDP" and (setting("fsdp_offload_params", "fsdp_config")[0] or "false").lower() != "false":
        notes.append("fsdp_offload_params: ignored; only ZeRO can offload to the CPU")
    cpu = (config.data.get("use_cpu") or "false").lower() == "true" or "cpu" in options
    match kind:
        case "MULTI_GPU" | "MULTI_CPU":
            sharding: Sharding = "ddp"
        case "FSDP":
            strategy, where = setting("fsdp_sharding_strategy", "fsdp_config")
            sharding = _fsdp(strategy or "FULL_SHARD", where, notes)
        case "DEEPSPEED":
            sharding, offload = _zero(setting), _offload(setting, notes)
        case _:
            sharding = "auto"
    precision, _ = setting("mixed_precision")
    return Launch(nodes, count // nodes, sharding, offload, cpu or kind == "MULTI_CPU", precision, notes)


def _fsdp(strategy: str, where: str, notes: list[str]) -> Sharding:
    names = {"1": "FULL_SHARD", "2": "SHARD_GRAD_OP", "3": "NO_SHARD", "4": "HYBRID_SHARD"}
    accepted = [*names.values(), "HYBRID_SHARD_ZERO2"]
    name = names.get(strategy, strategy)
    if name not in accepted:
        raise BadInput(f"{where}: found {strategy!r}; accepted: {' | '.join(accepted)}{nearest(strategy, accepted)}")
    if name == "NO_SHARD":
        return "ddp"
    if name != "FULL_SHARD":
        notes.append(f"{where}: {name} becomes fsdp, which shards all state over all GPUs")
    return "fsdp"


def _zero(setting: Setting) -> Sharding:
    """Return the ZeRO stage: accelerate's setting, else that of DeepSpeed's file, else accelerate's default of 2."""
    stage, where = setting("zero_stage", "deepspeed_config")
    if stage is None and (document := _deepspeed_file(setting)) is not None:
        stage = str(document.data.get("stage", 0))
        where = document.where(("zero_optimization", "stage"))
    known: dict[str, Sharding] = {"0": "ddp", "1": "zero1", "2": "zero2", "3": "zero3"}
    if (stage or "2") not in known:
        raise BadInput(f"{where}: found {stage!r}; accepted: {' | '.join(known)}")
    return known[stage or "2"]


def _offload(setting: Setting, notes: list[str]) -> Offload:
    """Return what is offloaded to CPU memory: by accelerate's settings, else by DeepSpeed's file."""
    document = _deepspeed_file(setting)
    offloaded = []
    for part in ("optimizer", "param"):
        device, _ = setting(f"offload_{part}_device", "deepspeed_config")
        section = document.data.get(f"offload_{part}") if document else None
        if device is None and isinstance(section, dict):
            device = str(section.get("device", "none"))
        if (device or "none").lower() not in ("none", "false"):
            offloaded.append(part)
        if device == "nvme":
            notes.append(f"offload_{part}_device: nvme becomes CPU memory")
    if offloaded == ["param"]:
        notes.append("offload_param_device: hardware.offload: all offloads optimizer state as well")
    return "all" if "param" in offloaded else "optimizer" if offloaded else "none"


def _deepspeed_file(setting: Setting) -> Document | None:
    """Return `zero_optimization` of the DeepSpeed file, if one is configured. Raises BadInput if it does not exist."""
    file, where = setting("deepspeed_config_file", "deepspeed_config")
    if file is None:
        return None
    if not Path(file).is_file():
        raise BadInput(f"{where}: {file}: no such file; it is needed for the ZeRO stage")
    document = read_file(Path(file))
    zero = document.data.get("zero_optimization") if isinstance(document.data, dict) else None
    return replace(document, data=zero if isinstance(zero, dict) else {})
