"""Plurals, the date line, elision (l'entrée, d'ici, qu'elle) and spaces before punctuation in French.

Contractions (du, au, des, aux) are forms in grammar.yaml, because "de le fermer" must not be contracted.
"""

import re
from collections.abc import Sequence
from datetime import datetime

WEEKDAYS = ("lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi", "dimanche")
MONTHS = (
    "janvier", "février", "mars", "avril", "mai", "juin",
    "juillet", "août", "septembre", "octobre", "novembre", "décembre",
)  # fmt: skip
ELIDED = {
    "le": "l'", "la": "l'", "de": "d'", "du": "de l'", "au": "à l'", "que": "qu'",
    "ne": "n'", "je": "j'", "me": "m'", "te": "t'", "se": "s'",
}  # fmt: skip
# Before a vowel or one of the words that begin with a mute h, never after a hyphen ("mets-la à 20 %").
_ELISION = re.compile(
    r"(?<![-\w'])(le|la|de|du|au|que|ne|je|me|te|se) (?!oui\b|onz)"
    r"(?=(?i:[aeiouâàéèêîïôûœ]|h(?:abit|alog|erb|eure|iver|omme|orlog|uile|umid|ygro)))"
)
_AT_MOST = re.compile(r"(?<![-\w'])à (?=(?:max|min)(?:imum)?\b)")
_IF_HE = re.compile(r"(?<![-\w'])si (?=ils?\b)")
_SPACE = re.compile(r" (?=[?!:;%»°])|(?<=«) ")
NO_BREAK = "\u00a0"


def plural(number: float) -> str:
    return "one" if abs(number) < 2 else "other"


def date_line(moment: datetime) -> str:
    return f"Nous sommes le {day(moment)}, il est {clock(moment)}"


def clock(moment: datetime) -> str:
    return f"{moment.hour}h{moment.minute:02}"


def day(moment: datetime) -> str:
    number = "1er" if moment.day == 1 else str(moment.day)
    return f"{WEEKDAYS[moment.weekday()]} {number} {MONTHS[moment.month - 1]} {moment.year}"


def friendly(text: str) -> str:
    return text[0].upper() + text[1:]


def finish(text: str) -> str:
    text = _ELISION.sub(lambda match: ELIDED[match[1]], text)
    return _SPACE.sub(NO_BREAK, _IF_HE.sub("s'", _AT_MOST.sub("au ", text)))


def list_class(classes: Sequence[str]) -> str:
    if len(classes) == 1:
        return classes[0]
    return "fp" if all(cls.startswith("f") for cls in classes) else "mp"
