"""Plural classes, date and time, names as typed, and `ze` and `we` before clusters in Polish."""

import re
from collections.abc import Sequence
from datetime import datetime

WEEKDAYS = ("poniedziałek", "wtorek", "środa", "czwartek", "piątek", "sobota", "niedziela")
MONTHS = (
    "stycznia", "lutego", "marca", "kwietnia", "maja", "czerwca",
    "lipca", "sierpnia", "września", "października", "listopada", "grudnia",
)  # fmt: skip
# "z" takes a vowel before a sibilant and another consonant (ze światłem, but z szafką), "w" before w or f and one.
_CLUSTERS = re.compile(
    r"\b(z|w)(?= (?:(?<=z )(?:sz|s(?!z)|ś|z|ź|ż)|(?<=w )[wf])[bcćdfghjklłmnńprstwzśźż])", re.IGNORECASE
)


def plural(number: float) -> str:
    """Return one (minuta), few (2, 3, 4, 22 minuty), many (5, 12, 25 minut) or other (1,5 minuty)."""
    if number != int(number):
        return "other"
    if number == 1:
        return "one"
    return "few" if number % 10 in (2, 3, 4) and number % 100 not in (12, 13, 14) else "many"


def date_line(moment: datetime) -> str:
    day = f"{WEEKDAYS[moment.weekday()]}, {moment.day} {MONTHS[moment.month - 1]} {moment.year} r."
    return f"Aktualna data i godzina: {day}, {moment.hour}:{moment.minute:02}"


def clock(moment: datetime) -> str:
    return f"{moment.hour}:{moment.minute:02}"


def day(moment: datetime) -> str:
    return f"{WEEKDAYS[moment.weekday()]}, {moment.day} {MONTHS[moment.month - 1]} {moment.year}"


def friendly(text: str) -> str:
    return text[0].upper() + text[1:]


def finish(text: str) -> str:
    return _CLUSTERS.sub(r"\1e", text)


def list_class(classes: Sequence[str]) -> str:
    return "pl" if len(classes) > 1 else classes[0]
