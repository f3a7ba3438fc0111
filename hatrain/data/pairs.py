"""A preference dataset as labelled pairs: two conversations with the same prompt, and a chosen and a rejected answer. A
pair is never cut and never repaired."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property, partial
from itertools import takewhile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from hatrain.data.dataset import OnOverlong, Overlong, kept_rows
from hatrain.data.jsonfile import parsed_values
from hatrain.data.labels import Example, Labeller, bad_row
from hatrain.data.prepare import Kind, prepare
from hatrain.data.rows import (
    CONTEXT_KEYS,
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
    with_context,
)
from hatrain.errors import nearest

SIDES = ("chosen", "rejected")
PAIR_FORMATS = (
    '{"system", "question", "chosen", "rejected"}, of which the system may be left out, '
    'or {"prompt", "chosen", "rejected"} as lists of {"role", "content"}'
)


@dataclass(frozen=True, slots=True)
class Pair:
    """One row: two conversations with the same prompt. Only the answers after it are trained on."""

    chosen: Row
    rejected: Row


@dataclass(frozen=True, slots=True)
class OverlongPair(Overlong):
    """A pair whose longer side, of `length` tokens, does not fit into the context."""

    kind: ClassVar[str] = "pair"
    prompt: int
    """Tokens before the answer."""

    def problem(self, ctx_size: int) -> str:
        if self.prompt >= ctx_size:
            return f"its prompt has {self.prompt} tokens and leaves no room for an answer in ctx_size {ctx_size}"
        return f"{self.length} tokens of its longer side do not fit into ctx_size {ctx_size}"


@dataclass(frozen=True)
class TokenizedPairs:
    """The kept pairs in the order of their files, and the overlong ones."""

    chosen: tuple[Example, ...]
    rejected: tuple[Example, ...]
    dropped: tuple[Overlong, ...] = ()
    digest: str = ""
    """SHA-256 of the bytes of the file that were read; empty for several files."""

    @classmethod
    def joined(cls, parts: Iterable["TokenizedPairs"]) -> "TokenizedPairs":
        parts = list(parts)
        return cls(
            tuple(example for part in parts for example in part.chosen),
            tuple(example for part in parts for example in part.rejected),
            tuple(pair for part in parts for pair in part.dropped),
        )

    def __len__(self) -> int:
        return len(self.chosen)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """[pairs], tokens of both sides."""
        return _summed(self.chosen, self.rejected, "length")

    @cached_property
    def supervised(self) -> NDArray[np.int64]:
        """[pairs], supervised tokens of both sides."""
        return _summed(self.chosen, self.rejected, "supervised")


def _summed(chosen: Sequence[Example], rejected: Sequence[Example], attribute: str) -> NDArray[np.int64]:
    both = zip(chosen, rejected, strict=True)
    return np.array([sum(getattr(side, attribute) for side in sides) for sides in both], dtype=np.int64)


def tokenize_pairs(
    path: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    ctx_size: int,
    prefix_ids: Sequence[int] | None = None,
    suffix_ids: Sequence[int] | None = None,
    on_overlong: OnOverlong = "drop",
    today: date | None = None,
    **options: Any,
) -> TokenizedPairs:
    """Return the pairs of a file; the longer side must fit. `options` are those of `prepare`. Raises BadInput as
    `kept_rows` does."""
    prepared = prepare(path, Labeller(tokenizer, prefix_ids, suffix_ids, today), PAIRS, **options)
    overlong = np.flatnonzero(prepared.longest > ctx_size).tolist()
    dropped = [
        OverlongPair(
            Path(path), *prepared.place(row), int(prepared.longest[row]), max(side.replies[0][0] for side in sides)
        )
        for row, sides in zip(overlong, prepared.examples(overlong), strict=True)
    ]
    kept = prepared.examples(kept_rows(prepared, path, dropped, ctx_size, on_overlong))
    chosen, rejected = zip(*kept, strict=True)
    return TokenizedPairs(chosen, rejected, tuple(dropped), prepared.digest)


def holds_pairs(path: str | Path) -> bool:
    """Whether the first row of a file is a pair, by its keys. Raises BadInput when the file cannot be read."""
    _, first = next(parsed_values(Path(path)), (0, None))
    return isinstance(first, dict) and any(side in first for side in SIDES)


def _label(labeller: Labeller, pairs: Sequence[Pair]) -> Iterator[tuple[Example, ...] | BadRow]:
    labelled = labeller.label([side for pair in pairs for side in (pair.chosen, pair.rejected)])
    return map(partial(_examples, labeller.tokenizer), pairs, labelled[::2], labelled[1::2])


def _chosen(pair: Pair) -> Row:
    return pair.chosen


def _examples(
    tokenizer: PreTrainedTokenizerBase, pair: Pair, chosen: Example | BadRow, rejected: Example | BadRow
) -> tuple[Example, ...] | BadRow:
    if isinstance(chosen, BadRow) or isinstance(rejected, BadRow):
        both = zip(SIDES, (chosen, rejected), strict=True)
        return _both_sides(pair.chosen, {side: row for side, row in both if isinstance(row, BadRow)})
    if chosen.earlier or rejected.earlier:
        return bad_row(
            pair.chosen,
            "the chat template renders an answer's earlier turns otherwise once later ones are there, so the answer is "
            "not one text that can be compared; write each answer as one turn",
        )
    if np.array_equal(chosen.input_ids, rejected.input_ids):
        return bad_row(pair.chosen, "chosen and rejected are the same once the chat template has rendered them")
    start = min(chosen.replies[0][0], rejected.replies[0][0])
    return tuple(_answer_from(start, side, tokenizer) for side in (chosen, rejected))


def _answer_from(start: int, side: Example, tokenizer: PreTrainedTokenizerBase) -> Example:
    """Start a side's answer at token `start`, as on the other side, if only white space lies between.

    Some vocabularies join the space before an answer to its first word on one side only. It would belong to one
    answer and to the other's prompt.
    """
    (first, end), *others = side.replies
    between = str(tokenizer.decode(side.input_ids[start:first]))
    return side if between.strip() else replace(side, replies=((start, end), *others))


def _both_sides(row: Row, sides: Mapping[str, BadRow]) -> BadRow:
    """Join the problems of the sides; a side is named where the other does not have the problem."""
    lead = f"{row.where}: row {row.index}: "
    named: dict[str, list[str]] = {}
    for side, bad in sides.items():
        for problem in bad.problems:
            named.setdefault(problem.removeprefix(lead), []).append(side)
    problems = tuple(
        f"{lead}{problem}" if len(affected) == len(SIDES) else f"{lead}{affected[0]}: {problem}"
        for problem, affected in named.items()
    )
    return BadRow(row.path, row.index, row.line, problems, next(iter(sides.values())).detail)


# --- one row ------------------------------------------------------------------------------------------------


def read_pair(parsed: Any, path: Path, index: int, line: int) -> Pair:
    if not isinstance(parsed, dict):
        raise Wrong(f"found {kind_of(parsed)}; accepted: an object, {PAIR_FORMATS}")
    if not {"question", "prompt", *SIDES} & parsed.keys() and (other := parsed.keys() & FORMATS.keys()):
        raise Wrong(f"{', '.join(other)}: found a row for supervised training; accepted: {PAIR_FORMATS}")
    as_messages = "prompt" in parsed or any(isinstance(parsed.get(side), list) for side in SIDES)
    if as_messages and "question" in parsed:
        raise Wrong("found a question beside lists of turns; write it as the prompt's last turn")
    keys = (*CONTEXT_KEYS, *SIDES, "prompt" if as_messages else "question")
    required = SIDES if as_messages else ("question", *SIDES)
    missing = [key for key in required if key not in parsed]
    if missing:
        near = "".join(nearest(key, missing) for key in parsed if key not in keys)
        raise Wrong(f"no {', '.join(missing)}; found {', '.join(parsed) or 'no key'}{near}; accepted: {PAIR_FORMATS}")
    prompt, chosen, rejected = (_from_messages if as_messages else _from_texts)(parsed)
    if chosen == rejected:
        raise Wrong("chosen and rejected are the same")
    tools = read_tools(parsed)
    meta = {key: value for key, value in parsed.items() if key not in keys}
    return Pair(*(Row(path, index, line, (*prompt, *side), tools, None, meta) for side in (chosen, rejected)))


Turns = tuple[Message, ...]


def _from_texts(parsed: Mapping[str, Any]) -> tuple[Turns, Turns, Turns]:
    """Return the prompt and both answers of `{system, question, chosen, rejected}`. An empty system is left out."""
    system = read_text(parsed.get("system") or "", "system")
    texts = {key: read_text(parsed[key], key) for key in ("question", *SIDES)}
    empty = [key for key, text in texts.items() if not text.strip()]
    if empty:
        raise Wrong(f"{', '.join(empty)}: found no text")
    opening = (Message("system", system),) if system.strip() else ()
    chosen, rejected = ((Message("assistant", texts[side], train=True),) for side in SIDES)
    return (*opening, Message("user", texts["question"])), chosen, rejected


def _from_messages(parsed: Mapping[str, Any]) -> tuple[Turns, Turns, Turns]:
    """Return the prompt and both answers of lists of turns. Without a prompt it is what both sides begin with."""
    given = parsed.get("prompt")
    if isinstance(given, str):
        raise Wrong("prompt: found text; accepted: a list of turns; write text as question")
    sides = {side: read_messages(parsed[side], side, read_message) for side in SIDES}
    if given is None:
        shared = _shared_beginning(*sides.values())
        prompt = sides["chosen"][:shared]
    else:
        shared = 0
        prompt = read_messages(given, "prompt", read_message)
    prompt = tuple(replace(message, train=False) for message in prompt)
    prompt = with_context(prompt, parsed) if prompt else prompt
    if not prompt:
        raise Wrong("chosen and rejected begin differently, and there is no prompt; add the prompt that they share")
    answers = {side: messages[shared:] for side, messages in sides.items()}
    if any(answers.values()):
        for side, answer in answers.items():
            _check_answer(answer, side, shared, len(sides[side]))
    return prompt, answers["chosen"], answers["rejected"]


def _shared_beginning(chosen: Turns, rejected: Turns) -> int:
    """Count the turns that both sides begin with, whether they are trained on or not."""
    both = zip(chosen, rejected, strict=False)
    return sum(1 for _ in takewhile(lambda two: replace(two[0], train=two[1].train) == two[1], both))


def _check_answer(answer: Turns, side: str, start: int, end: int) -> None:
    """Raise Wrong unless an answer is made of assistant turns, with tool results in between."""
    if not answer:
        raise Wrong(f"{side}: found no answer: it ends where the other side goes on")
    for number, message in enumerate(answer, start=start):
        if message.role not in ("assistant", "tool") or (message.role == "tool" and number == start):
            raise Wrong(
                f"{side}[{number}]: found a turn of role {message.role!r} after the prompt; accepted: the assistant's "
                "answer and its tools' results (the two sides share one prompt)"
            )
    if answer[-1].role != "assistant":
        raise Wrong(f"{side}[{end - 1}]: ends with a turn of role {answer[-1].role!r}; accepted: the assistant's")
    if not any(message.train for message in answer):
        raise Wrong(f"{side}: every turn of its answer has train_on_turn: false; set one to true")


PAIRS = Kind("pairs", len(SIDES), read_pair, PAIR_FORMATS, _label, _chosen)
