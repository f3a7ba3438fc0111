"""Tokens that an answer may go on with. A model reads several in one pass: those that it would have written are kept,
and the first that it would not have is replaced. So the answer is the same as token by token."""

from collections.abc import Sequence
from itertools import pairwise

FIRST = 4
"""Tokens of a first draft within an answer."""
MOST = 32
"""Tokens of a draft within an answer."""


class Drafts:
    """Drafts of one answer: the expected reply, then what followed the last two tokens where they stood before."""

    def __init__(self, prompt: Sequence[int], reply: Sequence[int]):
        self._reply = reply
        # The reply comes last: where the prompt has the same tokens, the reply is followed.
        self._text = [*prompt, *reply]
        self._after = {pair: place for place, pair in enumerate(pairwise(self._text), start=2)}
        self._last = prompt[-1]
        self._place: int | None = None
        """Where the tokens stand that followed the last two."""
        self._reach = FIRST

    def first(self, most: int) -> list[int]:
        """Return the beginning of the expected reply."""
        return list(self._reply[:most])

    def next(self, most: int) -> list[int]:
        """Return at most so many tokens. Text that repeats itself goes on repeating itself."""
        if self._place is None or self._place >= len(self._text):
            return []
        period = len(self._text) - self._place
        return [self._text[self._place + number % period] for number in range(min(self._reach, most))]

    def written(self, tokens: list[int], drafted: int) -> None:
        """Take note of what was written after a draft of so many tokens: its beginning, and one token more."""
        kept = len(tokens) - 1
        if drafted:
            self._reach = min(2 * self._reach, MOST) if kept >= drafted else kept or self._reach // 2
        elif self._place is not None and self._text[self._place : self._place + 1] == tokens[:1]:
            self._reach = max(self._reach, 2)  # a draft would have been right
        for token in tokens:
            pair = (self._last, token)
            self._text.append(token)
            self._place = self._after.get(pair)
            self._after[pair] = len(self._text)
            self._last = token
