"""Finds numbers with their units, and durations, in an answer."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Unit = Literal["percent", "degree", ""]

_NUMBER = r"(?<![\w.,:])([-−]?\d+(?:[.,]\d+)?)(?![\d:])"
_CLOCK = re.compile(r"(?<!\d)(\d{1,2}):(\d{2})(?::(\d{2}))?(?!\d)")


@dataclass(frozen=True)
class Number:
    """A number of a text. `half` is half a unit of its last decimal."""

    value: float
    unit: Unit
    half: float


class Numbers:
    """Reads numbers in one language. `units` are its words for `percent`, `degree`, `hour`, `minute` and `second`."""

    def __init__(self, units: Mapping[str, Iterable[str]]):
        percent = "|".join(["%", *_words(units["percent"])])
        degree = "|".join(["°", *_words(units["degree"])])
        self._pattern = re.compile(rf"{_NUMBER}(?:\s*(?:(?P<percent>{percent})|(?P<degree>{degree})))?", re.IGNORECASE)
        seconds = {"hour": 3600, "minute": 60, "second": 1}
        self._amounts = [
            (re.compile(rf"{_NUMBER}\s*(?:{'|'.join(_words(units[unit]))})", re.IGNORECASE), size)
            for unit, size in seconds.items()
        ]

    def numbers(self, text: str) -> list[Number]:
        found = []
        for match in self._pattern.finditer(text):
            unit: Unit = "percent" if match["percent"] else "degree" if match["degree"] else ""
            decimals = len(re.split(r"[.,]", match[1])[1]) if re.search(r"[.,]", match[1]) else 0
            found.append(Number(_parsed(match[1]), unit, 0.5 * 10.0**-decimals))
        return found

    def seconds(self, text: str) -> list[float]:
        """Return the durations of a text: each clock time, and the sum of its hours, minutes and seconds."""
        clocks = [
            (int(match[1]) * 3600 + int(match[2]) * 60 + int(match[3] or 0)) * 1.0 for match in _CLOCK.finditer(text)
        ]
        amounts = [_parsed(match[1]) * size for pattern, size in self._amounts for match in pattern.finditer(text)]
        return [*clocks, *([sum(amounts)] if amounts else [])]


def _words(words: Iterable[str]) -> list[str]:
    return [rf"{re.escape(word)}(?!\w)" for word in sorted(words, key=len, reverse=True)]


def _parsed(text: str) -> float:
    return float(text.replace("−", "-").replace(",", "."))
