"""Plurals, date and time, names as typed and contractions (von dem → vom) in German."""

import re
from collections.abc import Sequence
from datetime import datetime

WEEKDAYS = ("Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag", "Sonntag")
MONTHS = (
    "Januar", "Februar", "März", "April", "Mai", "Juni",
    "Juli", "August", "September", "Oktober", "November", "Dezember",
)  # fmt: skip
CONTRACTED = {
    "von dem": "vom", "bei dem": "beim", "zu dem": "zum", "an dem": "am", "zu der": "zur",
}  # fmt: skip
_CONTRACTED = re.compile(r"\b(von dem|bei dem|zu dem|an dem|zu der)(?= \w)", re.IGNORECASE)


def plural(number: float) -> str:
    return "one" if number == 1 else "other"


def date_line(moment: datetime) -> str:
    day = f"{WEEKDAYS[moment.weekday()]}, {moment.day}. {MONTHS[moment.month - 1]} {moment.year}"
    return f"Aktuelles Datum und Uhrzeit: {day}, {moment.hour:02}:{moment.minute:02} Uhr"


def clock(moment: datetime) -> str:
    return f"{moment.hour}:{moment.minute:02} Uhr"


def day(moment: datetime) -> str:
    return f"{WEEKDAYS[moment.weekday()]}, der {moment.day}. {MONTHS[moment.month - 1]} {moment.year}"


def friendly(text: str) -> str:
    return text[0].upper() + text[1:]


def finish(text: str) -> str:
    # Most sentences have nothing to contract, and two plain searches are faster than the pattern.
    if " dem " in text or "u der " in text:
        return _CONTRACTED.sub(_contract, text)
    return text


def _contract(match: re.Match[str]) -> str:
    short = CONTRACTED[match[0].lower()]
    return short.capitalize() if match[0][0].isupper() else short


def list_class(classes: Sequence[str]) -> str:
    return "pl" if len(classes) > 1 else classes[0]
