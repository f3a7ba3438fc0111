"""From a row to token ids and labels: the tokens that the model learns to write. Rows are never cut or padded."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from hatrain.data.replies import LeftOut, Located, NotFound, ReplyFinder
from hatrain.data.rows import BadRow, Row
from hatrain.data.template import Span, TemplateRefusal
from hatrain.errors import BadInput
from hatrain.text import count

IGNORED = -100
"""The label of a token that is not supervised; torch's cross entropy ignores it."""

Ids = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Example:
    """A labelled row."""

    row: int
    """0-based index of the row in its file."""
    input_ids: Ids
    """[tokens]"""
    replies: tuple[Span, ...]
    """Half-open ranges of supervised tokens: each reply with its end of turn."""

    @property
    def labels(self) -> Ids:
        """[tokens], unshifted: `labels[i]` is `input_ids[i]` or IGNORED."""
        labels = np.full_like(self.input_ids, IGNORED)
        for start, end in self.replies:
            labels[start:end] = self.input_ids[start:end]
        return labels

    @property
    def length(self) -> int:
        """Tokens."""
        return len(self.input_ids)

    @property
    def supervised(self) -> int:
        """Supervised tokens."""
        return sum(end - start for start, end in self.replies)


class _Unusable(Exception):
    """Carries a row's problem to where its message is completed."""


class Labeller:
    """Turns rows into examples for one tokenizer.

    Replies are found in what the chat template renders. With `prefix_ids` and `suffix_ids`, a reply begins after each
    occurrence of the prefix and ends with the next occurrence of the suffix's first id.

    Raises BadInput when only one of the two is given, when the tokenizer has no eos token or no offsets, and, without
    ids, when the chat template renders no plain conversation.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        prefix_ids: Sequence[int] | None = None,
        suffix_ids: Sequence[int] | None = None,
    ):
        if bool(prefix_ids) != bool(suffix_ids):
            raise BadInput("prefix_ids and suffix_ids: found one of them; give both, or neither")
        if not tokenizer.is_fast:
            raise BadInput(f"{tokenizer.name_or_path}: found a slow tokenizer; accepted: a fast one, which has offsets")
        if tokenizer.eos_token_id is None:
            raise BadInput(f"{tokenizer.name_or_path}: the tokenizer has no eos token, so no reply could end")
        self.tokenizer = tokenizer
        self.prefix = list(prefix_ids or ())
        self.suffix = list(suffix_ids or ())
        self.finder = ReplyFinder(tokenizer)
        if not self.prefix:
            _ = self.finder.markers  # refuse an unusable template before any row is read
        added = tokenizer.added_tokens_decoder.items()
        self._added_ids = frozenset(token for token, added_token in added if added_token.content.strip())

    def label(self, rows: Sequence[Row]) -> list[Example | BadRow]:
        """Return an example for each row, or its problems, in the order of the rows."""
        located: list[Located | BadRow] = [self._locate(row) for row in rows]
        backend = self.tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        texts = [item.text for item in located if isinstance(item, Located)]
        encodings = iter(backend.encode_batch(texts, add_special_tokens=False))
        return [
            item if isinstance(item, BadRow) else self._example(row, item, next(encodings))
            for row, item in zip(rows, located, strict=True)
        ]

    def _locate(self, row: Row) -> Located | BadRow:
        try:
            if row.text is not None:
                return Located(row.text, ()) if self.prefix else self.finder.in_raw_text(row.text)
            if self.prefix:
                return Located(self.finder.template.render(row.messages, row.tools), ())
            return self.finder.in_conversation(row.messages, row.tools)
        except TemplateRefusal as refusal:
            return bad_row(row, f"the chat template refuses this conversation: {refusal}{self._without_system(row)}")
        except LeftOut as reason:
            return bad_row(row, str(reason))
        except NotFound as reason:
            return bad_row(row, f"{reason}; give prefix_ids and suffix_ids (hatrain find-split prints them)")

    def _without_system(self, row: Row) -> str:
        """Return the remedy if the template refuses only the system turn, else nothing."""
        if row.messages[0].role != "system":
            return ""
        try:
            self.finder.template.render(row.messages[1:], row.tools)
        except TemplateRefusal:
            return ""
        return (
            "; it renders without the system turn: move that text into the first user's turn "
            "(hatrain data --no-system-role writes such rows)"
        )

    def _example(self, row: Row, located: Located, encoding: Any) -> Example | BadRow:
        ids: list[int] = encoding.ids
        try:
            if self.prefix:
                replies, open_end = self._replies_by_ids(row, ids, encoding.offsets)
            else:
                replies, open_end = self._replies_by_offsets(located, ids, encoding.offsets), located.open_end
        except _Unusable as wrong:
            return bad_row(row, str(wrong), self._as_text_and_tokens(located.text, ids))
        if not replies:
            return bad_row(row, self._nothing_found(row), self._as_text_and_tokens(located.text, ids))
        if open_end:
            ids = [*ids, self.tokenizer.eos_token_id]
            replies[-1] = (replies[-1][0], len(ids))
        return Example(row.index, np.array(ids, dtype=np.int32), tuple(replies))

    def _replies_by_offsets(self, located: Located, ids: list[int], offsets: list[Span]) -> list[Span]:
        """Return the tokens that overlap a reply's characters, without a header's token that includes the white space
        after it, as Phi-3's do."""
        starts = [start for start, _ in offsets]
        ends = [end for _, end in offsets]
        replies = []
        for start, end in located.replies:
            first, last = bisect_right(ends, start), bisect_left(starts, end)
            if first < last and starts[first] < start and ids[first] in self._added_ids:
                first += 1
            if first < last:
                replies.append((first, last))
        return replies

    def _replies_by_ids(self, row: Row, ids: list[int], offsets: list[Span]) -> tuple[list[Span], bool]:
        """Return the supervised ranges between prefix and suffix, and whether the last one has no suffix.

        Raises _Unusable when their number is not that of the assistant's turns, and the rendered text does not show
        which are the assistant's.
        """
        replies: list[Span] = []
        open_end = False
        position = _find(ids, self.prefix, 0)
        while position is not None:
            start = position + len(self.prefix)
            stop = _find(ids, self.suffix[:1], start)
            end = len(ids) if stop is None else stop + 1
            if start < (len(ids) if stop is None else stop):
                replies.append((start, end))
                open_end = stop is None
            position = _find(ids, self.prefix, end)
        turns = [message for message in row.messages if message.role == "assistant"]
        if row.text is not None or not replies:
            return replies, open_end
        if len(turns) == len(replies):
            trained = [reply for turn, reply in zip(turns, replies, strict=True) if turn.train]
        else:
            trained = self._of_assistant(replies, row, ids, offsets)
        return trained, open_end and replies[-1] in trained

    def _of_assistant(self, replies: list[Span], row: Row, ids: list[int], offsets: list[Span]) -> list[Span]:
        """Return the ranges that are the assistant's, where another turn contains the prefix too."""
        try:
            located = self.finder.in_conversation(row.messages, row.tools)
        except (NotFound, LeftOut, BadInput):
            own = []
        else:
            own = self._replies_by_offsets(located, ids, offsets)
        kept = [(start, end) for start, end in replies if any(first < end and start < last for first, last in own)]
        if len(kept) != sum(message.train for message in row.messages):
            turns = sum(message.role == "assistant" for message in row.messages)
            raise _Unusable(
                f"found {self._target()} {count(len(replies), 'time')}, but the assistant has {count(turns, 'turn')}; "
                "`hatrain find-split MODEL` shows which ids find them"
            )
        return kept

    # --- messages when nothing was found ----------------------------------------------------------------

    def _nothing_found(self, row: Row) -> str:
        turns = [message for message in row.messages if message.role == "assistant"]
        if row.text is None and not turns:
            problem = "looked for a turn of the assistant, found none; add its answer, or remove the row"
        elif row.text is None and not any(turn.train for turn in turns):
            problem = "every turn of the assistant has train_on_turn: false; set one to true, or remove the row"
        else:
            problem = f"looked for {self._target()}, found none; try other prefix_ids and suffix_ids"
        return f"no token to train on: {problem} (`hatrain find-split MODEL` shows how replies are found)"

    def _target(self) -> str:
        if not self.prefix:
            return f"a reply after {self.finder.markers.header.strip()!r}"
        return f"prefix_ids {','.join(map(str, self.prefix))} ({self.tokenizer.decode(self.prefix)!r})"

    def _as_text_and_tokens(self, text: str, ids: list[int]) -> str:
        tokens = " ".join(f"{token}:{self.tokenizer.decode([token])!r}" for token in ids)
        return f"  as text: {text!r}\n  as tokens: {tokens}"


def bad_row(row: Row, problem: str, detail: str = "") -> BadRow:
    """A problem of a row that was read, with its file, line and index."""
    return BadRow(row.path, row.index, row.line, (f"{row.where}: row {row.index}: {problem}",), detail)


def _find(ids: list[int], sought: list[int], position: int) -> int | None:
    """The first occurrence of a sequence of ids at or after a position."""
    while True:
        try:
            position = ids.index(sought[0], position)
        except ValueError:
            return None
        if ids[position : position + len(sought)] == sought:
            return position
        position += 1
