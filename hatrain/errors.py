"""Errors that a user can fix, one line each."""

import difflib
from collections.abc import Iterable


class BadInput(Exception):
    """Input that cannot be used. `problems` holds one complete line for each mistake."""

    def __init__(self, problems: str | Iterable[str]):
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


LEAST_PART = 3
"""Letters that a part of a name must have to stand for it."""


def plain(name: str) -> str:
    """Return a name as it is compared: in lower case, with underscores."""
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def nearest(name: str, accepted: Iterable[str]) -> str:
    """Return `; did you mean X?` for the nearest accepted name; an empty string when none is near, or `name` is
    accepted. The case of letters, and `-` for `_`, make no difference."""
    options = list(accepted)
    if name in options:
        return ""
    by_plain = {plain(option): option for option in reversed(options)}
    near = difflib.get_close_matches(plain(name), by_plain, n=1, cutoff=0.6)
    if not near and len(name) >= LEAST_PART:
        near = [option for option in by_plain if plain(name) in option][:1]
    return f"; did you mean {by_plain[near[0]]}?" if near else ""
