"""Plurals, date and time, the contractions del and al, and e for y before an i in Spanish."""

import re
from collections.abc import Sequence
from datetime import datetime

WEEKDAYS = ("lunes", "martes", "miércoles", "jueves", "viernes", "sábado", "domingo")
MONTHS = (
    "enero", "febrero", "marzo", "abril", "mayo", "junio",
    "julio", "agosto", "septiembre", "octubre", "noviembre", "diciembre",
)  # fmt: skip
# The article is never a capital in a sentence: "de El Corte Inglés" stays as it is.
_CONTRACTED = re.compile(r"\b([dD]e|[aA]) el\b")
# "calor e humo" is no Spanish, and neither is "frío y iluminación": y changes before i and hi, not before hie.
_AND_I = re.compile(r"\by(?= h?[ií](?![ae]))")


def plural(number: float) -> str:
    return "one" if number == 1 else "other"


def date_line(moment: datetime) -> str:
    clock = "Es la" if moment.hour == 1 else "Son las"
    day = f"{WEEKDAYS[moment.weekday()]}, {moment.day} de {MONTHS[moment.month - 1]} de {moment.year}"
    return f"{clock} {moment.hour}:{moment.minute:02} del {day}"


def clock(moment: datetime) -> str:
    return f"{moment.hour}:{moment.minute:02}"


def day(moment: datetime) -> str:
    return f"{WEEKDAYS[moment.weekday()]}, {moment.day} de {MONTHS[moment.month - 1]} de {moment.year}"


def friendly(text: str) -> str:
    return text[0].upper() + text[1:]


def finish(text: str) -> str:
    return _AND_I.sub("e", _CONTRACTED.sub(r"\1l", text))


def list_class(classes: Sequence[str]) -> str:
    if len(classes) == 1:
        return classes[0]
    return "fp" if all(cls.startswith("f") for cls in classes) else "mp"
