"""Labelled sequences as the tensors of a forward pass: padded, or packed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from hatrain.contract.spec import Packing
from hatrain.data.labels import Example
from hatrain.data.packs import Labels, labels_of, make_pack
from hatrain.model.attention import PackLayout

Batch = dict[str, Any]
"""`model`: what the model's forward pass takes, with `positions` and `targets`, each `[labels]`, and `pack`.
`weights` `[labels]`, the sequences that each label belongs to. `of_sequences`: the labels of each sequence."""


def batch_of(units: Sequence[Sequence[Example]], packing: Packing, pad_token: int) -> Batch:
    """Return the batch of the sequences of some units, numbered through all of them."""
    if packing == "off":
        return padded_batch([example for unit in units for example in unit], pad_token)
    pack = make_pack([[example.input_ids for example in unit] for unit in units], share=packing == "tree")
    examples = [example for unit in units for example in unit]
    labels = labels_of(examples, [pack.tokens_of(number) for number in range(len(examples))])
    ids = torch.from_numpy(pack.input_ids)[None]
    inputs = {
        "input_ids": ids,
        # Of ones, so that transformers does not look for sequences in the positions.
        "attention_mask": torch.ones_like(ids),
        "position_ids": torch.from_numpy(pack.position_ids)[None],
        "pack": PackLayout(pack.segments, torch.from_numpy(np.unique(labels.positions))),
    }
    return _with_labels(inputs, labels)


def padded_batch(examples: Sequence[Example], pad_token: int) -> Batch:
    """Return a batch whose `input_ids` are `[sequences, tokens]`, filled up on the right. The mask comes from the
    lengths alone: a pad token may be the eos token too."""
    lengths = torch.tensor([len(example.input_ids) for example in examples])
    width = int(lengths.max())
    ids = torch.full((len(examples), width), pad_token)
    for row, example in zip(ids, examples, strict=True):
        row[: len(example.input_ids)] = torch.from_numpy(example.input_ids)
    starts = np.arange(len(examples)) * width
    tokens = [start + np.arange(len(example.input_ids)) for start, example in zip(starts, examples, strict=True)]
    inputs = {"input_ids": ids, "attention_mask": (torch.arange(width) < lengths[:, None]).long(), "pack": None}
    return _with_labels(inputs, labels_of(examples, tokens))


def _with_labels(inputs: dict[str, Any], labels: Labels) -> Batch:
    of_labels = {"positions": torch.from_numpy(labels.positions), "targets": torch.from_numpy(labels.targets)}
    return {
        "model": {**inputs, **of_labels},
        "weights": torch.from_numpy(labels.weights).float(),
        "of_sequences": [torch.from_numpy(part) for part in labels.of_sequences],
    }
