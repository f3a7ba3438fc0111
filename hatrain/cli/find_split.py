"""`hatrain find-split`: the prefix and suffix ids of a model's replies, tried on a sample."""

import argparse
import sys
from typing import TYPE_CHECKING

from hatrain.cli.tokenizing import add_tokenizer, colourful, load, marked

if TYPE_CHECKING:
    from hatrain.data.find_split import Candidate, Split


NOT_NEEDED = """\
Most models do not need this: replies are found by what the chat template renders.
It is for a model with which `hatrain check` finds none.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("model", help="hub id, folder or run whose tokenizer is looked at")
    add_tokenizer(parser)


def run(args: argparse.Namespace) -> int:
    """Print what was found. Returns 1 when no ids find the replies of the sample."""
    from hatrain.data.find_split import find_split

    tokenizer = load(args)
    split = find_split(tokenizer)
    print(NOT_NEEDED)
    print(report(split))
    if split.sample is None:
        print("no candidate finds every reply of the sample; try another --chat-template", file=sys.stderr)
        return 1
    print("\nthe sample, with what these ids train on marked:\n")
    print(marked(split.sample, tokenizer, colour=colourful()))
    return 0


def report(split: "Split") -> str:
    """Return the candidates, which of them find the replies, and the ids to use."""
    lines = [f"prefix: {split.prefix!r}", *_table(split.prefixes, "finds the replies")]
    lines += [f"suffix: {split.suffix!r}", *_table(split.suffixes, "ends the replies")]
    if split.sample:
        lines += [
            "",
            f"use: --prefix-ids {_written(split.prefix_ids)} --suffix-ids {_written(split.suffix_ids)}",
        ]
    return "\n".join(lines)


def _table(candidates: "tuple[Candidate, ...]", success: str) -> list[str]:
    how = max(len(candidate.how) for candidate in candidates)
    ids = max(len(_written(candidate.ids)) for candidate in candidates)
    return [
        f"  {candidate.how:<{how}}  {_written(candidate.ids):<{ids}}  {success if candidate.finds else 'does not'}"
        for candidate in candidates
    ]


def _written(ids: tuple[int, ...]) -> str:
    return ",".join(map(str, ids))
