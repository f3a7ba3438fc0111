"""The rows of a run: tokenized for its method, with digests that tell a resumed run whether a file changed."""

import os
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from hatrain.contract import row_lengths
from hatrain.contract.inputs import resolve
from hatrain.contract.plan import Plan
from hatrain.contract.run import RunDirectory
from hatrain.contract.spec import Packing
from hatrain.contract.steps import Layout, padded
from hatrain.data.dataset import TokenizedDataset, raw_note, tokenize_dataset
from hatrain.data.jsonfile import parsed_values
from hatrain.data.labels import Example, Ids
from hatrain.data.pairs import TokenizedPairs, tokenize_pairs
from hatrain.errors import BadInput
from hatrain.runtime import seal
from hatrain.text import count
from hatrain.train.layouts import packed


@dataclass(frozen=True)
class Rows:
    """Training and test rows, and the SHA-256 of the bytes that were read of each file, by its path in the job."""

    train: TokenizedDataset | TokenizedPairs
    sizes: list[int]
    """Kept rows of each training file."""
    test: TokenizedDataset | TokenizedPairs | None
    files: dict[str, str]
    paths: tuple[Path, ...] = ()
    """The training files, in the order of `sizes`."""

    def named(self, rows: Sequence[int]) -> str:
        """Return `file:line` of some training rows, numbered through all files; the first few, and how many more."""
        indices = [example.row for example in self.examples]
        wanted: dict[Path, list[int]] = {}
        for row in rows[:NAMED]:
            file = bisect_right(list(accumulate(self.sizes)), row)
            wanted.setdefault(self.paths[file], []).append(indices[row])
        names = [f"{path}:{line}" for path, found in wanted.items() for line in lines_of(path, found)]
        return ", ".join(names) + (f" and {len(rows) - NAMED} more" if len(rows) > NAMED else "")

    @property
    def examples(self) -> Sequence[Example]:
        """One example of each training row; of a pair its chosen side."""
        return self.train.chosen if isinstance(self.train, TokenizedPairs) else self.train.examples


NAMED = 16
"""Rows that are named one by one in a message."""


def lines_of(path: Path, indices: Sequence[int]) -> list[int]:
    """Return the lines on which some rows of a file begin."""
    lines = {index: line for index, (line, _) in enumerate(parsed_values(path)) if index in indices}
    return [lines[index] for index in indices]


def load_rows(plan: Plan, tokenizer: PreTrainedTokenizerBase, run: RunDirectory) -> Rows:
    """Tokenize the training and the test rows, as on the run's date. Raises BadInput for unusable rows."""
    data, method = plan.job.data, plan.job.method
    tokenize: Any = tokenize_pairs if method.kind == "dpo" else tokenize_dataset
    settings: dict[str, Any] = {
        "ctx_size": method.ctx_size,
        "prefix_ids": data.prefix_ids,
        "suffix_ids": data.suffix_ids,
        "on_overlong": data.on_overlong,
        "today": run.today(),
        "say": partial(print, flush=True),
        "cache": _cache_of(plan, run),
    }

    def tokenized(path: str) -> Any:
        resolved, ids = resolve(path, plan.paths.workdir), (data.prefix_ids, data.suffix_ids)
        lengths = row_lengths.name_of(resolved, plan.job.model, ids, Path(plan.paths.workdir))
        return tokenize(resolved, tokenizer, lengths=lengths, **settings)

    parts = [tokenized(file.path) for file in data.train]
    test = tokenized(data.test) if data.test else None
    files = {file.path: part.digest for file, part in zip(data.train, parts, strict=True)}
    if test:
        files[str(data.test)] = test.digest
    return Rows(
        type(parts[0]).joined(parts),
        [len(part) for part in parts],
        test,
        files,
        tuple(Path(resolve(file.path, plan.paths.workdir)) for file in data.train),
    )


def _cache_of(plan: Plan, run: RunDirectory) -> Path | None:
    """The run's own folder on a cluster: all nodes and all attempts have it. None means the user's cache."""
    is_own = plan.launcher != "local" and not os.environ.get("HATRAIN_CACHE")
    return run.folder / "rows" if is_own else None


def sides(dataset: TokenizedDataset | TokenizedPairs, row: int) -> tuple[Example, ...]:
    """The sequences of a row of a micro-batch: one, or both sides of a pair."""
    if isinstance(dataset, TokenizedPairs):
        return dataset.chosen[row], dataset.rejected[row]
    return (dataset.sequences[row],)


def layout_of(
    dataset: TokenizedDataset | TokenizedPairs, packing: Packing, micro_batch_size: int, ctx_size: int, ranks: int
) -> Layout:
    """How a dataset's rows become micro-batches, in training and for the test loss. They hold the numbers of pairs, or
    of sequences: a row has several where the chat template lays it out once for each reply."""
    if isinstance(dataset, TokenizedPairs):
        if packing == "off":
            return padded(dataset.lengths.tolist(), micro_batch_size)
        return _packed(dataset, packing, 2 * micro_batch_size * ctx_size, ranks)
    layout = (
        padded([len(ids) for ids in dataset.input_ids], micro_batch_size)
        if packing == "off"
        else _packed(dataset, packing, micro_batch_size * ctx_size, ranks)
    )
    return lambda rows: layout(sequence for row in rows for sequence in dataset.sequences_of[int(row)])


def _packed(dataset: TokenizedDataset | TokenizedPairs, packing: Packing, capacity: int, ranks: int) -> Layout:
    def unit(row: int) -> list[Ids]:
        return [side.input_ids for side in sides(dataset, row)]

    return packed(unit, capacity, ranks, share=packing == "tree")


def summary(rows: Rows) -> str:
    """One line for the log."""
    text = f"{len(rows.train)} training rows"
    if rows.train.dropped:
        longest = max(row.length for row in rows.train.dropped)
        text += f" ({len(rows.train.dropped)} longer than ctx_size dropped; the longest has {longest} tokens)"
    if isinstance(rows.train, TokenizedDataset) and len(rows.train.input_ids) > len(rows.train):
        text += f" in {len(rows.train.input_ids)} sequences (the chat template needs one for some replies)"
    if rows.test:
        text += f", {len(rows.test)} test rows"
    if isinstance(rows.train, TokenizedDataset) and rows.train.raw_rows:
        text += f"; {raw_note(rows.train.raw_rows)}"
    if isinstance(rows.train, TokenizedDataset) and rows.train.null_rows:
        text += f"; nulls left out of the call arguments and tools of {count(rows.train.null_rows, 'row')}"
    return text


def check_same_everywhere(ranks: Sequence[dict[str, str]]) -> None:
    """Raise BadInput when the ranks read different rows. `ranks` has the digests of each."""
    for path, digest in ranks[0].items():
        if other := [number for number, files in enumerate(ranks) if files.get(path) != digest]:
            raise BadInput(
                f"{path}: rank {other[0]} read other rows than rank 0: the file changed while it was read, or is "
                "another one on that node; start the run again once it is the same everywhere"
            )


def check_unchanged(checkpoint: Path, files: dict[str, str]) -> None:
    """Raise BadInput when a file differs from the one that the checkpoint was trained on."""
    before = seal.facts(checkpoint).get("data", {})
    changed = [path for path, digest in files.items() if before.get(path, digest) != digest]
    if changed:
        raise BadInput(
            [
                f"{path}: has changed since {checkpoint.name} was trained on it; restore the old file, "
                "or start over with --fresh"
                for path in changed
            ]
        )
