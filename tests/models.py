"""Tiny base models of common families, built here: random weights in the family's architecture, with its tokenizer and
chat template. The folders load like models of the hub."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PhiConfig,
    PreTrainedConfig,
    Qwen2Config,
    StableLmConfig,
)

from tests.families import build_tokenizer

SIZE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 512,
    # Wide enough that the output of a frozen head is not only noise.
    "initializer_range": 0.2,
}

# family: its tokenizer, and its architecture with the options of the real model
BASES: dict[str, tuple[str, Callable[..., PreTrainedConfig], dict[str, Any]]] = {
    "phi": ("phi", PhiConfig, {"partial_rotary_factor": 0.5}),
    "phi3": ("phi3", Phi3Config, {"original_max_position_embeddings": 512, "sliding_window": 512}),
    "stablelm": ("stablelm", StableLmConfig, {"num_key_value_heads": 2, "partial_rotary_factor": 0.25}),
    "stablelm2": (
        "stablelm",
        StableLmConfig,
        {"num_key_value_heads": 2, "partial_rotary_factor": 0.25, "use_qkv_bias": True},
    ),
    "tinyllama": ("zephyr", LlamaConfig, {"num_key_value_heads": 1}),
    "polka": ("polka", LlamaConfig, {"num_key_value_heads": 1}),
    "llama2": ("llama2", LlamaConfig, {}),
    "llama3": ("llama3", LlamaConfig, {"num_key_value_heads": 1, "rope_theta": 500000.0}),
    "llama3.2": ("llama3", LlamaConfig, {"num_key_value_heads": 1, "tie_word_embeddings": True}),
    # Bielik's format puts the system turn into the first [INST], as Llama 2's does.
    "mistral": ("llama2", MistralConfig, {"num_key_value_heads": 1, "sliding_window": None}),
    "qwen2": ("qwen2", Qwen2Config, {"num_key_value_heads": 1, "tie_word_embeddings": True, "rope_theta": 1e6}),
    "llama3-scaled": (
        "llama3",
        LlamaConfig,
        {
            "num_key_value_heads": 1,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            },
        },
    ),
    "phi3-long": (
        "phi3",
        Phi3Config,
        {
            "max_position_embeddings": 512,
            "original_max_position_embeddings": 64,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "short_factor": [1.0] * 8,
                "long_factor": [1.0, 1.2, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0],
            },
        },
    ),
    "gemma3": (
        "gemma",
        Gemma3TextConfig,
        {
            "num_key_value_heads": 1,
            "head_dim": 16,
            "sliding_window": 16,
            "layer_types": ["sliding_attention", "full_attention"],
        },
    ),
}
SPARE = {"phi": 48, "stablelm": 32, "stablelm2": 32, "qwen2": 16}
"""Rows of an embedding beyond the tokenizer's tokens, in families whose models have some."""


def tiny_base(family: str, folder: Path, *, spare: int | None = None, seed: int = 3, **sizes: Any) -> Path:
    """Write a base of a family to `folder`, in bf16 as the hub's are, and return it.

    Its embeddings have `spare` unused rows, by default about as many as the family's real models. `sizes` replace those
    of `SIZE`.
    """
    name, config, options = BASES[family]
    tokenizer = build_tokenizer(name)
    tokenizer.save_pretrained(folder)
    rows = len(tokenizer) + (SPARE.get(family, 0) if spare is None else spare)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(
        config(
            **{**SIZE, **options, **sizes},
            vocab_size=rows,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder
