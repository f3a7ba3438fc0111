"""The shape of a sentence: its intent, what it is about, and what it says."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """`intent` is Home Assistant's; `domain` may have a device class after a dot; `slots` are in our words."""

    intent: str
    domain: str
    slots: frozenset[str]
