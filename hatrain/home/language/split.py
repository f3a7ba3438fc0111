"""Splits everything a language has to say into a training side and a test side, once, before anything is drawn.

What is split is split by the hash of its own text, so that the sides never depend on a seed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from typing import Literal

from hatrain.errors import BadInput
from hatrain.home.language.grammar import Name, Noun
from hatrain.home.language.load import Language
from hatrain.home.language.phrase_groups import PhraseGroups, may_be_shared, phrase_key, without_forms
from hatrain.home.language.templates import NEUTRAL, Pile, Template

Side = Literal["train", "test"]
TEST_SHARE = 0.15


def _order(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=8).digest()


def _tested(text: str, what: bytes) -> bool:
    """Whether a text is the test set's, by nothing but itself: the same words have the same side in any language."""
    digest = blake2b(text.casefold().encode(), digest_size=8, salt=what).digest()
    return int.from_bytes(digest) < TEST_SHARE * 2**64


def split_names(names: Iterable[Name], side: Side) -> tuple[Name, ...]:
    """Return one side's device names.

    One thing in one room is on the side of its first name. Its names in other styles go there too, unless their own
    words belong to the other side, as they may in another language: those are nobody's.
    """
    first: dict[tuple[str, str, str], str] = {}
    chosen = []
    for name in names:
        thing = name.domain, name.noun.base if name.noun else "", name.room.base if name.room else ""
        leads = first.setdefault(thing, name.friendly)
        if all(_tested(friendly, b"device names") == (side == "test") for friendly in (leads, name.friendly)):
            chosen.append(name)
    return tuple(chosen)


@dataclass(frozen=True)
class Request:
    """A template of a request, and the nouns or kinds of device it is for (none: any of its domain)."""

    template: Template
    nouns: frozenset[str]

    def suits(self, noun: Noun | None) -> bool:
        return not self.nouns or (noun is not None and (noun.base in self.nouns or noun.kind in self.nouns))


@cache
def tested_phrases(language: Language) -> frozenset[str]:
    """Return the keys (see `phrase_key`) of all phrases of the test side.

    Phrases that could be said in the same words (see `PhraseGroups`) are on one side, in whatever sections they stand.
    """
    groups = PhraseGroups(language)
    keys = {phrase_key(pile, template) for pile in language.piles for template in pile.templates}
    # "{device} stop" may stand in several languages: what has next to no words of its own is split by itself.
    sides: dict[str, bool] = {}
    for key in sorted(key for key in keys if may_be_shared(key)):
        sides.setdefault(groups.root(key), _tested(without_forms(key), b"phrases"))
    for pile in language.piles:
        roots = {groups.root(phrase_key(pile, template)) for template in pile.templates}
        fresh = sorted(roots - sides.keys(), key=_order)
        decided = [sides[root] for root in roots if root in sides]
        # Each side needs one of every section, whatever sections before it have decided.
        spare = len(fresh) if False in decided else len(fresh) - 1
        tested = max(0, min(max(1, round(len(roots) * TEST_SHARE)) - sum(decided), spare))
        sides |= {root: index < tested for index, root in enumerate(fresh)}
    return frozenset(key for key in keys if sides[groups.root(key)])


@dataclass(frozen=True, eq=False)
class Piles:
    """One side's templates, by what they are for."""

    requests: Mapping[tuple[str, str], tuple[Request, ...]]  # (scope, action)
    status: Mapping[str, tuple[Template, ...]]  # question
    again: tuple[Template, ...]
    then: Mapping[str, tuple[Template, ...]]  # action
    missing: tuple[Template, ...]
    already: Mapping[str, tuple[Template, ...]]  # action
    errors: tuple[Template, ...]
    retries: tuple[Template, ...]
    complaints: tuple[Template, ...]
    answers: Mapping[tuple[str, str, str], tuple[Template, ...]]  # (persona, action | status, key)


def split_piles(language: Language, side: Side) -> Piles:
    """Return one side's templates. Each section is split by itself, so that both sides can say everything."""
    requests: dict[tuple[str, str], list[Request]] = {}
    others: dict[tuple[str, str, str], list[Template]] = {}
    tested = tested_phrases(language)
    for pile in language.piles:
        for template in pile.templates:
            if (phrase_key(pile, template) in tested) != (side == "test"):
                continue
            for key in pile.key:
                if pile.kind in ("requests.txt", "fixed.txt"):
                    requests.setdefault((pile.scope, key), []).append(Request(template, pile.nouns))
                else:
                    others.setdefault((_voice(pile), pile.scope, key), []).append(template)

    def found(scope: str) -> dict[str, tuple[Template, ...]]:
        return {
            key: tuple(texts) for (voice, kind, key), texts in others.items() if kind == scope and not voice
        }

    voices = {NEUTRAL, *language.prompts}
    said = {(scope, key) for voice, scope, key in others if voice == NEUTRAL}
    wanted = {(pile.scope, key) for pile in language.piles for key in pile.key if _voice(pile) == NEUTRAL}
    if said != wanted:
        headers = (f"status {key}" if scope == "status" else key for scope, key in sorted(wanted - said))
        raise BadInput(
            f"answers/{NEUTRAL}.txt: [{header}]: all is on one side of the split; add a phrase of its own"
            for header in headers
        )
    answers = {
        (persona, scope, key): tuple(others.get((persona, scope, key), others[voice, scope, key]))
        for voice, scope, key in others
        if voice
        for persona in voices
        if (persona, scope, key) in others or voice == NEUTRAL
    }
    return Piles(
        requests={key: tuple(texts) for key, texts in requests.items()},
        status=found("status"),
        again=found("again").get("", ()),
        then=found("then"),
        missing=found("missing").get("", ()),
        already=found("already"),
        errors=found("error").get("", ()),
        retries=found("retry").get("", ()),
        complaints=found("complaint").get("", ()),
        answers=answers,
    )


def _voice(pile: Pile) -> str:
    return pile.kind.removeprefix("answers/").removesuffix(".txt") if pile.kind.startswith("answers/") else ""
