"""Models for tests: one of random weights, and one that answers from a script through a real model's generation."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

Script = Callable[[list[int]], Sequence[int]]
"""From the ids of a prompt to the ids of the answer; the last id is repeated."""


def _config(tokenizer: Any, context: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=context,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )


def random_llama(tokenizer: Any, *, context: int = 1024, seed: int = 0) -> LlamaForCausalLM:
    """Return a tiny Llama whose greedy answers depend on all of the prompt."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(_config(tokenizer, context))
    for weights in model.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    return model


class Scripted(LlamaForCausalLM):
    """A tiny Llama that answers each prompt by a script."""

    def __init__(self, tokenizer: Any, script: Script, *, context: int = 1024):
        super().__init__(_config(tokenizer, context))
        self.script = script
        self.batches: list[list[list[int]]] = []
        """The prompts of each batch, without their padding."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **others: Any) -> Any:
        begins = others["past_key_values"].get_seq_length() == 0
        output = super().forward(input_ids=input_ids, attention_mask=attention_mask, **others)
        if begins:
            mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
            self.batches.append([row[kept.bool()].tolist() for row, kept in zip(input_ids, mask, strict=True)])
            self._answers = [list(self.script(prompt)) for prompt in self.batches[-1]]
            self._step = 0
        logits = torch.zeros_like(output.logits)
        for row, answer in enumerate(self._answers):
            logits[row, -1, answer[min(self._step, len(answer) - 1)]] = 1.0
        self._step += 1
        output.logits = logits
        return output
