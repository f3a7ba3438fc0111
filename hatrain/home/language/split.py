"""Splits a language's names and phrases into a training side and a test side, once, before anything is drawn.

Each is split by the hash of its own text, so that the sides do not depend on a seed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from typing import Literal

from hatrain.errors import BadInput
from hatrain.home.language.grammar import Name, Noun
from hatrain.home.language.load import Language
from hatrain.home.language.phrase_groups import PhraseGroups, may_be_shared, phrase_key
from hatrain.home.language.templates import NEUTRAL, Template

Side = Literal["train", "test"]
TEST_SHARE = 0.15


def _order(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=8).digest()


def _is_test(text: str, salt: bytes) -> bool:
    """Decide a text's side by the text alone: the same text is on the same side in every language."""
    digest = blake2b(text.casefold().encode(), digest_size=8, salt=salt).digest()
    return int.from_bytes(digest) < TEST_SHARE * 2**64


def split_names(names: Iterable[Name], side: Side) -> tuple[Name, ...]:
    """Return one side's device names.

    A noun in a room is on the side of its first name. Its names in other styles join it unless their own text
    belongs to the other side, as it may in another language: those are left out of both.
    """
    first: dict[tuple[str, str, str], str] = {}
    chosen = []
    for name in names:
        thing = name.domain, name.noun.base if name.noun else "", name.room.base if name.room else ""
        first_name = first.setdefault(thing, name.friendly)
        if all(_is_test(text, b"device names") == (side == "test") for text in (first_name, name.friendly)):
            chosen.append(name)
    return tuple(chosen)


@dataclass(frozen=True)
class Request:
    """A template of a request, and the nouns, kinds of noun or groups that it is for (none: all)."""

    template: Template
    nouns: frozenset[str]

    def fits(self, group: str) -> bool:
        """Whether a question is for a group of groups.yaml."""
        return not self.nouns or group in self.nouns

    def suits(self, noun: Noun | None) -> bool:
        return not self.nouns or (noun is not None and (noun.base in self.nouns or noun.kind in self.nouns))


@cache
def phrases_of_test_side(language: Language) -> frozenset[str]:
    """Return the keys (see `phrase_key`) of the test side's phrases. Phrases of one group share a side."""
    groups = PhraseGroups(language)
    keys = {phrase_key(section, template) for section in language.sections for template in section.templates}
    # "{device} stop" may stand in several languages: phrases with few letters of their own are for training in each.
    is_test = {groups.root(key): False for key in keys if may_be_shared(key)}
    for section in language.sections:
        roots = {groups.root(phrase_key(section, template)) for template in section.templates}
        undecided = sorted(roots - is_test.keys(), key=_order)
        decided = [is_test[root] for root in roots if root in is_test]
        # Each side needs a phrase of every section, whatever earlier sections have decided.
        spare = len(undecided) if False in decided else len(undecided) - 1
        tests = max(0, min(max(1, round(len(roots) * TEST_SHARE)) - sum(decided), spare))
        is_test |= {root: index < tests for index, root in enumerate(undecided)}
    return frozenset(key for key in keys if is_test[groups.root(key)])


@dataclass(frozen=True, eq=False)
class Templates:
    """One side's templates, by what they are for."""

    requests: Mapping[tuple[str, str], tuple[Request, ...]]  # (scope, action)
    status: Mapping[str, tuple[Template, ...]]  # question
    group: Mapping[str, tuple[Request, ...]]  # question about several
    ask: Mapping[str, tuple[Template, ...]]  # topic of talk.txt and timers.txt
    say: Mapping[str, tuple[Template, ...]]
    again: tuple[Template, ...]
    then: Mapping[str, tuple[Template, ...]]  # action
    missing: tuple[Template, ...]
    already: Mapping[str, tuple[Template, ...]]  # action
    errors: tuple[Template, ...]
    corrections: tuple[Template, ...]
    retries: tuple[Template, ...]
    complaints: tuple[Template, ...]
    answers: Mapping[tuple[str, str, str], tuple[Template, ...]]  # (persona, action | status, key)


def split_templates(language: Language, side: Side) -> Templates:
    """Return one side's templates. Raises BadInput for a section of neutral answers that the side has nothing of."""
    requests: dict[tuple[str, str], list[Request]] = {}
    group: dict[str, list[Request]] = {}
    others: dict[tuple[str, str, str], list[Template]] = {}  # (persona or "", scope, key)
    tests = phrases_of_test_side(language)
    for section in language.sections:
        for template in section.templates:
            if (phrase_key(section, template) in tests) != (side == "test"):
                continue
            for key in section.keys:
                if section.file in ("requests.txt", "fixed.txt"):
                    requests.setdefault((section.scope, key), []).append(Request(template, section.nouns))
                elif section.scope == "group" and not section.persona:
                    group.setdefault(key, []).append(Request(template, section.nouns))
                else:
                    others.setdefault((section.persona, section.scope, key), []).append(template)

    def by_key(wanted: str) -> dict[str, tuple[Template, ...]]:
        return {
            key: tuple(templates)
            for (persona, scope, key), templates in others.items()
            if scope == wanted and not persona
        }

    neutral = {(scope, key) for persona, scope, key in others if persona == NEUTRAL}
    needed = {
        (section.scope, key) for section in language.sections if section.persona == NEUTRAL for key in section.keys
    }
    if neutral != needed:
        headers = (f"status {key}" if scope == "status" else key for scope, key in sorted(needed - neutral))
        raise BadInput(
            f"{language.name}: answers/{NEUTRAL}.txt: [{header}]: no phrase for the {side} side; add a phrase "
            "that no other section has"
            for header in headers
        )
    answers = {
        (persona, scope, key): tuple(others.get((persona, scope, key), others[source, scope, key]))
        for source, scope, key in others
        if source
        for persona in {NEUTRAL, *language.prompts}
        if (persona, scope, key) in others or source == NEUTRAL
    }
    return Templates(
        requests={key: tuple(templates) for key, templates in requests.items()},
        status=by_key("status"),
        group={key: tuple(templates) for key, templates in group.items()},
        ask=by_key("ask"),
        say=by_key("say"),
        again=by_key("again").get("", ()),
        then=by_key("then"),
        missing=by_key("missing").get("", ()),
        already=by_key("already"),
        errors=by_key("error").get("", ()),
        corrections=by_key("correction").get("", ()),
        retries=by_key("retry").get("", ()),
        complaints=by_key("complaint").get("", ()),
        answers=answers,
    )
