"""Wording that messages share."""


def count(number: float, thing: str, things: str | None = None) -> str:
    """Return `1 rank`, `2 ranks`, `1,000 ranks`; `things` is the plural where an added s is not."""
    shown = f"{number:,}" if isinstance(number, int) else f"{number:g}"
    return f"{shown} {thing if number == 1 else things or thing + 's'}"
