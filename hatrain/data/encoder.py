"""From texts to tokens. Lines that many rows share, such as tools and devices, are tokenized once: a text is cut after
line breaks, where that is known to change no token."""

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, islice, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from hatrain.data.template import added_tokens

Ids = NDArray[np.int32]

_CUT = re.compile(r"(?<=\S)\n(?=\S)")
"""A single line break. What else white space does to its neighbours differs by tokenizer."""
_BREAK = "\n"
_CHECKED = 64
"""One text in so many is compared with its tokens as a whole, whatever is known of its cuts."""
_TRIAL = 256
"""Texts after which cutting stops if it does not pay."""
_PAYS = 0.4
"""The share of characters that must come again. Below it, cutting costs about what it saves."""
_REMEMBERED = 64 * 2**20
"""Characters of the pieces that are kept."""
_SHORT = 200
_MOST_TAILS = 1000
"""Characters of the ends of prompts whose tokens are kept, and how many of them."""


class Inexact(Exception):
    """A cut that had changed no token does in another text: what was encoded before it may be wrong too."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text: its tokens, and the characters that each covers, counted from the beginning of the piece."""

    ids: bytes
    """[tokens] of int32"""
    starts: "array[int]"
    ends: "array[int]"


class Encoded:
    """The tokens of a text, without those that a tokenizer adds around it."""

    def __init__(self, encoder: "Encoder", text: str, cuts: Sequence[int], pieces: Sequence[Piece]):
        self._encoder, self.text, self._pieces = encoder, text, pieces
        self._cuts = [0, *cuts]
        self.ids: Ids = np.frombuffer(b"".join([piece.ids for piece in pieces]), dtype=np.int32)
        """[tokens]"""

    @cached_property
    def _counts(self) -> list[int]:
        """The tokens before each piece."""
        return [0, *accumulate(len(piece.starts) for piece in self._pieces)]

    def starting_before(self, position: int) -> int:
        """Count the tokens that start before a character."""
        piece = bisect_right(self._cuts, position) - 1
        return self._counts[piece] + bisect_left(self._pieces[piece].starts, position - self._cuts[piece])

    def ending_by(self, position: int) -> int:
        """Count the tokens that end at a character or before it."""
        piece = bisect_right(self._cuts, position) - 1
        return self._counts[piece] + bisect_right(self._pieces[piece].ends, position - self._cuts[piece])

    def start_of(self, token: int) -> int:
        """Return the first character that a token covers."""
        piece = bisect_right(self._counts, token) - 1
        return self._cuts[piece] + self._pieces[piece].starts[token - self._counts[piece]]

    def before(self, position: int) -> int | None:
        """Return how many tokens `text[:position]` has on its own; None if the text's tokens do not begin with them."""
        piece = bisect_right(self._cuts, position) - 1
        cut = self._cuts[piece]
        if cut == position:
            return self._counts[piece]
        if tokens := list(self._encoder.added.finditer(self.text, cut, position)) if self._encoder.added else []:
            # Added tokens are cut out of a text before the rest is tokenized. After the last one come nearly always the
            # same few characters.
            start = tokens[-1].start()
            own, first = self._encoder.alone(self.text[start:position], after_break=False), self.starting_before(start)
            if own is not None and self.ids[first : first + len(own) // 4].tobytes() == own:
                return first + len(own) // 4
        own = self._encoder.alone(self.text[cut:position], after_break=piece > 0)
        ids = self._pieces[piece].ids
        if own is not None and ids.startswith(own):
            return self._counts[piece] + len(own) // 4
        whole = self._encoder.ids_of(self.text[:position])
        return len(whole) if self.ids[: len(whole)].tolist() == whole else None


class Encoder:
    """Encodes texts with one tokenizer.

    A cut is used after it was seen to change no token: in a whole text, between the same two characters, with a
    vocabulary in which no token goes on after a line break.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._tokenizer = tokenizer
        self.added = added_tokens(tokenizer)
        self._is_whole = False
        self._good: set[str] = set()
        self._bad: set[str] = set()
        """The characters before and after cuts that change no token, and those that do, or may."""
        self._pieces: dict[str, Piece] = {}
        self._tails: dict[tuple[str, bool], bytes | None] = {}
        self._texts = self._characters = self._new = self._kept = 0

    @property
    def _backend(self) -> Any:
        return self._tokenizer.backend_tokenizer

    def encode_whole(self) -> None:
        """Cut no more."""
        self._is_whole = True

    @cached_property
    def _may_cut(self) -> bool:
        return not _has_tokens_over_breaks(self._tokenizer)

    def ids_of(self, text: str) -> list[int]:
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def alone(self, text: str, *, after_break: bool) -> bytes | None:
        """Return the tokens of the end of a text, which is after a cut or the text itself; None if it has none of its
        own."""
        key = text, after_break
        if key in self._tails:
            return self._tails[key]
        (piece,) = self._encoded([(text, after_break)])
        own = piece.ids if piece else None
        if len(text) <= _SHORT and len(self._tails) < _MOST_TAILS:
            self._tails[key] = own
        return own

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Return the tokens of each text. Raises Inexact."""
        cuts: list[list[int]] = [[] if self._is_whole else self._cuts_of(text) for text in texts]
        if not any(cuts) or not self._may_cut:
            return [self._as_one(text, piece) for text, piece in zip(texts, self._whole(texts), strict=True)]
        unknown = [self._unknown(text, own) for text, own in zip(texts, cuts, strict=True)]
        number = self._texts
        checked = [
            index
            for index, pairs in enumerate(unknown)
            if pairs or not cuts[index] or not (number + index) % _CHECKED
        ]
        self._encode_new(texts, cuts)
        whole = dict(zip(checked, self._whole([texts[index] for index in checked]), strict=True))
        encoded = []
        for index, (text, own) in enumerate(zip(texts, cuts, strict=True)):
            pieces = self._known(text, own)
            if index in whole:
                self._learn(unknown[index], pieces is None or _joined(pieces, own) == whole[index], pieces is None)
                encoded.append(self._as_one(text, whole[index]))
            elif pieces is None:
                encoded.append(self._as_one(text, *self._whole([text])))
            else:
                encoded.append(Encoded(self, text, own, pieces))
        self._count(texts)
        return encoded

    def _known(self, text: str, cuts: Sequence[int]) -> list[Piece] | None:
        """Return a text's pieces; None if one of its cuts may not be used."""
        pieces = [piece for part in _parts(text, cuts) if (piece := self._pieces.get(part))]
        is_whole = len(pieces) <= len(cuts) or (self._bad and not self._bad.isdisjoint(_pairs(text, cuts)))
        return None if is_whole else pieces

    def _learn(self, pairs: set[str], is_same: bool, is_joined: bool) -> None:
        """Note whether cuts between these characters gave the tokens of the whole text."""
        if is_same and not is_joined:
            self._good |= pairs
        elif pairs:
            self._bad |= pairs
        elif not is_same:
            raise Inexact

    def _cuts_of(self, text: str) -> list[int]:
        ends = [match.end() for match in _CUT.finditer(text)] if not text.startswith(_BREAK) else []
        return [end for end in ends if text[end - 2] + text[end] not in self._bad] if self._bad else ends

    def _unknown(self, text: str, cuts: Sequence[int]) -> set[str]:
        return set(_pairs(text, cuts)) - self._good

    def _encode_new(self, texts: Sequence[str], cuts: Sequence[Sequence[int]]) -> None:
        """Encode the pieces that were not seen before."""
        if self._kept > _REMEMBERED:
            self._pieces.clear()
            self._kept = 0
        parts = (part for text, own in zip(texts, cuts, strict=True) for part in _parts(text, own))
        new = list(dict.fromkeys(part for part in parts if part not in self._pieces))
        wanted = [(part.removeprefix(_BREAK), part.startswith(_BREAK)) for part in new]
        for part, piece in zip(new, self._encoded(wanted), strict=True):
            if piece:
                self._pieces[part] = piece
            self._kept += len(part)
            self._new += len(part)

    def _count(self, texts: Sequence[str]) -> None:
        """Stop cutting where it does not pay."""
        before, self._texts = self._texts, self._texts + len(texts)
        self._characters += sum(map(len, texts))
        if before < _TRIAL <= self._texts and self._new > (1 - _PAYS) * self._characters:
            self.encode_whole()

    # --- the tokenizer itself -------------------------------------------------------------------------------

    def _batch(self, texts: Sequence[str]) -> list[Any]:
        # Somebody else may have set them since.
        self._backend.no_truncation()
        self._backend.no_padding()
        return list(self._backend.encode_batch(texts, add_special_tokens=False)) if texts else []

    def _whole(self, texts: Sequence[str]) -> list[Piece]:
        return [_piece(encoding.ids, encoding.offsets) for encoding in self._batch(texts)]

    def _encoded(self, parts: Sequence[tuple[str, bool]]) -> list[Piece | None]:
        """Encode parts of texts, those after a cut behind a line break; None where a token joins them."""
        found = self._batch([f"{_BREAK}{part}" if after_break else part for part, after_break in parts])
        return [
            _after_break(encoding.ids, encoding.offsets) if after_break else _piece(encoding.ids, encoding.offsets)
            for (_, after_break), encoding in zip(parts, found, strict=True)
        ]

    def _as_one(self, text: str, piece: Piece) -> Encoded:
        return Encoded(self, text, (), (piece,))


def _piece(ids: Sequence[int], offsets: Sequence[tuple[int, int]]) -> Piece:
    return Piece(
        array("i", ids).tobytes(), array("i", [start for start, _ in offsets]), array("i", [end for _, end in offsets])
    )


def _after_break(ids: Sequence[int], offsets: Sequence[tuple[int, int]]) -> Piece | None:
    """Return a piece without the line break in front of it; None if a token covers both."""
    first = next((number for number, (start, _) in enumerate(offsets) if start >= 1), len(offsets))
    if any(end > 1 for _, end in offsets[:first]):
        return None
    return _piece(ids[first:], [(start - 1, end - 1) for start, end in islice(offsets, first, None)])


def _joined(pieces: Sequence[Piece], cuts: Sequence[int]) -> Piece:
    starts, ends = array("i"), array("i")
    for piece, cut in zip(pieces, [0, *cuts], strict=True):
        starts.extend([start + cut for start in piece.starts])
        ends.extend([end + cut for end in piece.ends])
    return Piece(b"".join([piece.ids for piece in pieces]), starts, ends)


def _parts(text: str, cuts: Sequence[int]) -> list[str]:
    """The parts of a text. One after a cut begins with the line break before it, which tells it from a first one."""
    if not cuts:
        return []
    return [text[: cuts[0]], *(text[start - 1 : end] for start, end in pairwise([*cuts, len(text)]))]


def _pairs(text: str, cuts: Sequence[int]) -> list[str]:
    """The characters around each cut's line break."""
    return [text[cut - 2] + text[cut] for cut in cuts]


def _has_tokens_over_breaks(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a token of the vocabulary has more than white space after a line break. Without one the tokens on both
    sides of a cut are merged, or chosen, independently of each other."""
    backend = tokenizer.backend_tokenizer
    is_bytes = "ByteLevel" in f"{backend.pre_tokenizer}{backend.decoder}"
    pattern = r"Ċ[^ĊčĠĉ\0]" if is_bytes else r"\n[^\s▁\0]"
    return re.search(pattern, "\0".join(tokenizer.get_vocab())) is not None
