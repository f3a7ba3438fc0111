"""Spoils right answers, for preference pairs: six ways in which a model gets a home wrong. Never a right one."""

from collections.abc import Callable
from typing import Any

from hatrain.home.devices.actions import ACTIONS
from hatrain.home.devices.services import DOMAINS, SERVICES, domain_of
from hatrain.home.generate.conversations import Conversation, Speaker, Step
from hatrain.home.generate.drafts import Call
from hatrain.home.homes.home import Draw, Home, pick

REASONS = (
    "wrong_device",
    "wrong_service",
    "missing_call",
    "spurious_call",
    "wrong_value",
    "hallucinated_name",
)


def spoil(draw: Draw, speaker: Speaker, conversation: Conversation) -> tuple[Step, str] | None:
    """Draw a wrong answer to a conversation of one turn, and why it is wrong; None where the way drawn does not fit."""
    why = pick(draw, REASONS)
    if len(conversation.turns) != 1:
        return None
    (step,) = conversation.turns[0].steps
    if why == "missing_call":
        return (Step(step.text), why) if step.calls else None
    if why == "spurious_call":
        call = _some_call(draw, speaker, conversation.home)
        fits = call and call not in step.calls
        return (Step(step.text, (*step.calls, call)), why) if call and fits else None
    if not step.calls:
        return None
    position = int(draw() * len(step.calls))
    wrong = _SPOILERS[why](draw, speaker, conversation.home, step.calls[position])
    if wrong is None or wrong in step.calls:
        return None
    calls = (*step.calls[:position], wrong, *step.calls[position + 1 :])
    return Step(step.text, calls), why


def _some_call(draw: Draw, speaker: Speaker, home: Home) -> Call | None:
    device = pick(draw, home.devices)
    plain = [
        action for action in ACTIONS.values() if action.domain == device.name.domain and not action.slots
    ]
    return pick(draw, plain).call(device.name.entity_id, {}) if plain else None


def _wrong_device(draw: Draw, speaker: Speaker, home: Home, call: Call) -> Call | None:
    target = call["target_device"]
    others = [
        device.name.entity_id
        for device in home.by_domain[domain_of(target)]
        if device.name.entity_id != target
    ]
    return {**call, "target_device": pick(draw, others)} if others else None


def _wrong_service(draw: Draw, speaker: Speaker, home: Home, call: Call) -> Call | None:
    others = [
        name
        for name, service in DOMAINS[domain_of(call["service"])].items()
        # A toggle may well do what was asked.
        if name != call["service"]
        and not name.endswith("toggle")
        and not any(argument.required for argument in service.arguments)
    ]
    return {"service": pick(draw, others), "target_device": call["target_device"]} if others else None


def _wrong_value(draw: Draw, speaker: Speaker, home: Home, call: Call) -> Call | None:
    for argument in SERVICES[call["service"]].arguments:
        value = call.get(argument.name)
        if value is None or argument.name == "media_content_type":
            continue
        wrong = _another(draw, speaker, home, argument.kind, argument.name, value)
        return {**call, argument.name: wrong} if wrong != value else None
    return None


def _another(draw: Draw, speaker: Speaker, home: Home, kind: str, name: str, value: Any) -> Any:
    if kind == "flag":
        return not value
    if kind == "text":
        return pick(
            draw,
            speaker.language.values.choices("title" if name == "media_content_id" else "item", home.unit),
        )
    slot = {"percent": "brightness", "fraction": "volume"}.get(kind, kind)
    wrong = pick(draw, speaker.language.values.choices(slot, home.unit))
    return wrong / 100 if kind == "fraction" else wrong


def _hallucinated_name(draw: Draw, speaker: Speaker, home: Home, call: Call) -> Call | None:
    name = speaker.homes.absent_name(draw, home, domain_of(call["target_device"]))
    return {**call, "target_device": name.entity_id} if name else None


_SPOILERS: dict[str, Callable[[Draw, Speaker, Home, Call], Call | None]] = {
    "wrong_device": _wrong_device,
    "wrong_service": _wrong_service,
    "wrong_value": _wrong_value,
    "hallucinated_name": _hallucinated_name,
}
