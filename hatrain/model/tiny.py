"""A small base model of random weights and a tokenizer trained on a dataset, for the demo and for machines without a
network. It loads like any model of the hub."""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from hatrain.data.rows import read_rows
from hatrain.model.portable import make_portable
from hatrain.runtime.seal import share

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

WORDS = r" ?[^(\s|.,!?…。，、।۔،)]+"
"""Boundaries of tokens, as Bloom's tokenizer sets them: llama.cpp knows them by that name, so that the model can be
exported. `turn_on` is one word, which keeps the rows of a home short."""


def texts_of(path: Path) -> Iterator[str]:
    for row in read_rows(path):
        if row.text is not None:
            yield row.text
        for message in row.messages:
            yield message.role
            yield message.content


def build_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer of at most `vocabulary` tokens, with the ChatML format."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|pad|>")
    fast.chat_template = CHATML
    return fast


def build_model(
    tokenizer: PreTrainedTokenizerFast, *, hidden: int, layers: int, heads: int, ctx_size: int, seed: int
) -> LlamaForCausalLM:
    """Return a Llama of random weights for a tokenizer, with tied embeddings."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            intermediate_size=hidden * 8 // 3 // 8 * 8,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=ctx_size,
            tie_word_embeddings=True,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
        )
    )


def make(
    data: Path, out: Path, *, vocabulary: int, hidden: int, layers: int, heads: int, ctx_size: int, seed: int
) -> int:
    """Write a base model for a dataset to `out`. Returns the number of parameters."""
    tokenizer = build_tokenizer(texts_of(data), vocabulary)
    model = build_model(tokenizer, hidden=hidden, layers=layers, heads=heads, ctx_size=ctx_size, seed=seed)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    make_portable(partial)
    share(partial)
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)
    return model.num_parameters()
