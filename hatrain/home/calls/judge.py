"""Judges an answer by its calls: would they do to the home what should be done? The text only has to be there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hatrain.errors import nearest
from hatrain.home.calls.compare import COLOR_KEYS, TARGET_KEYS, Call, pair_off, same_call
from hatrain.home.devices.services import SERVICES, call_problems


@dataclass(frozen=True)
class PromptContents:
    """What a prompt lists: friendly names by entity id, and services or tools.

    If the prompt lists none of a kind, an answer is not judged by that kind.
    """

    entities: Mapping[str, str] = field(default_factory=dict)
    services: frozenset[str] = frozenset()

    def entity(self, name: Any) -> str | None:
        """Find an entity's id by its id or friendly name, ignoring case and spacing."""
        wanted = _normalized(name)
        for entity, friendly in self.entities.items():
            if wanted in (_normalized(entity), _normalized(friendly)):
                return entity
        return None


@dataclass(frozen=True)
class Answer:
    """A parsed answer.

    `text` is what the user hears, `calls` the calls of all closed blocks, `bad_lines` what a block contains besides
    calls. `blocks` counts fences or tool calls, closed or not. `ended` is false for an answer that reached the token
    limit.
    """

    text: str
    calls: tuple[Call, ...] = ()
    bad_lines: tuple[str, ...] = ()
    blocks: int = 0
    unclosed: bool = False
    ended: bool = True


@dataclass(frozen=True)
class Judgement:
    """The judgement of one answer. Every rate of an evaluation is a sum of these counts."""

    strict: bool
    """Exactly the expected calls, each once, and no others."""
    problems: tuple[str, ...]
    """Why not, one line each; empty if `strict`."""
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
    call_due: bool
    call_made: bool


def judge(expected: Answer, answer: Answer, known: PromptContents) -> Judgement:
    """Judge one answer. It accepts any two answers and never raises.

    An answer that is empty, does not end, or has a broken, empty or open block is wrong, whatever is expected.
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
    return all(known.entity(name) is not None for name in _named(call))


def execution_problems(call: Call, known: PromptContents) -> list[str]:
    """Return why a call cannot be executed in the home of a prompt, one line each."""
    problems = []
    if known.services and call.service not in known.services:
        problems.append(f"{call.service}: not offered in this home{nearest(call.service, known.services)}")
    if call.service in SERVICES:
        for single in call.per_target():
            problems += call_problems({"service": single.service, **single.arguments}, list(known.entities))
    elif not knows_entities(call, known):
        problems.append(f"{', '.join(map(str, _named(call)))}: not in this home")
    return problems


def in_words(call: Call, known: PromptContents) -> str:
    """Describe a call for users: `turn on Kitchen Light (light.kitchen): brightness_pct 40`."""
    action = call.service.partition(".")[2] or call.service
    names = [
        f"{known.entities[entity]} ({entity})" if entity in known.entities else entity for entity in call.targets()
    ]
    settings = ", ".join(f"{key} {value}" for key, value in _without(call.arguments, TARGET_KEYS).items())
    description = f"{action.replace('_', ' ')} {' and '.join(names)}".strip()
    return f"{description}: {settings}" if settings else description


def _form_problems(answer: Answer) -> tuple[str, ...]:
    problems = []
    if not answer.text.strip() and not answer.blocks:
        problems.append("is empty")
    if not answer.ended:
        problems.append("does not end")
    if answer.unclosed:
        problems.append("leaves a block of calls open")
    elif answer.blocks and not answer.calls and not answer.bad_lines:
        problems.append("has an empty block of calls")
    return (*problems, *(f"not a call in valid JSON: {line}" for line in answer.bad_lines))


def _call_problems(expected: Sequence[Call], calls: Sequence[Call], known: PromptContents) -> tuple[str, ...]:
    due = [_resolved(single, known) for call in expected for single in call.per_target()]
    actual = [_resolved(single, known) for call in calls for single in call.per_target()]
    partner = pair_off(due, actual, same_call)
    missing = [call for index, call in enumerate(due) if index not in partner.values()]
    extra = [call for index, call in enumerate(actual) if index not in partner]
    return (*(f"missing: {call}" for call in missing), *(f"not expected: {call}" for call in extra))


def _resolved(call: Call, known: PromptContents) -> Call:
    """Replace a tool's `name` by the entity's id: Home Assistant accepts an id or a friendly name there."""
    entity = known.entity(call.arguments["name"]) if "name" in call.arguments else None
    return call if entity is None else Call(call.service, {**call.arguments, "name": entity})


def _named(call: Call) -> list[Any]:
    """Return the entities that a call names: ids, and a tool's `name`."""
    return [*call.targets(), *([call.arguments["name"]] if "name" in call.arguments else [])]


def _differs_in_color_alone(due: Call, call: Call) -> bool:
    return any(key in due.arguments and key in call.arguments for key in COLOR_KEYS) and (
        Call(due.service, _without(due.arguments, COLOR_KEYS))
        == Call(call.service, _without(call.arguments, COLOR_KEYS))
    )


def _without(arguments: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in arguments.items() if key not in keys}


def _normalized(name: Any) -> str:
    return " ".join(name.split()).casefold() if isinstance(name, str) else ""
