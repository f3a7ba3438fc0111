"""How many tokens the rows of a file have for a model. What tokenized them leaves that beside the prepared rows; a plan
reads it, for it has no tokenizer."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from hatrain.contract.paths import expanded
from hatrain.contract.spec import ModelSpec

_OF_A_TOKENIZER = ("tokenizer*", "*.model", "vocab*", "merges*", "added_tokens*", "special_tokens*", "*.jinja")


def default_folder() -> Path:
    """Of prepared rows: $HATRAIN_CACHE/rows, else hatrain/rows in $XDG_CACHE_HOME, else in ~/.cache."""
    own = os.environ.get("HATRAIN_CACHE")
    return (expanded(own) if own else expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "hatrain") / "rows"


def name_of(dataset: Path, model: ModelSpec, ids: Sequence[Sequence[int] | None], workdir: Path) -> str | None:
    """Return the name of the file that holds the lengths of a dataset's rows, None where the dataset cannot be read.
    Another dataset, tokenizer or template is another name, but for another revision of a repository on the hub.

    `model.base` is a folder or a hub id, `ids` are the job's prefix and suffix, and a chat template's path starts from
    `workdir`.
    """
    try:
        files = [dataset, *([workdir / expanded(model.chat_template)] if model.chat_template else [])]
        files += sorted({path for pattern in _OF_A_TOKENIZER for path in Path(model.base).glob(pattern)})
        parts = [
            [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files],
            [model.base, model.add_chatml_tokens, model.add_pad_token],
            [sorted(model.chat_template_kwargs.items()), [each and list(each) for each in ids]],
        ]
    except OSError:
        return None
    return f"lengths-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}.json"


def text_of(lengths: Iterable[int]) -> str:
    """Return the content of the file: how many rows have each length."""
    return json.dumps(sorted(Counter(lengths).items()))


def longer_than(file: Path, tokens: int) -> int | None:
    """Return how many rows are longer; None where nobody has written their lengths."""
    try:
        return sum(int(rows) for length, rows in json.loads(file.read_text()) if length > tokens)
    except (OSError, ValueError, TypeError):
        return None
