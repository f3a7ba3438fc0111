"""`hatrain find-split`: the prefix and suffix ids of a model's replies, tried on a sample."""

import argparse
import sys
from typing import TYPE_CHECKING

from hatrain.cli.tokenizing import add_tokenizer, load, marked, model_spec, use_colour
from hatrain.runtime.waiting import waiting

if TYPE_CHECKING:
    from hatrain.data.find_split import Candidate, Split


NOT_NEEDED = """\
Most models do not need these ids: replies are found in what the chat template renders.
Use them if `hatrain check` finds no replies.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="hub id, folder or run whose tokenizer is used")
    add_tokenizer(parser)


def run(args: argparse.Namespace) -> int:
    """Returns 1 when no ids find the replies of the sample."""
    spec = model_spec(args)
    with waiting("loading transformers"):
        from hatrain.data.find_split import find_split
    tokenizer = load(spec)
    split = find_split(tokenizer)
    print(NOT_NEEDED)
    print(report(split))
    if split.sample is None:
        remedy = (
            "leave --prefix-ids and --suffix-ids out, for the chat template finds them"
            if split.is_needless
            else "try another --chat-template"
        )
        print(f"no ids find every reply of the sample; {remedy}", file=sys.stderr)
        return 1
    print("\nthe sample, with the supervised text marked:\n")
    print("\n\n".join(marked(part, tokenizer, colour=use_colour()) for part in split.sample.sequences))
    return 0


def report(split: "Split") -> str:
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
        f"  {candidate.how:<{how}}  {_written(candidate.ids):<{ids}}  {success if candidate.finds_all else 'does not'}"
        for candidate in candidates
    ]


def _written(ids: tuple[int, ...]) -> str:
    return ",".join(map(str, ids))
