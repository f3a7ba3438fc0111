"""Tokens that an answer may go on with. A model reads several in one pass: those that it would have written are kept,
and the first that it would not have is replaced. So the answer is the same as token by token."""

from collections.abc import Sequence

LONGEST = 3
"""Last tokens of an answer that are looked up, at most."""
FIRST = 4
"""Tokens of a first draft within an answer."""
LEAST, MOST = 2, 32
"""Tokens of a draft within an answer, where there is one."""


class Common:
    """What followed in the expected replies of all rows, and in their answers so far, which resemble each other."""

    def __init__(self) -> None:
        self._after: dict[tuple[int, ...], tuple[list[int], int]] = {}

    def read(self, before: Sequence[int], text: Sequence[int]) -> None:
        """Take note of a text that stands after these tokens."""
        whole = [*before, *text]
        for place in range(len(before), len(whole)):
            self.add(whole, place)

    def add(self, text: list[int], place: int) -> None:
        """Take note of the token at this place. The text is kept, and may grow."""
        for length in range(1, min(LONGEST, place) + 1):
            self._after[tuple(text[place - length : place])] = text, place

    def after(self, text: list[int], most: int) -> list[int]:
        """Return at most so many tokens that followed the last ones of a text: as many last ones as were seen."""
        for length in range(min(LONGEST, len(text)), 0, -1):
            if (seen := self._after.get(tuple(text[-length:]))) is not None:
                of, place = seen
                return of[place : place + most]
        return []


class Drafts:
    """Drafts of one answer: the expected reply, then what followed the last tokens where they stood before in its own
    prompt, reply and answer, else in others."""

    def __init__(self, prompt: Sequence[int], reply: Sequence[int], common: Common):
        self._reply, self._common = reply, common
        # The reply comes last: where the prompt has the same tokens, the reply is followed.
        self._text = [*prompt, *reply]
        self._after = {tuple(self._text[place - LONGEST : place]): place for place in range(LONGEST, len(self._text))}
        self._answer = list(prompt[-LONGEST:])
        """With what stands before it."""
        self._reach = FIRST

    def first(self, most: int) -> list[int]:
        """Return the beginning of the expected reply."""
        return list(self._reply[:most])

    def next(self, most: int) -> list[int]:
        """Return at most so many tokens. Text that repeats itself goes on repeating itself."""
        most = min(most, self._reach)
        place = self._after.get(tuple(self._answer[-LONGEST:]))
        if place is None:
            return self._common.after(self._answer, most)
        period = len(self._text) - place
        return [self._text[place + number % period] for number in range(most)]

    def written(self, tokens: list[int], drafted: int) -> None:
        """Take note of what was written after a draft of so many tokens: its beginning, and one token more."""
        if drafted:
            kept = len(tokens) - 1
            self._reach = min(2 * self._reach, MOST) if kept >= drafted else max(kept, LEAST)
        for token in tokens:
            self._answer.append(token)
            self._common.add(self._answer, len(self._answer) - 1)
            self._after[tuple(self._answer[-LONGEST - 1 : -1])] = len(self._text)
            self._text.append(token)
