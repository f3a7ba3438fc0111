"""Judges an answer: would its calls do to the home what should be done, and do its words say what is so?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hatrain.home.calls.answer import Answer
from hatrain.home.calls.compare import COLOR_KEYS, Call, pair_off, same_call
from hatrain.home.calls.prompt import PromptContents
from hatrain.home.clients import CLIENTS
from hatrain.home.clients.satellite_tools import SATELLITE_TOOLS
from hatrain.home.judge import anybody
from hatrain.home.judge.asked import Asked
from hatrain.home.judge.effects import Effects, Understand, effect_problems, effects
from hatrain.home.judge.sayings import Sayings, sayings_of

AFTER_A_CALL = "word after a call"
"""The kind of a turn that follows a tool's result and calls nothing: the model reports the outcome."""

NO_REFUSAL = (AFTER_A_CALL, "status", "HassRespond", "HassNevermind")
"""Kinds whose answer is text without a call, and not a refusal."""


@dataclass(frozen=True)
class Case:
    """One request: what is expected, in which home, by which client.

    `known` has the devices in their states before the answer. Without a `client` every known way of writing a call
    counts. `language` is a name or code; the words of an answer in another language are not judged.
    """

    expected: Answer
    known: PromptContents
    client: str | None = None
    language: str = ""
    kind: str = ""
    asked: tuple[Asked, ...] = ()
    domains: tuple[str, ...] = ()
    """The domains of the devices that it is about, where the row names them."""

    @property
    def understand(self) -> Understand:
        return understand_as(self.client)

    @property
    def sayings(self) -> Sayings | None:
        return sayings_of(self.language)

    @property
    def says_the_answer(self) -> bool:
        """Whether the answer to a question is due in words; a turn that first looks is not yet the answer."""
        return bool(self.asked) and not self.expected.calls


@dataclass(frozen=True)
class Judgement:
    """The judgement of one answer. Every rate of an evaluation is a sum of these counts."""

    strict: bool
    """The home ends as expected, and the words say what is so."""
    problems: tuple[str, ...]
    """Why not, one line each; empty if `strict`."""
    same_calls: bool
    """Exactly the expected calls, each once, and no others: what was called strict before answers were carried out."""
    points: int
    """Of the compatible measure (see `compatible_points`)."""
    possible_points: int
    color_mismatches: int
    """Points given although the colour differs."""
    lines: int
    """Lines where a call belongs."""
    valid_lines: int
    """Those that are a call in valid JSON."""
    targeted_calls: int
    """Calls that name an entity, if the prompt lists entities."""
    known_targets: int
    """Those whose entities are all listed."""
    called_services: int
    """Calls, if the prompt lists services."""
    known_services: int
    """Those whose service is listed."""
    calls: int
    executed_calls: int
    """Calls that the client carries out."""
    questions: int
    """1 where the answer has to say a state or a value."""
    answered: int
    """1 where it does."""
    call_due: bool
    """Whether a call is needed: without one the home would not end as expected, or nothing would be looked at."""
    call_made: bool


def understand_as(client: str | None) -> Understand:
    """Return what a client does with a call; without one, every known way of writing a call counts."""
    return CLIENTS[client].understand if client else anybody.understand


def judge(case: Case, answer: Answer) -> Judgement:
    """Judge one answer. It accepts any answer and never raises.

    An answer that is empty, does not end, or has a broken, empty or open block is wrong, whatever is expected.
    """
    expected, known = case.expected, case.known
    due = effects(expected.calls, known.devices, case.understand)
    found = effects(answer.calls, known.devices, case.understand)
    unsaid = _unsaid(case, answer) if case.says_the_answer else ()
    form = _form_problems(answer)
    problems = (
        *form,
        *effect_problems(due, found),
        *unsaid,
        *_false_words(case, answer, found),
    )
    points, mismatches = compatible_points(expected, answer)
    targeted = [call for call in answer.calls if known.devices and named(call)]
    called = answer.calls if known.services else ()
    return Judgement(
        strict=not problems,
        problems=problems,
        same_calls=not form and _same_calls(expected.calls, answer.calls, known),
        points=points,
        possible_points=len(expected.calls) or 1,
        color_mismatches=mismatches,
        lines=len(answer.calls) + len(answer.bad_lines),
        valid_lines=len(answer.calls),
        targeted_calls=len(targeted),
        known_targets=sum(knows_entities(call, known) for call in targeted),
        called_services=len(called),
        known_services=sum(call.service in known.services for call in called),
        calls=len(answer.calls),
        executed_calls=len(answer.calls) - len(found.failed),
        questions=int(case.says_the_answer),
        answered=int(case.says_the_answer and answer.ended and not unsaid),
        call_due=bool(effect_problems(due, effects((), known.devices, case.understand))),
        call_made=answer.blocks > 0,
    )


def compatible_points(expected: Answer, answer: Answer) -> tuple[int, int]:
    """Return (points, colour mismatches) of the measure that published figures of these models use.

    Each expected call is a point; so is an answer without calls if none is expected. Calls are compared key by key,
    not by effect; extra calls cost nothing; a call that differs only in its colour gets its point and is counted.
    Unlike the original, a call is counted once, and an answer without calls must have text.
    """
    if not expected.calls:
        return int(answer.blocks == 0 and bool(answer.text.strip()) and answer.ended), 0
    open_calls = list(expected.calls)
    points = mismatches = 0
    for call in answer.calls:
        if call in open_calls:
            open_calls.remove(call)
            points += 1
        elif near := [due for due in open_calls if _differs_in_color_alone(due, call)]:
            open_calls.remove(near[0])
            points += 1
            mismatches += 1
    return points, mismatches


def knows_entities(call: Call, known: PromptContents) -> bool:
    """Whether the home has every entity that a call names."""
    return all(known.entity(name) is not None for name in named(call))


def named(call: Call) -> list[Any]:
    """Return the entities that a call names: ids, and a tool's `name`, which of a satellite's timer is no entity."""
    named_by_tool = "name" in call.arguments and call.service not in SATELLITE_TOOLS
    return [*call.targets(), *([call.arguments["name"]] if named_by_tool else [])]


def _form_problems(answer: Answer) -> tuple[str, ...]:
    problems = []
    if not answer.text.strip() and not answer.blocks and not answer.foreign:
        problems.append("is empty")
    if not answer.ended:
        problems.append("does not end")
    if answer.unclosed:
        problems.append("leaves a block of calls open")
    elif answer.blocks and not answer.calls and not answer.bad_lines:
        problems.append("has an empty block of calls")
    return (
        *problems,
        *(f"not a call in valid JSON: {line}" for line in answer.bad_lines),
        *(f"a call in a form that the client does not read: {call}" for call in answer.foreign),
    )


def _unsaid(case: Case, answer: Answer) -> tuple[str, ...]:
    """Return what an answer to a question does not say, or says wrongly."""
    sayings = case.sayings
    if sayings is None:
        return ()
    found = (sayings.problem(answer.text, asked, case.asked, case.known.devices) for asked in case.asked)
    return tuple(problem for problem in found if problem)


def _false_words(case: Case, answer: Answer, found: Effects) -> tuple[str, ...]:
    """Return what is not so in an answer where no call is due: a claim that something was done, or another state."""
    sayings, expected = case.sayings, case.expected
    did = len(answer.calls) > len(found.failed)
    if sayings is None or expected.calls or case.asked or did or case.kind == AFTER_A_CALL:
        return ()
    if len(case.domains) == 1 and (state := sayings.contradicts(answer.text, expected.text, case.domains[0])):
        return (f"says {state}, which is not so",)
    if case.kind in NO_REFUSAL or not sayings.claims_done(answer.text) or sayings.claims_done(expected.text):
        return ()
    return ("says that it is done, and nothing was done",)


def _same_calls(expected: Sequence[Call], calls: Sequence[Call], known: PromptContents) -> bool:
    due = [_resolved(single, known) for call in expected for single in call.per_target()]
    actual = [_resolved(single, known) for call in calls for single in call.per_target()]
    return len(due) == len(actual) == len(pair_off(due, actual, same_call))


def _resolved(call: Call, known: PromptContents) -> Call:
    """Replace a tool's `name` by the entity's id: Home Assistant accepts an id or a friendly name there."""
    entity = known.entity(call.arguments["name"]) if "name" in call.arguments else None
    return call if entity is None else Call(call.service, {**call.arguments, "name": entity})


def _differs_in_color_alone(due: Call, call: Call) -> bool:
    return any(key in due.arguments and key in call.arguments for key in COLOR_KEYS) and (
        Call(due.service, _without(due.arguments, COLOR_KEYS))
        == Call(call.service, _without(call.arguments, COLOR_KEYS))
    )


def _without(arguments: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in arguments.items() if key not in keys}
