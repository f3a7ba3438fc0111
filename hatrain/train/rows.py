"""The rows of a run: tokenized for its method, and known again by their files' contents."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from hatrain.contract.inputs import resolve
from hatrain.contract.plan import Plan
from hatrain.data.dataset import TokenizedDataset, raw_note, tokenize_dataset
from hatrain.data.pairs import TokenizedPairs, tokenize_pairs
from hatrain.errors import BadInput
from hatrain.runtime import seal


@dataclass(frozen=True)
class Rows:
    """Rows to train on and to test with, and the SHA-256 of each file by the path the job names."""

    train: TokenizedDataset | TokenizedPairs
    sizes: list[int]
    """Rows of each training file."""
    test: TokenizedDataset | TokenizedPairs | None
    files: dict[str, str]


def load_rows(plan: Plan, tokenizer: PreTrainedTokenizerBase) -> Rows:
    """Tokenize the training and the test rows. Raises BadInput for rows that cannot be trained on."""
    data, method = plan.job.data, plan.job.method
    of_dpo = method.kind == "dpo"
    settings: dict[str, Any] = {
        "ctx_size": method.ctx_size,
        "prefix_ids": data.prefix_ids,
        "suffix_ids": data.suffix_ids,
        "on_overlong": data.on_overlong,
    }

    def tokenized(path: str) -> Any:
        tokenize = tokenize_pairs if of_dpo else tokenize_dataset
        return tokenize(resolve(path, plan.paths.workdir), tokenizer, **settings)

    parts = [tokenized(file.path) for file in data.train]
    joined = (TokenizedPairs if of_dpo else TokenizedDataset).joined(parts)
    files = [file.path for file in data.train] + ([data.test] if data.test else [])
    return Rows(
        joined,
        [len(part) for part in parts],
        tokenized(data.test) if data.test else None,
        {path: seal.digest(resolve(path, plan.paths.workdir)) for path in files},
    )


def described(rows: Rows) -> str:
    """Return what was read, in a line: rows, what was dropped for its length, test rows, a warning of raw text."""
    text = f"{len(rows.train)} training rows"
    if rows.train.dropped:
        longest = max(row.length for row in rows.train.dropped)
        text += f" ({len(rows.train.dropped)} longer than ctx_size dropped; the longest has {longest} tokens)"
    if rows.test:
        text += f", {len(rows.test)} test rows"
    if isinstance(rows.train, TokenizedDataset) and rows.train.raw_rows:
        text += f"; {raw_note(rows.train.raw_rows)}"
    return text


def check_unchanged(checkpoint: Path, files: dict[str, str]) -> None:
    """Raise BadInput when a checkpoint was trained on other rows than these."""
    before = seal.facts(checkpoint).get("data", {})
    changed = [path for path, digest in files.items() if before.get(path, digest) != digest]
    if changed:
        raise BadInput(
            [
                f"{path}: has changed since {checkpoint.name} was trained on it; bring the old file back, "
                "or start anew with --fresh"
                for path in changed
            ]
        )
