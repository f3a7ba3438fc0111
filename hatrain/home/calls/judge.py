"""Judges what an answer would do to the home against what should have been done. Pure functions over calls that
were read elsewhere; how an answer sounds is never judged, only that there is one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hatrain.errors import nearest
from hatrain.home.calls.compare import COLOR_KEYS, TARGET_KEYS, Call, pair_off, same_call
from hatrain.home.devices.services import SERVICES, call_problems


@dataclass(frozen=True)
class Known:
    """What a request's prompt says there is: friendly names by entity id, and services or tools.

    Either is empty where the prompt does not say, and nothing is then held against an answer.
    """

    entities: Mapping[str, str] = field(default_factory=dict)
    services: frozenset[str] = frozenset()

    def entity(self, name: Any) -> str | None:
        """Return the id of the entity with this id or friendly name, case and spacing ignored, or None."""
        word = _word(name)
        for entity, friendly in self.entities.items():
            if word in (_word(entity), _word(friendly)):
                return entity
        return None


@dataclass(frozen=True)
class Answer:
    """What was said, taken apart.

    `text` is what a person hears, `calls` the calls of every closed block, `bad_lines` what stood in a block and
    is no call. `blocks` counts fences or tool calls, closed or not. `ended` is false for an answer that was still
    going on when its room was used up.
    """

    text: str
    calls: tuple[Call, ...] = ()
    bad_lines: tuple[str, ...] = ()
    blocks: int = 0
    unclosed: bool = False
    ended: bool = True


@dataclass(frozen=True)
class Judgement:
    """The verdict on one answer. Every rate of an evaluation is a sum of these counts."""

    strict: bool
    """Exactly the calls that were due, each once, and nothing else was done."""
    problems: tuple[str, ...]
    """Why not, a line each; empty when `strict`."""
    points: int
    """Of the compatible measure."""
    possible_points: int
    color_mismatches: int
    """Points that were given although the colour was another."""
    lines: int
    """Lines that stood where a call belongs."""
    valid_lines: int
    """Those that are a call in valid JSON."""
    targeted_calls: int
    """Calls that name an entity, where the prompt says which there are."""
    known_targets: int
    """Those whose entities are all there."""
    called_services: int
    """Calls, where the prompt says which services there are."""
    known_services: int
    call_due: bool
    call_made: bool


def judge(expected: Answer, answer: Answer, known: Known) -> Judgement:
    """Judge one answer. Total: any two answers can be judged, nothing is raised.

    An answer that says and does nothing, that does not end, or whose block is broken, empty or left open is
    wrong, whatever was due.
    """
    problems = (*_form_problems(answer), *_call_problems(expected.calls, answer.calls, known))
    points, mismatches = compatible_points(expected, answer)
    targeted = [call for call in answer.calls if known.entities and _named(call)]
    called = answer.calls if known.services else ()
    return Judgement(
        strict=not problems,
        problems=problems,
        points=points,
        possible_points=len(expected.calls) or 1,
        color_mismatches=mismatches,
        lines=len(answer.calls) + len(answer.bad_lines),
        valid_lines=len(answer.calls),
        targeted_calls=len(targeted),
        known_targets=sum(knows_entities(call, known) for call in targeted),
        called_services=len(called),
        known_services=sum(call.service in known.services for call in called),
        call_due=bool(expected.calls),
        call_made=answer.blocks > 0,
    )


def compatible_points(expected: Answer, answer: Answer) -> tuple[int, int]:
    """Return (points, colour mismatches) of the measure that published figures of these models use.

    Each expected call is a point, and so is an expected silence. Calls are compared key by key, not by meaning;
    calls that are too many cost nothing; a call that differs in its colour alone gets its point and is counted.
    Unlike the original, a call is paid for once, and silence is an answer in words, not no answer at all.
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


def knows_entities(call: Call, known: Known) -> bool:
    """Whether every entity that the call names is in the home."""
    return all(known.entity(name) is not None for name in _named(call))


def execution_problems(call: Call, known: Known) -> list[str]:
    """Return why a call could not be executed in the home of a prompt, a line each; none if it could."""
    problems = []
    if known.services and call.service not in known.services:
        problems.append(f"{call.service} is not offered in this home{nearest(call.service, known.services)}")
    if call.service in SERVICES:
        for single in call.per_target():
            said = {"service": single.service, **single.arguments}
            problems += call_problems(said, list(known.entities))
    elif not knows_entities(call, known):
        problems.append(f"{', '.join(map(str, _named(call)))}: not in this home")
    return problems


def in_words(call: Call, known: Known) -> str:
    """Return a call as a person would read it: `turn on Kitchen Light (light.kitchen): brightness_pct 40`."""
    action = call.service.partition(".")[2] or call.service
    names = [
        f"{known.entities[entity]} ({entity})" if entity in known.entities else entity
        for entity in call.targets()
    ]
    settings = ", ".join(f"{key} {value}" for key, value in _without(call.arguments, TARGET_KEYS).items())
    what = f"{action.replace('_', ' ')} {' and '.join(names)}".strip()
    return f"{what}: {settings}" if settings else what


def _form_problems(answer: Answer) -> tuple[str, ...]:
    problems = []
    if not answer.text.strip() and not answer.blocks:
        problems.append("says nothing")
    if not answer.ended:
        problems.append("does not end")
    if answer.unclosed:
        problems.append("leaves its block of calls open")
    elif answer.blocks and not answer.calls and not answer.bad_lines:
        problems.append("opens a block of calls and puts none in it")
    return (*problems, *(f"no call in valid JSON: {line}" for line in answer.bad_lines))


def _call_problems(expected: Sequence[Call], calls: Sequence[Call], known: Known) -> tuple[str, ...]:
    due = [_resolved(single, known) for call in expected for single in call.per_target()]
    made = [_resolved(single, known) for call in calls for single in call.per_target()]
    partner = pair_off(due, made, same_call)
    missing = [call for index, call in enumerate(due) if index not in partner.values()]
    extra = [call for index, call in enumerate(made) if index not in partner]
    return (*(f"missing: {call}" for call in missing), *(f"not due: {call}" for call in extra))


def _resolved(call: Call, known: Known) -> Call:
    """Let a tool's `name` mean the entity that it names: Home Assistant takes an id there as well as a name."""
    entity = known.entity(call.arguments["name"]) if "name" in call.arguments else None
    return call if entity is None else Call(call.service, {**call.arguments, "name": entity})


def _named(call: Call) -> list[Any]:
    """Return what a call names as its entities: ids, and the `name` that a tool takes."""
    return [*call.targets(), *([call.arguments["name"]] if "name" in call.arguments else [])]


def _differs_in_color_alone(due: Call, call: Call) -> bool:
    return any(key in due.arguments and key in call.arguments for key in COLOR_KEYS) and (
        Call(due.service, _without(due.arguments, COLOR_KEYS))
        == Call(call.service, _without(call.arguments, COLOR_KEYS))
    )


def _without(arguments: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in arguments.items() if key not in keys}


def _word(name: Any) -> str:
    return " ".join(name.split()).casefold() if isinstance(name, str) else ""
