"""A job for each setting in launch.strategies' table, by key and value. Tests train them to show that a setting works
with a strategy, and plan them to show that it is allowed or refused."""

from typing import Any

LORA = {"rank": 4, "alpha": 8, "dropout": 0.0, "modules": ["q_proj", "down_proj"], "merge": True}
LORA_CHANGES = {"method__lora": LORA, "method__learning_rate": 2e-2}
OWN_HEAD = "a base whose head shares no weights with its embeddings"
"""Placeholder for a folder that a test makes."""

JOBS: dict[tuple[str, str], dict[str, Any]] = {
    ("method.lora", "all weights"): {},
    ("method.lora", "lora"): LORA_CHANGES,
    ("method.lora.modules_to_save", "modules_to_save"): {
        "method__lora": {**LORA, "modules_to_save": ["lm_head"]},
        "model__base": OWN_HEAD,
    },
    ("method.kind", "sft"): {},
    ("method.kind", "dpo"): {"method__kind": "dpo"},
    ("model.add_chatml_tokens", "new tokens"): {"model__add_chatml_tokens": True},
    ("model.add_chatml_tokens", "rows of new tokens"): {"model__add_chatml_tokens": True, **LORA_CHANGES},
    ("model.quantization", "no quantization"): {},
    ("model.quantization", "8bit"): {"model__quantization": "8bit", **LORA_CHANGES},
    ("model.quantization", "4bit"): {"model__quantization": "4bit", **LORA_CHANGES},
    ("model.quantization", "gptq"): {"model__quantization": "gptq", **LORA_CHANGES},
    ("method.optimizer", "adamw"): {},
    ("method.optimizer", "adamw_8bit"): {"method__optimizer": "adamw_8bit"},
    ("method.optimizer", "paged_adamw_8bit"): {"method__optimizer": "paged_adamw_8bit"},
    ("method.optimizer", "adafactor"): {"method__optimizer": "adafactor"},
    ("model.dtype", "bf16"): {"model__dtype": "bf16", "model__base": OWN_HEAD},
    ("model.dtype", "fp32"): {},
    ("model.dtype", "fp16"): {"model__dtype": "fp16"},
    ("hardware.offload", "none"): {},
    ("hardware.offload", "optimizer"): {"hardware__offload": "optimizer"},
    ("hardware.offload", "all"): {"hardware__offload": "all"},
    ("hardware.compile", "no compiled layers"): {},
    ("hardware.compile", "compiled layers"): {"hardware__compile": True},
    ("checkpoints.state", "full"): {},
    ("checkpoints.state", "sharded"): {"checkpoints__state": "sharded"},
    ("evaluation.keep", "best look"): {"evaluation__keep": "best"},
    ("evaluation.metric", "loss"): {},
    ("evaluation.metric", "accuracy"): {
        "evaluation__keep": "best",
        "evaluation__metric": "accuracy",
        "evaluation__requests": 6,
    },
    ("hardware.gpu", "processors"): {},
    ("hardware.nodes", "several nodes"): {"hardware__nodes": 2, "hardware__gpus_per_node": 1},
}
