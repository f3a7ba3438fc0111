"""From a row to token ids and labels: the tokens that the model learns to write. Rows are never cut or padded."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property

import numpy as np
from transformers import PreTrainedTokenizerBase

from hatrain.data.encoder import Encoded, Encoder, Ids
from hatrain.data.replies import Disagrees, LeftOut, Located, NotFound, ReplyFinder
from hatrain.data.rows import BadRow, Row
from hatrain.data.template import EndlessTemplate, Span, TemplateRefusal
from hatrain.errors import BadInput
from hatrain.text import count

IGNORED = -100
"""The label of a token that is not supervised; torch's cross entropy ignores it."""


@dataclass(frozen=True)
class Example:
    """A labelled row: a sequence of tokens, and further ones where the chat template renders an earlier reply of the
    row otherwise than it was asked for."""

    row: int
    """0-based index of the row in its file."""
    input_ids: Ids
    """[tokens], up to the last reply or to the end of the row"""
    replies: tuple[Span, ...]
    """Half-open ranges of supervised tokens: each reply with its end of turn."""
    earlier: tuple["Example", ...] = ()
    """The sequences that end with earlier replies. Every reply is supervised in one sequence."""

    @property
    def labels(self) -> Ids:
        """[tokens], unshifted: `labels[i]` is `input_ids[i]` or IGNORED."""
        labels = np.full_like(self.input_ids, IGNORED)
        for start, end in self.replies:
            labels[start:end] = self.input_ids[start:end]
        return labels

    @cached_property
    def sequences(self) -> tuple["Example", ...]:
        """Every sequence of the row as an example of its own, in the order of their replies."""
        return (*self.earlier, replace(self, earlier=())) if self.earlier else (self,)

    @property
    def length(self) -> int:
        """Tokens of the longest sequence."""
        return max(len(sequence.input_ids) for sequence in self.sequences)

    @property
    def tokens(self) -> int:
        """Tokens of all sequences."""
        return sum(len(sequence.input_ids) for sequence in self.sequences)

    @property
    def supervised(self) -> int:
        """Supervised tokens of all sequences."""
        return sum(end - start for sequence in self.sequences for start, end in sequence.replies)


class _Unusable(Exception):
    """Carries a row's problem to where its message is completed."""

    def __init__(self, problem: str, detail: str = ""):
        super().__init__(problem)
        self.detail = detail


class Labeller:
    """Turns rows into examples for one tokenizer.

    Replies are found in what the chat template renders, on the day `today` if it asks for the date. With `prefix_ids`
    and `suffix_ids`, a reply begins after each occurrence of the prefix and ends with the next occurrence of the
    suffix's first id.

    Raises BadInput when only one of the two is given, when the tokenizer has no eos token or no offsets, and, without
    ids, when the chat template renders no plain conversation.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        prefix_ids: Sequence[int] | None = None,
        suffix_ids: Sequence[int] | None = None,
        today: date | None = None,
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
        self.finder = ReplyFinder(tokenizer, today)
        if not self.prefix:
            _ = self.finder.markers  # refuse an unusable template before any row is read
        self.encoder = Encoder(tokenizer)

    def label(self, rows: Sequence[Row]) -> list[Example | BadRow]:
        """Return an example for each row, or its problems, in the order of the rows. Raises Inexact."""
        located: list[tuple[_Text, ...] | BadRow] = [self._locate(row) for row in rows]
        texts = [part.located.text for parts in located if not isinstance(parts, BadRow) for part in parts]
        encodings = iter(self.encoder.encode(texts))
        return [
            parts if isinstance(parts, BadRow) else self._example(row, parts, [next(encodings) for _ in parts])
            for row, parts in zip(rows, located, strict=True)
        ]

    def _locate(self, row: Row) -> "tuple[_Text, ...] | BadRow":
        """Return the row's texts: one, or one for each reply."""
        try:
            if self.prefix:
                return self._texts_for_ids(row)
            if row.text is not None:
                return (_Text(row, self.finder.in_raw_text(row.text)),)
            found = self.finder.in_conversation(row.messages, row.tools)
            return tuple(_Text(row, part) for part in found) or (_Text(row, self._whole(row)),)
        except TemplateRefusal as refusal:
            return bad_row(row, f"the chat template refuses this conversation: {refusal}{self._without_system(row)}")
        except EndlessTemplate as fault:
            raise BadInput(f"{row.where}: {fault}") from None
        except (LeftOut, Disagrees) as reason:
            return bad_row(row, str(reason))
        except NotFound as reason:
            return bad_row(row, f"{reason}; give prefix_ids and suffix_ids (hatrain find-split prints them)")

    def _whole(self, row: Row) -> Located:
        return Located(self.finder.template.render(row.messages, row.tools), ())

    def _texts_for_ids(self, row: Row) -> "tuple[_Text, ...]":
        """Return the whole text, unless its history renders a reply otherwise than a last turn: then a text for each
        supervised reply, which ends with it."""
        if row.text is not None:
            return (_Text(row, Located(row.text, ())),)
        whole = self._whole(row)
        texts = []
        for index, message in enumerate(row.messages):
            if message.train:
                turns = tuple(replace(past, train=False) for past in row.messages[:index])
                part = replace(row, messages=(*turns, message))
                texts.append(_Text(part, self._whole(part)))
        eos = str(self.tokenizer.eos_token)  # Phi-3 ends a conversation with it, whatever its last turn
        if all(whole.text.startswith(text.located.text.rstrip().removesuffix(eos).rstrip()) for text in texts):
            return (_Text(row, whole),)
        return tuple(texts)

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

    def _example(self, row: Row, parts: "Sequence[_Text]", encodings: Sequence[Encoded]) -> Example | BadRow:
        sequences: list[Example] = []
        try:
            for part, encoded in zip(parts, encodings, strict=True):
                sequences += self._by_ids(part, encoded) if self.prefix else self._by_offsets(part, encoded)
        except _Unusable as wrong:
            return bad_row(row, str(wrong), wrong.detail)
        *earlier, last = sequences
        return replace(last, earlier=tuple(earlier)) if earlier else last

    def _by_offsets(self, part: "_Text", encoded: Encoded) -> list[Example]:
        """Return the sequence of a text. Where the tokens of a text do not begin with those of a generation prompt in
        it, for one joins the prompt's end and the reply, each reply becomes a sequence of its own."""
        located, ids = part.located, encoded.ids
        replies = []
        for start, end in located.replies:
            first = encoded.before(start) if part.row.text is None else self._first_token(encoded, start)
            if first is None:
                return self._divided(part)
            last = encoded.starting_before(end)
            if first < last:
                replies.append((first, last))
        if not replies:
            raise _Unusable(self._nothing_found(part.row), self._as_text_and_tokens(located.text, ids.tolist()))
        if located.open_end:
            ids = np.append(ids, np.int32(self.tokenizer.eos_token_id))
            replies[-1] = (replies[-1][0], len(ids))
        return [Example(part.row.index, ids, tuple(replies))]

    def _first_token(self, encoded: Encoded, start: int) -> int:
        """Return the first token that overlaps a raw text's reply, without a header's token that includes the white
        space after it, as Phi-3's do."""
        first = encoded.ending_by(start)
        own = first < len(encoded.ids) and encoded.start_of(first) < start
        added = self.encoder.added
        is_header = own and added and added.match(str(self.tokenizer.decode([encoded.ids[first]])))
        return first + 1 if is_header else first

    def _divided(self, part: "_Text") -> list[Example]:
        """Tokenize each prompt and each reply of a text on their own, as a model is asked."""
        located, sequences = part.located, []
        for number, (start, end) in enumerate(located.replies):
            before = self.encoder.ids_of(located.text[:start])
            reply = self._continued(located.text[start:end])
            if located.open_end and number == len(located.replies) - 1:
                reply = [*reply, self.tokenizer.eos_token_id]
            ids = np.array([*before, *reply], dtype=np.int32)
            sequences.append(Example(part.row.index, ids, ((len(before), len(ids)),)))
        return sequences

    def _continued(self, text: str) -> list[int]:
        """Tokenize a text as one that goes on: some vocabularies put a space before what begins a text."""
        eos = self.tokenizer.eos_token
        ids = self.encoder.ids_of(eos + text)
        return ids[1:] if ids[:1] == [self.tokenizer.eos_token_id] else self.encoder.ids_of(text)

    def _by_ids(self, part: "_Text", encoded: Encoded) -> list[Example]:
        row, text, ids = part.row, part.located.text, encoded.ids.tolist()
        try:
            replies, open_end = self._replies_by_ids(row, ids, encoded)
        except _Unusable as wrong:
            raise _Unusable(str(wrong), self._as_text_and_tokens(text, ids)) from None
        if not replies:
            raise _Unusable(self._nothing_found(row), self._as_text_and_tokens(text, ids))
        if row.text is None:
            self._check_prompts(row, ids, replies)
        if open_end:
            ids = [*ids, self.tokenizer.eos_token_id]
            replies[-1] = (replies[-1][0], len(ids))
        return [Example(row.index, np.array(ids, dtype=np.int32), tuple(replies))]

    def _check_prompts(self, row: Row, ids: list[int], replies: Sequence[Span]) -> None:
        """Raise _Unusable when a reply would be trained after other tokens than the generation prompt's."""
        turns = [index for index, message in enumerate(row.messages) if message.train]
        for turn, (start, _) in zip(turns, replies, strict=False):
            if turn == 0:
                continue
            prompt = self.encoder.ids_of(self.finder.template.render(row.messages[:turn], row.tools, prompt=True))
            if ids[:start] != prompt:
                shared = next((n for n, two in enumerate(zip(ids, prompt, strict=False)) if two[0] != two[1]), start)
                raise _Unusable(
                    f"prefix_ids: turn {turn} would be trained after {self.tokenizer.decode(ids[:start][-8:])!r}, but "
                    f"the chat template's generation prompt ends with {self.tokenizer.decode(prompt[-8:])!r} (they "
                    f"differ from token {min(shared, start)} on); leave prefix_ids and suffix_ids out, or take those "
                    "of `hatrain find-split MODEL`"
                )

    def _replies_by_ids(self, row: Row, ids: list[int], encoded: Encoded) -> tuple[list[Span], bool]:
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
            trained = self._of_assistant(replies, row, encoded)
        return trained, open_end and replies[-1] in trained

    def _of_assistant(self, replies: list[Span], row: Row, encoded: Encoded) -> list[Span]:
        """Return the ranges that are the assistant's, where another turn contains the prefix too."""
        own = []
        for index, message in enumerate(row.messages):
            if message.train:
                try:
                    turn = self.finder.turn(row.messages, index, row.tools)
                except (NotFound, LeftOut, Disagrees, BadInput):
                    continue
                own.append((encoded.starting_before(len(turn.prompt)), encoded.starting_before(len(turn.text))))
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


@dataclass(frozen=True, slots=True)
class _Text:
    """A text of a row, and the turns that it holds: those of the row up to its last reply."""

    row: Row
    located: Located


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
