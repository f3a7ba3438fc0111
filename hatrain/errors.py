"""Errors that a user can fix, one line each."""

import difflib
from collections.abc import Iterable


class BadInput(Exception):
    """Input that cannot be used. `problems` holds one complete line for each mistake."""

    def __init__(self, problems: str | Iterable[str]):
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


def nearest(name: str, accepted: Iterable[str]) -> str:
    """Return `; did you mean X?` for the nearest accepted name; an empty string when none is near, or `name` is
    accepted."""
    options = list(accepted)
    near = [] if name in options else difflib.get_close_matches(name, options, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""
