"""From texts to tokens. Lines that many rows share, such as tools and devices, are tokenized once: a text is cut after
line breaks, where that was seen to change no token."""

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from string import ascii_lowercase, ascii_uppercase, digits
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from hatrain.data.template import added_contents, added_tokens

Ids = NDArray[np.int32]

_CHECKED = 64
"""One text in so many is compared with its tokens as a whole, whatever is known of its cuts."""
_REMEMBERED = 64 * 2**20
"""Characters of the pieces that are kept."""
_SHORT = 200
_MOST_TAILS = 1000
"""Characters of the ends of prompts whose tokens are kept, and how many of them."""
_KINDS = dict.fromkeys(ascii_lowercase, "a") | dict.fromkeys(ascii_uppercase, "A") | dict.fromkeys(digits, "0")


class Inexact(Exception):
    """A cut that had changed no token does in another text: what was encoded before it may be wrong too."""


@dataclass(frozen=True, slots=True)
class Spans:
    """The characters that each token of a piece covers, counted from the beginning of the piece."""

    starts: Sequence[int]
    ends: Sequence[int]


class Encoded:
    """The tokens of a text, without those that a tokenizer adds around it."""

    def __init__(self, encoder: "Encoder", text: str, parts: Sequence[str], pieces: Sequence[bytes], whole: Any = None):
        self._encoder, self.text, self._parts, self._pieces, self._whole = encoder, text, parts, pieces, whole
        self.ids: Ids = np.frombuffer(b"".join(pieces), dtype=np.int32)
        """[tokens]"""

    @cached_property
    def _cuts(self) -> list[int]:
        """The characters before each piece."""
        return [0, *accumulate(map(len, self._parts[:-1]))]

    @cached_property
    def _counts(self) -> list[int]:
        """The tokens before each piece."""
        return [0, *accumulate(len(piece) // 4 for piece in self._pieces)]

    @cached_property
    def _spans_of_whole(self) -> Spans:
        return _spans(self._whole.offsets)

    def _spans(self, piece: int) -> Spans:
        return self._spans_of_whole if self._whole else self._encoder.spans(self._parts[piece], piece > 0)

    def starting_before(self, position: int) -> int:
        """Count the tokens that start before a character."""
        piece = bisect_right(self._cuts, position) - 1
        within = position - self._cuts[piece]
        return self._counts[piece] + (bisect_left(self._spans(piece).starts, within) if within else 0)

    def ending_by(self, position: int) -> int:
        """Count the tokens that end at a character or before it."""
        piece = bisect_right(self._cuts, position) - 1
        return self._counts[piece] + bisect_right(self._spans(piece).ends, position - self._cuts[piece])

    def start_of(self, token: int) -> int:
        """Return the first character that a token covers."""
        piece = bisect_right(self._counts, token) - 1
        return self._cuts[piece] + self._spans(piece).starts[token - self._counts[piece]]

    def before(self, position: int) -> int | None:
        """Return how many tokens `text[:position]` has on its own; None if the text's tokens do not begin with them."""
        piece = bisect_right(self._cuts, position) - 1
        cut, before = self._cuts[piece], self._counts[piece]
        if cut == position:
            return before
        added = self._encoder.added
        if tokens := list(added.finditer(self.text, cut, position)) if added else []:
            # Added tokens are cut out of a text before the rest is tokenized. After the last one come nearly always the
            # same few characters.
            start = tokens[-1].start()
            own, first = self._encoder.alone(self.text[start:position]), self.starting_before(start)
            if own is not None and self.ids[first : first + len(own) // 4].tobytes() == own:
                return first + len(own) // 4
        own = self._encoder.alone(self.text[cut:position], after_break=piece > 0)
        if own is not None and self._pieces[piece].startswith(own):
            return before + len(own) // 4
        whole = self._encoder.ids_of(self.text[:position])
        return len(whole) if self.ids[: len(whole)].tolist() == whole else None


@dataclass(slots=True)
class _Cut:
    """A text that is cut after some of its line breaks."""

    text: str
    parts: list[str]
    """Each with the line break at its end."""
    pairs: list[str]
    """What stands before and after each of the line breaks."""
    unknown: set[str]


class Encoder:
    """Encodes texts with one tokenizer.

    A cut is used after it was seen to change no token: in a whole text, between the same two characters or added
    tokens, with a vocabulary in which no token goes on after a line break.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._tokenizer = tokenizer
        self.added = added_tokens(tokenizer)
        # One may take the white space beside it, and other rules may hold after it.
        self._added = added_contents(tokenizer)
        self._last, self._first = {token[-1] for token in self._added}, {token[0] for token in self._added}
        self._is_whole = False
        self._good: set[str] = set()
        self._bad: set[str] = set()
        """What stands around line breaks where cuts change no token, and where they do, or may. Latin letters of one
        case, and digits, are alike to every tokenizer there."""
        self._pieces: tuple[dict[str, bytes], dict[str, bytes]] = {}, {}
        """The tokens, as int32, of first parts of texts, and of parts that come after a line break."""
        self._spans: dict[tuple[str, bool], Spans] = {}
        self._tails: dict[tuple[str, bool], bytes | None] = {}
        self._texts = self._kept = 0

    def encode_whole(self) -> None:
        """Cut no more."""
        self._is_whole = True

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Return the tokens of each text. Raises Inexact."""
        if self._is_whole or not self._may_cut:
            return self._whole(texts)
        cuts = [self._cut(text) for text in texts]
        self._encode_new(cuts)
        checked = [
            number
            for number, cut in enumerate(cuts)
            if cut.unknown or len(cut.parts) < 2 or not (self._texts + number) % _CHECKED
        ]
        whole = dict(zip(checked, self._whole([texts[number] for number in checked]), strict=True))
        encoded = []
        for number, cut in enumerate(cuts):
            pieces = self._known(cut)
            if number in whole:
                encoded.append(whole[number])
                self._learn(cut, pieces, whole[number])
            else:
                encoded += [Encoded(self, cut.text, cut.parts, pieces)] if pieces else self._whole([cut.text])
        self._texts += len(texts)
        return encoded

    @cached_property
    def _may_cut(self) -> bool:
        return not _has_tokens_over_breaks(self._tokenizer)

    def _cut(self, text: str) -> _Cut:
        """Cut a text after each single line break where a cut is not known to be bad."""
        lines = text.split("\n")
        parts: list[str] = []
        pairs: list[str] = []
        part = lines[0]
        for line in lines[1:]:
            if part and line and not (line[0].isspace() or part[-1].isspace()):
                pair = self._pair(part, line)
                if pair not in self._bad:
                    pairs.append(pair)
                    parts.append(part + "\n")
                    part = line
                    continue
            part = f"{part}\n{line}"
        parts.append(part)
        return _Cut(text, parts, pairs, set(pairs) - self._good)

    def _pair(self, before: str, after: str) -> str:
        """What stands before and after a line break: an added token, or a kind of character."""
        left, right = before[-1], after[0]
        left, right = _KINDS.get(left, left), _KINDS.get(right, right)
        if before[-1] in self._last:
            left = next(filter(before.endswith, self._added), left)
        if after[0] in self._first:
            right = next(filter(after.startswith, self._added), right)
        return f"{left}\n{right}"

    def _encode_new(self, cuts: Sequence[_Cut]) -> None:
        """Encode the parts that were not seen before."""
        if self._kept > _REMEMBERED:
            self._kept = 0
            for memory in (*self._pieces, self._spans):
                memory.clear()
        first, later = self._pieces
        wanted = {(cut.parts[0], False) for cut in cuts if len(cut.parts) > 1 and cut.parts[0] not in first}
        wanted |= {(part, True) for cut in cuts for part in cut.parts[1:] if part not in later}
        new = sorted(wanted)
        for (part, after_break), ids in zip(new, self._ids_alone(new), strict=True):
            if ids is not None:
                self._pieces[after_break][part] = ids
            self._kept += len(part)

    def _known(self, cut: _Cut) -> list[bytes] | None:
        """Return the tokens of a text's pieces; None if one of its cuts may not be used."""
        if len(cut.parts) < 2 or not self._bad.isdisjoint(cut.pairs):
            return None
        first, later = self._pieces
        pieces = [first.get(cut.parts[0]), *map(later.get, cut.parts[1:])]
        return None if None in pieces else pieces  # type: ignore[return-value]

    def _learn(self, cut: _Cut, pieces: Sequence[bytes] | None, whole: Encoded) -> None:
        """Note whether a text's cuts gave the tokens of the whole text."""
        if pieces is not None and b"".join(pieces) == whole.ids.tobytes():
            self._good |= cut.unknown
        elif cut.unknown:
            for position, pair in zip(accumulate(map(len, cut.parts)), cut.pairs, strict=False):
                if pair in cut.unknown:
                    halves = [(cut.text[:position], False), (cut.text[position:], True)]
                    is_same = b"".join(ids or b"" for ids in self._ids_alone(halves)) == whole.ids.tobytes()
                    (self._good if is_same and pair not in self._bad else self._bad).add(pair)
            self._good -= self._bad
        elif pieces is not None:
            raise Inexact

    # --- the tokenizer itself -------------------------------------------------------------------------------

    @property
    def _backend(self) -> Any:
        backend = self._tokenizer.backend_tokenizer
        # Somebody else may have set them since.
        backend.no_truncation()
        backend.no_padding()
        return backend

    def ids_of(self, text: str) -> list[int]:
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def alone(self, text: str, *, after_break: bool = False) -> bytes | None:
        """Return the tokens, as int32, of a text or of one that comes after a line break; None if a token joins
        them."""
        key = text, after_break
        if key in self._tails:
            return self._tails[key]
        (own,) = self._ids_alone([key])
        if len(text) <= _SHORT and len(self._tails) < _MOST_TAILS:
            self._tails[key] = own
        return own

    def spans(self, part: str, after_break: bool) -> Spans:
        """Return the characters of each token of a part of a text."""
        key = part, after_break
        if key not in self._spans:
            offsets = self._backend.encode(f"\n{part}" if after_break else part, add_special_tokens=False).offsets
            shift = (
                [(start - 1, end - 1) for start, end in offsets[self._tokens_of_break :]] if after_break else offsets
            )
            self._spans[key] = _spans(shift)
            self._kept += len(part)
        return self._spans[key]

    def _whole(self, texts: Sequence[str]) -> list[Encoded]:
        found = self._backend.encode_batch(texts, add_special_tokens=False) if texts else []
        return [
            Encoded(self, text, (text,), (_as_bytes(encoding.ids),), encoding)
            for text, encoding in zip(texts, found, strict=True)
        ]

    def _ids_alone(self, parts: Sequence[tuple[str, bool]]) -> list[bytes | None]:
        """Encode parts of texts, those after a line break behind one; None where their tokens do not begin with its."""
        texts = [f"\n{part}" if after_break else part for part, after_break in parts]
        found = self._backend.encode_batch_fast(texts, add_special_tokens=False) if texts else []
        encoded: list[bytes | None] = []
        for (_, after_break), encoding in zip(parts, found, strict=True):
            ids = _as_bytes(encoding.ids)
            if not after_break:
                encoded.append(ids)
            else:
                encoded.append(ids[len(self._break) :] if ids.startswith(self._break) else None)
        return encoded

    @cached_property
    def _break(self) -> bytes:
        """The tokens of a line break at the beginning of a text."""
        return _as_bytes(self.ids_of("\n"))

    @property
    def _tokens_of_break(self) -> int:
        return len(self._break) // 4


def _as_bytes(ids: Sequence[int]) -> bytes:
    return array("i", ids).tobytes()


def _spans(offsets: Sequence[tuple[int, int]]) -> Spans:
    starts, ends = zip(*offsets, strict=True) if offsets else ((), ())
    return Spans(starts, ends)


def _has_tokens_over_breaks(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a token of the vocabulary has more than white space after a line break. Without one the tokens on both
    sides of a cut are merged, or chosen, independently of each other."""
    backend = tokenizer.backend_tokenizer
    is_bytes = "ByteLevel" in f"{backend.pre_tokenizer}{backend.decoder}"
    pattern = r"Ċ[^ĊčĠĉ\0]" if is_bytes else r"\n[^\s▁\0]"
    return re.search(pattern, "\0".join(tokenizer.get_vocab())) is not None
