"""Makes the rejected answers of preference pairs: a correct answer with one of six errors in its calls."""

from collections.abc import Callable
from typing import Any

from hatrain.home.devices.actions import ACTIONS
from hatrain.home.devices.services import DOMAINS, SERVICES, domain_of
from hatrain.home.generate.conversations import Conversation, ConversationGenerator, Step
from hatrain.home.generate.drafts import Call
from hatrain.home.homes.home import Draw, Home, pick

ERRORS = (
    "wrong_device", "wrong_service", "missing_call", "spurious_call", "wrong_value", "hallucinated_name"
)  # fmt: skip


def rejected_answer(draw: Draw, generator: ConversationGenerator, conversation: Conversation) -> Step | None:
    """Draw an error and put it into a conversation's answer; None where it does not fit, or for several turns."""
    error = pick(draw, ERRORS)
    if len(conversation.turns) != 1:
        return None
    (step,) = conversation.turns[0].steps
    if error == "missing_call":
        return Step(step.text) if step.calls else None
    if error == "spurious_call":
        call = _any_call(draw, conversation.home)
        return Step(step.text, (*step.calls, call)) if call and call not in step.calls else None
    if not step.calls:
        return None
    position = int(draw() * len(step.calls))
    wrong = _CHANGES[error](draw, generator, conversation.home, step.calls[position])
    if wrong is None or wrong in step.calls:
        return None
    return Step(step.text, (*step.calls[:position], wrong, *step.calls[position + 1 :]))


def _any_call(draw: Draw, home: Home) -> Call | None:
    device = pick(draw, home.devices)
    actions = [action for action in ACTIONS.values() if action.domain == device.name.domain and not action.slots]
    return pick(draw, actions).call(device.name.entity_id, {}) if actions else None


def _wrong_device(draw: Draw, generator: ConversationGenerator, home: Home, call: Call) -> Call | None:
    target = call["target_device"]
    others = [device.name.entity_id for device in home.by_domain[domain_of(target)] if device.name.entity_id != target]
    return {**call, "target_device": pick(draw, others)} if others else None


def _wrong_service(draw: Draw, generator: ConversationGenerator, home: Home, call: Call) -> Call | None:
    others = [
        name
        for name, service in DOMAINS[domain_of(call["service"])].items()
        # A toggle may do what was requested.
        if name != call["service"]
        and not name.endswith("toggle")
        and not any(argument.required for argument in service.arguments)
    ]
    return {"service": pick(draw, others), "target_device": call["target_device"]} if others else None


def _wrong_value(draw: Draw, generator: ConversationGenerator, home: Home, call: Call) -> Call | None:
    for argument in SERVICES[call["service"]].arguments:
        value = call.get(argument.name)
        if value is None or argument.name == "media_content_type":
            continue
        wrong = _another_value(draw, generator, home, argument.kind, argument.name, value)
        return {**call, argument.name: wrong} if wrong != value else None
    return None


def _another_value(draw: Draw, generator: ConversationGenerator, home: Home, kind: str, name: str, value: Any) -> Any:
    if kind == "flag":
        return not value
    if kind == "text":
        slot = "title" if name == "media_content_id" else "item"
    else:
        slot = {"percent": "brightness", "fraction": "volume"}.get(kind, kind)
    another = pick(draw, generator.language.values.choices(slot, home.unit))
    return another / 100 if kind == "fraction" else another


def _hallucinated_name(draw: Draw, generator: ConversationGenerator, home: Home, call: Call) -> Call | None:
    name = generator.homes.absent_name(draw, home, domain_of(call["target_device"]))
    return {**call, "target_device": name.entity_id} if name else None


_CHANGES: dict[str, Callable[[Draw, ConversationGenerator, Home, Call], Call | None]] = {
    "wrong_device": _wrong_device,
    "wrong_service": _wrong_service,
    "wrong_value": _wrong_value,
    "hallucinated_name": _hallucinated_name,
}
