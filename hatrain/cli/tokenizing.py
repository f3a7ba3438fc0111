"""Arguments and output that the verbs on tokenizers share."""

import argparse
import json
import os
import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatrain.runtime.waiting import waiting

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hatrain.contract.spec import ModelSpec
    from hatrain.data.labels import Example, Ids


def token_ids(text: str) -> list[int]:
    """Parse ids written as `29966,29989,465`, also with blanks."""
    try:
        ids = [int(part) for part in re.split(r"\s*,\s*|\s+", text.strip())]
    except ValueError:
        raise argparse.ArgumentTypeError(f"found {text!r}; accepted: ids such as 151645,198") from None
    if min(ids) < 0:
        raise argparse.ArgumentTypeError(f"found {min(ids)}; an id is 0 or more")
    return ids


def switches(text: str) -> dict[str, Any]:
    """Parse a chat template's switches, written as a JSON object."""
    try:
        parsed = json.loads(text)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise argparse.ArgumentTypeError(f'found {text!r}; accepted: a JSON object such as {{"enable_thinking": true}}')
    return parsed


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}; accepted: a whole number above 0")
    return int(text)


def add_tokenizer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--chat-template", metavar="FILE", help="Jinja file that replaces the tokenizer's chat template"
    )
    parser.add_argument(
        "--chat-template-kwargs",
        type=switches,
        metavar="JSON",
        help="the chat template's switches, such as '{\"enable_thinking\": true}' (default: thinking off)",
    )
    parser.add_argument("--add-chatml-tokens", action="store_true", help="add ChatML's tokens and template")
    parser.add_argument("--add-pad-token", action="store_true", help="add a pad token of its own")
    parser.add_argument("--revision", help="branch, tag or commit of a model on the hub")
    parser.add_argument("--trust-remote-code", action="store_true", help="run code from the model's repository")


def model_spec(args: argparse.Namespace) -> "ModelSpec":
    """The model that the arguments of `add_tokenizer` describe. Its base is a folder or a hub id."""
    from hatrain.contract import hub
    from hatrain.contract.model_ref import resolve
    from hatrain.contract.run import runs_root
    from hatrain.contract.spec import ModelSpec

    model = resolve(args.model, args.revision, workdir=Path.cwd(), runs_root=runs_root())
    if model.repository:
        hub.require(model.repository, model.revision)
    return ModelSpec(
        base=model.source,
        revision=model.revision,
        trust_remote_code=args.trust_remote_code,
        chat_template=args.chat_template,
        add_pad_token=args.add_pad_token,
        add_chatml_tokens=args.add_chatml_tokens,
        chat_template_kwargs=args.chat_template_kwargs or {},
    )


def load(model: "ModelSpec") -> "PreTrainedTokenizerBase":
    """Load the tokenizer of a model, and keep libraries' messages quiet."""
    from hatrain.model.quiet import quiet

    with waiting("loading transformers"):
        quiet()
        from hatrain.model.tokenizer import tokenizer_of
    return tokenizer_of(model)


def marked(example: "Example", tokenizer: "PreTrainedTokenizerBase", *, colour: bool) -> str:
    """Return a row as text, with the supervised parts in green or between ⟦ and ⟧."""
    before, after = ("\033[1;32m", "\033[0m") if colour else ("⟦", "⟧")
    edges = [0, *(edge for reply in example.replies for edge in reply), example.length]
    parts = []
    for number, (start, end) in enumerate(pairwise(edges)):
        text = _decoded_after(example.input_ids, start, end, tokenizer)
        parts.append(f"{before}{text}{after}" if number % 2 else text)
    return "".join(parts)


def _decoded_after(ids: "Ids", start: int, end: int, tokenizer: "PreTrainedTokenizerBase") -> str:
    """Decode tokens in their context: on their own some vocabularies lose a first space."""
    through, until, alone = (str(tokenizer.decode(part)) for part in (ids[:end], ids[:start], ids[start:end]))
    return through.removeprefix(until) if through.startswith(until) else alone


def use_colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
