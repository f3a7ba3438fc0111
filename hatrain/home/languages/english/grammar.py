"""Plurals, date and time, and capitals of names in English. Contractions are written out."""

from collections.abc import Sequence
from datetime import datetime

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
AS_WRITTEN = {"TV", "AC", "3D", "LED", "HDMI", "PC", "DJ", "AV"}


def plural(number: float) -> str:
    return "one" if number == 1 else "other"


def date_line(moment: datetime) -> str:
    hour, half = moment.hour % 12 or 12, "AM" if moment.hour < 12 else "PM"
    day = f"{WEEKDAYS[moment.weekday()]} {MONTHS[moment.month - 1]} {moment.day}, {moment.year}"
    return f"The current time and date is {hour:02}:{moment.minute:02} {half} on {day}"


def clock(moment: datetime) -> str:
    hour, half = moment.hour % 12 or 12, "AM" if moment.hour < 12 else "PM"
    return f"{hour}:{moment.minute:02} {half}"


def day(moment: datetime) -> str:
    return f"{WEEKDAYS[moment.weekday()]}, {MONTHS[moment.month - 1]} {moment.day}, {moment.year}"


def friendly(text: str) -> str:
    return " ".join(word if word in AS_WRITTEN else word[0].upper() + word[1:] for word in text.split())


def finish(text: str) -> str:
    return text


def list_class(classes: Sequence[str]) -> str:
    return "pl" if len(classes) > 1 else classes[0]
