"""What tests of real conversions share: the tools that they need, and an adapter that answers unlike its base."""

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from hatrain.export import tools
from tests.require import cannot


def need_tools() -> None:
    """Skip the test where llama.cpp or its converter is not installed."""
    if problems := tools.missing():
        cannot("gguf", problems[0])


def write_adapter(base: Path, folder: Path, modules: list[str]) -> Path:
    """Write an adapter on some modules of a base, with random weights, and the base's tokenizer."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=modules))
    torch.manual_seed(0)
    for name, weights in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.05)
    adapted.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder
