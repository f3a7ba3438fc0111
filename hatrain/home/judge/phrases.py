"""Finds a language's words in a text: phrases of words.yaml, negations, and sentences made from its templates."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_CLAUSE_END = r"(?=\s*(?:[.,;:!?…)\"»“”]|\Z|\n))"
_SPACE = r"\s+"
_CLAUSE = re.compile(r"[.,;:!?…()\"\n]")
_REACH = 3
"""Words between a negation and what it negates, the negation included."""
_PLACEHOLDER = re.compile(r"(\s*)\{(\w+)\[(\w+)\]\}")


@dataclass(frozen=True)
class Mention:
    """A phrase that stands in a text."""

    meaning: str
    negated: bool


class Phrases:
    """Phrases by what they mean. Of two that overlap in a text the longer one counts."""

    def __init__(self, phrases: Mapping[str, Iterable[str]], negations: Sequence[str] = ()):
        listed = {(phrase.casefold(), meaning) for meaning, texts in phrases.items() for phrase in texts}
        ordered = sorted(listed, key=lambda entry: (-len(entry[0]), entry))
        self._patterns = [(re.compile(_pattern(phrase)), meaning) for phrase, meaning in ordered]
        self._negation = re.compile("|".join(map(_pattern, negations))) if negations else None

    def mentions(self, text: str, names: Iterable[str] = ()) -> list[Mention]:
        """Return what a text mentions, in order. What stands inside one of the `names` does not count."""
        text = fold(text)
        named = [match.span() for name in names if name for match in _name(name).finditer(text)]
        taken: dict[tuple[int, int], set[str]] = {}
        for pattern, meaning in self._patterns:
            for match in pattern.finditer(text):
                span = match.span()
                if all(span == other or span[1] <= other[0] or span[0] >= other[1] for other in taken):
                    taken.setdefault(span, set()).add(meaning)
        return [
            Mention(meaning, self._is_negated(text[:start]))
            for (start, end), meanings in sorted(taken.items())
            if not any(first <= start and end <= last for first, last in named)
            for meaning in sorted(meanings)
        ]

    def _is_negated(self, before: str) -> bool:
        clause = _CLAUSE.split(before)[-1]
        near = " ".join(clause.split()[-_REACH:])
        return bool(self._negation and self._negation.search(near))


class Sentences:
    """Sentences that templates can make, whatever device they are about.

    `agreement` are the words of a language that agree with a device: form → class → word.
    """

    def __init__(self, templates: Iterable[str], agreement: Mapping[str, Mapping[str, str]], negations: Sequence[str]):
        self._patterns = [re.compile(_template(text, agreement)) for text in dict.fromkeys(templates)]
        self._negation = re.compile("|".join(map(_pattern, negations)))

    def include(self, text: str) -> bool:
        """Whether the text, or one of its sentences, is made by a template and negates nothing that it fills in."""
        folded = fold(text)
        candidates = [folded, *re.split(r"(?<=[.!?])\s+", folded)]
        return any(
            not any(part and self._negation.search(part) for part in match.groups())
            for candidate in candidates
            for pattern in self._patterns
            if (match := pattern.fullmatch(candidate.strip(" .!?¡¿")))
        )


def fold(text: str) -> str:
    """Write a text as phrases are compared: one space, no case, one kind of apostrophe, no emphasis."""
    return fold_inside(text).strip()


def without(text: str, names: Iterable[str]) -> str:
    """Leave the names of devices out of a text, so that no number in them counts."""
    text = fold(text)
    for name in sorted(filter(None, names), key=len, reverse=True):
        text = _name(name).sub(" ", text)
    return text


def _name(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(fold(name))}(?!\w)")


def _pattern(phrase: str) -> str:
    core = phrase.casefold().rstrip("$")
    words = [re.escape(word).replace(r"\*", r"\w*") for word in core.split()]
    ending = _CLAUSE_END if phrase.endswith("$") else ""
    return rf"(?<!\w)(?:{_SPACE.join(words)})(?!\w){ending}"


def _template(text: str, agreement: Mapping[str, Mapping[str, str]]) -> str:
    """Return a pattern for a template's sentences. Contractions may have joined a name with the word before it."""
    pattern, position = "", 0
    text = text.strip(" .!?¡¿")
    for match in _PLACEHOLDER.finditer(text):
        pattern += re.escape(fold_inside(text[position : match.start()]))
        gap, slot, form = match.groups()
        if slot == "device" and form in agreement:
            words = sorted({re.escape(word.casefold()) for word in agreement[form].values()}, key=len, reverse=True)
            pattern += re.escape(gap) + f"(?:{'|'.join(words)})"
        else:
            pattern += r"(.+?)"
        position = match.end()
    return pattern + re.escape(fold_inside(text[position:]))


def fold_inside(text: str) -> str:
    text = re.sub(r"[*`]", "", text.replace("’", "'"))
    return re.sub(r"[ \t\u00a0\u202f]+", " ", text).casefold()
