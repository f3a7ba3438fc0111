"""A preference dataset as labelled pairs: two conversations that part only where one answer is chosen and the other
rejected. It never cuts a pair and never repairs one."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from hatrain.data.dataset import Overlong, problem_lines
from hatrain.data.jsonfile import parsed_values
from hatrain.data.labels import Example, Labeller, bad_row
from hatrain.data.rows import (
    FORMATS,
    BadRow,
    Message,
    Row,
    Wrong,
    kind_of,
    read_message,
    read_messages,
    read_text,
    read_tools,
    scan,
    shortened,
)
from hatrain.errors import BadInput, nearest

SIDES = ("chosen", "rejected")
PAIR_FORMATS = (
    '{"system", "question", "chosen", "rejected"}, of which the system may be left out, '
    'or {"prompt", "chosen", "rejected"} as lists of {"role", "content"}'
)
_CHUNK = 64
"""Pairs that are tokenized together: enough to keep the tokenizer's threads busy."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One row of preferences: two conversations with the same beginning. Only what each says after it is trained on."""

    chosen: Row
    rejected: Row

    @property
    def index(self) -> int:
        """0-based index of the row in its file."""
        return self.chosen.index

    @property
    def line(self) -> int:
        """1-based line on which the row begins."""
        return self.chosen.line


@dataclass(frozen=True, slots=True)
class PairExample:
    """A pair as the model sees it."""

    chosen: Example
    rejected: Example

    @property
    def longest(self) -> int:
        """Tokens of the longer side."""
        return max(self.chosen.length, self.rejected.length)

    @property
    def prompt(self) -> int:
        """Tokens before the answer, on the side where they are more."""
        return max(side.replies[0][0] for side in (self.chosen, self.rejected))


@dataclass(frozen=True, slots=True)
class OverlongPair(Overlong):
    """A pair whose longer side, of `length` tokens, does not fit into the context."""

    prompt: int
    """Tokens before the answer."""


@dataclass(frozen=True)
class TokenizedPairs:
    """The kept pairs in the order of their files, and those that were too long."""

    chosen: tuple[Example, ...]
    rejected: tuple[Example, ...]
    dropped: tuple[OverlongPair, ...] = ()

    @classmethod
    def joined(cls, parts: Iterable["TokenizedPairs"]) -> "TokenizedPairs":
        """Return several datasets as one, in their order."""
        parts = list(parts)
        return cls(
            tuple(example for part in parts for example in part.chosen),
            tuple(example for part in parts for example in part.rejected),
            tuple(pair for part in parts for pair in part.dropped),
        )

    def __len__(self) -> int:
        return len(self.chosen)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know before training on it, a sentence each."""
        if not self.dropped:
            return ()
        return (f"{len(self.dropped)} pairs do not fit into the context and are left out",)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """[pairs], tokens of both sides."""
        return _summed(self.chosen, self.rejected, "length")

    @cached_property
    def supervised(self) -> NDArray[np.int64]:
        """[pairs], tokens of both sides that are trained on."""
        return _summed(self.chosen, self.rejected, "supervised")


def _summed(chosen: Sequence[Example], rejected: Sequence[Example], count: str) -> NDArray[np.int64]:
    return np.array(
        [getattr(one, count) + getattr(other, count) for one, other in zip(chosen, rejected, strict=True)],
        dtype=np.int64,
    )


def tokenize_pairs(
    path: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    ctx_size: int,
    prefix_ids: Sequence[int] | None = None,
    suffix_ids: Sequence[int] | None = None,
    on_overlong: Literal["drop", "error"] = "drop",
) -> TokenizedPairs:
    """Return the pairs of a file.

    Raises BadInput for bad pairs (all of the file at once), for pairs with a side of more than `ctx_size` tokens
    when `on_overlong` is "error", and when no pair is left.
    """
    labeller = Labeller(tokenizer, prefix_ids, suffix_ids)
    kept: list[PairExample] = []
    dropped: list[OverlongPair] = []
    bad: list[BadRow] = []
    for pair, labelled in label_pairs(path, labeller):
        if isinstance(labelled, BadRow):
            bad.append(labelled)
        elif labelled.longest > ctx_size:
            dropped.append(OverlongPair(Path(path), pair.index, pair.line, labelled.longest, labelled.prompt))
        else:
            kept.append(labelled)
    problems = problem_lines(bad)
    if on_overlong == "error":
        problems += [
            f"{pair.path}:{pair.line}: row {pair.row}: {_too_long(pair, ctx_size)}; "
            "shorten it, raise ctx_size, or set on_overlong: drop"
            for pair in dropped
        ]
    if problems:
        raise BadInput(shortened(problems))
    if not kept:
        shortest = min(pair.length for pair in dropped)
        raise BadInput(
            f"{path}: no pair fits into ctx_size {ctx_size}; the shortest of {len(dropped)} has {shortest} tokens "
            "on its longer side"
        )
    return TokenizedPairs(
        tuple(pair.chosen for pair in kept), tuple(pair.rejected for pair in kept), tuple(dropped)
    )


def _too_long(pair: OverlongPair, ctx_size: int) -> str:
    if pair.prompt >= ctx_size:
        return f"its prompt has {pair.prompt} tokens and leaves no room for an answer in ctx_size {ctx_size}"
    return f"{pair.length} tokens of its longer side do not fit into ctx_size {ctx_size}"


def holds_pairs(path: str | Path) -> bool:
    """Whether a file's first row is a pair, by its keys. Raises BadInput when the file cannot be read."""
    _, first = next(parsed_values(Path(path)), (0, None))
    return isinstance(first, dict) and any(side in first for side in SIDES)


def label_pairs(path: str | Path, labeller: Labeller) -> Iterator[tuple[Pair | BadRow, PairExample | BadRow]]:
    """Yield every row of a file with its two examples, or with what is wrong with it, in the order of the file."""
    rows = scan(path, _pair, PAIR_FORMATS)
    while chunk := list(islice(rows, _CHUNK)):
        pairs = [pair for pair in chunk if isinstance(pair, Pair)]
        labelled = labeller.label([side for pair in pairs for side in (pair.chosen, pair.rejected)])
        examples = map(partial(_example, labeller.tokenizer), pairs, labelled[::2], labelled[1::2])
        for pair in chunk:
            yield pair, pair if isinstance(pair, BadRow) else next(examples)


def _example(
    tokenizer: PreTrainedTokenizerBase, pair: Pair, chosen: Example | BadRow, rejected: Example | BadRow
) -> PairExample | BadRow:
    if isinstance(chosen, BadRow) or isinstance(rejected, BadRow):
        both = zip(SIDES, (chosen, rejected), strict=True)
        return _worded(pair.chosen, {side: row for side, row in both if isinstance(row, BadRow)})
    if np.array_equal(chosen.input_ids, rejected.input_ids):
        return bad_row(
            pair.chosen, "chosen and rejected are the same once the chat template has rendered them"
        )
    start = min(chosen.replies[0][0], rejected.replies[0][0])
    return PairExample(*(_begun_at(start, side, tokenizer) for side in (chosen, rejected)))


def _begun_at(start: int, side: Example, tokenizer: PreTrainedTokenizerBase) -> Example:
    """Return a side whose answer begins where the other's does, if only white space lies between.

    Some vocabularies join the space before an answer to its first word on one side and not on the other; it would
    be part of the one answer and of the other's prompt.
    """
    (first, end), *others = side.replies
    between = str(tokenizer.decode(side.input_ids[start:first]))
    return side if between.strip() else replace(side, replies=((start, end), *others))


def _worded(row: Row, sides: Mapping[str, BadRow]) -> BadRow:
    """Return what is wrong with a row, with the side's name where the other has no such problem."""
    lead = f"{row.where}: row {row.index}: "
    named: dict[str, list[str]] = {}
    for side, bad in sides.items():
        for problem in bad.problems:
            named.setdefault(problem.removeprefix(lead), []).append(side)
    problems = tuple(
        f"{lead}{problem}" if len(said) == len(SIDES) else f"{lead}{said[0]}: {problem}"
        for problem, said in named.items()
    )
    return BadRow(row.path, row.index, row.line, problems, next(iter(sides.values())).detail)


# --- one row ------------------------------------------------------------------------------------------------


def _pair(parsed: Any, path: Path, index: int, line: int) -> Pair:
    """Read one row. Raises Wrong."""
    if not isinstance(parsed, dict):
        raise Wrong(f"found {kind_of(parsed)}; accepted: an object, {PAIR_FORMATS}")
    if not {"question", "prompt", *SIDES} & parsed.keys() and (other := parsed.keys() & FORMATS.keys()):
        raise Wrong(f"{', '.join(other)}: found a row for supervised training; accepted: {PAIR_FORMATS}")
    as_messages = "prompt" in parsed or any(isinstance(parsed.get(side), list) for side in SIDES)
    if as_messages and "question" in parsed:
        raise Wrong("found a question beside lists of turns; write it as the prompt's last turn")
    keys = ("tools", *SIDES, *(("prompt",) if as_messages else ("system", "question")))
    required = SIDES if as_messages else ("question", *SIDES)
    missing = [key for key in required if key not in parsed]
    if missing:
        near = "".join(nearest(key, missing) for key in parsed if key not in keys)
        raise Wrong(
            f"no {', '.join(missing)}; found {', '.join(parsed) or 'no key'}{near}; accepted: {PAIR_FORMATS}"
        )
    prompt, chosen, rejected = (_from_messages if as_messages else _from_texts)(parsed)
    if chosen == rejected:
        raise Wrong("chosen and rejected are the same")
    tools = read_tools(parsed.get("tools"))
    meta = {key: value for key, value in parsed.items() if key not in keys}
    return Pair(*(Row(path, index, line, (*prompt, *side), tools, None, meta) for side in (chosen, rejected)))


Turns = tuple[Message, ...]


def _from_texts(parsed: Mapping[str, Any]) -> tuple[Turns, Turns, Turns]:
    """Return the prompt and both answers of `{system, question, chosen, rejected}`. An empty system is none."""
    system = read_text(parsed.get("system") or "", "system")
    texts = {key: read_text(parsed[key], key) for key in ("question", *SIDES)}
    empty = [key for key, text in texts.items() if not text.strip()]
    if empty:
        raise Wrong(f"{', '.join(empty)}: found no text")
    opening = (Message("system", system),) if system.strip() else ()
    chosen, rejected = ((Message("assistant", texts[side], train=True),) for side in SIDES)
    return (*opening, Message("user", texts["question"])), chosen, rejected


def _from_messages(parsed: Mapping[str, Any]) -> tuple[Turns, Turns, Turns]:
    """Return the prompt and both answers of turns; a prompt that is not given is what both sides begin with."""
    given = parsed.get("prompt")
    if isinstance(given, str):
        raise Wrong("prompt: found text; accepted: a list of turns; text is called question here")
    sides = {side: read_messages(parsed[side], side, read_message) for side in SIDES}
    if given is None:
        shared = _shared_beginning(*sides.values())
        prompt = sides["chosen"][:shared]
    else:
        shared = 0
        prompt = read_messages(given, "prompt", read_message)
    prompt = tuple(replace(message, train=False) for message in prompt)
    if not prompt:
        raise Wrong(
            "chosen and rejected begin differently, and there is no prompt; give the prompt they share"
        )
    answers = {side: messages[shared:] for side, messages in sides.items()}
    if any(answers.values()):
        for side, answer in answers.items():
            _check_answer(answer, side, shared, len(sides[side]))
    return prompt, answers["chosen"], answers["rejected"]


def _shared_beginning(chosen: Turns, rejected: Turns) -> int:
    """Return how many turns both sides begin with. Whether they are trained on makes no difference."""
    both = zip(chosen, rejected, strict=False)
    return sum(1 for _ in takewhile(lambda two: replace(two[0], train=two[1].train) == two[1], both))


def _check_answer(answer: Turns, side: str, start: int, end: int) -> None:
    """Raise Wrong unless an answer is what an assistant says, with the tools it calls in between."""
    if not answer:
        raise Wrong(f"{side}: ends where the other side goes on, so it holds no answer of its own")
    for number, message in enumerate(answer, start=start):
        if message.role not in ("assistant", "tool") or (message.role == "tool" and number == start):
            raise Wrong(
                f"{side}[{number}]: found a turn of role {message.role!r} where the prompt has ended; the two sides "
                "share one prompt, and differ only in what the assistant answers"
            )
    if answer[-1].role != "assistant":
        raise Wrong(
            f"{side}[{end - 1}]: ends with a turn of role {answer[-1].role!r}; accepted: the assistant's"
        )
    if not any(message.train for message in answer):
        raise Wrong(f"{side}: every turn of its answer says train_on_turn: false; let one say true")
