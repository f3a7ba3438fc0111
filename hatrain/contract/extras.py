"""The parts of hatrain that are installed apart, and the command that adds each. `pip install hatrain` alone plans,
renders, submits and generates data."""

import importlib.util
from collections.abc import Mapping

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "train": (
        *("torch", "transformers", "trl", "peft", "accelerate", "datasets"),
        *("numpy", "tokenizers", "safetensors", "huggingface_hub", "fsspec", "pyarrow"),
    ),
    "quant": ("bitsandbytes",),
    "deepspeed": ("deepspeed",),
    "gptq": ("gptqmodel", "optimum"),
    "gguf": ("convert_hf_to_gguf", "sentencepiece"),
    "report": ("plotly", "jinja2", "markupsafe"),
    "trackers": ("wandb", "mlflow", "trackio"),
}
"""The modules of each extra of pyproject.toml; for `train` also those that its packages bring, and not
tensorboard, without which training works."""


def absent(extra: str) -> list[str]:
    """Return an extra's modules that this interpreter lacks; it imports none."""
    return [name for name in EXTRAS[extra] if importlib.util.find_spec(name) is None]


def command(extra: str) -> str:
    """Return the command that installs an extra. DeepSpeed is built against the torch that is there."""
    install = "DS_BUILD_OPS=0 pip install --no-build-isolation" if extra == "deepspeed" else "pip install"
    return f"{install} 'hatrain[{extra}]'"


def problems(extra: str, what: str) -> list[str]:
    """Return one line where `what` lacks modules of an extra: which, and the command that installs it."""
    names = absent(extra)
    return [f"{what} needs {_listed(names)}, not installed here: {command(extra)}"] if names else []


def without(module: str, what: str) -> str | None:
    """Return what to say where `what` failed to import a module; None for a module of hatrain itself."""
    name = module.partition(".")[0]
    if name in ("hatrain", "launch"):
        return None
    extra = next((extra for extra, modules in EXTRAS.items() if name in modules), None)
    return f"{what} needs {name}, not installed here: {command(extra) if extra else f'pip install {name}'}"


def _listed(names: list[str]) -> str:
    shown = [name.replace("_", "-") for name in names[:3]]
    return ", ".join([*shown, "…"] if len(names) > len(shown) else shown)
