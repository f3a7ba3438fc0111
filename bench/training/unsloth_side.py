"""Unsloth on the rows of a folder, with TRL's trainer, which it changes: `python unsloth_side.py FOLDER SETTING`."""

# isort: off
import unsloth  # noqa: F401 - before TRL and transformers, which it changes
# isort: on

import sys
from pathlib import Path
from typing import Any

import torch
import trl_side
from unsloth import FastLanguageModel


def load(base: str) -> Any:
    """All weights, in fp32."""
    model, _ = FastLanguageModel.from_pretrained(
        base,
        max_seq_length=2048,
        dtype=torch.float32,
        load_in_4bit=False,
        full_finetuning=True,
        use_gradient_checkpointing=False,
    )
    return model


if __name__ == "__main__":
    trl_side.main(Path(sys.argv[1]), sys.argv[2], load)
