"""Puts an error into the calls of an answer: believable ones, such as a device beside the one that was meant."""

from collections.abc import Callable, Sequence
from typing import Any

from hatrain.home.calls.compare import Call as ServiceCall
from hatrain.home.devices.actions import Action
from hatrain.home.devices.services import SERVICES, domain_of
from hatrain.home.generate.conversations import ConversationGenerator
from hatrain.home.generate.drafts import Call
from hatrain.home.homes.home import Device, Draw, Home, pick
from hatrain.home.simulation.house import House, differences

Calls = tuple[Call, ...]

_NEAR = 4
"""How far a wrong value may be from the right one, in the list of values that a request may name."""


def wrong_calls(draw: Draw, error: str, generator: ConversationGenerator, home: Home, calls: Calls) -> Calls | None:
    """Return calls with an error of this name; None where it does not fit."""
    if error == "missing_call":
        return ()
    position = int(draw() * len(calls))
    call = calls[position]
    if error == "spurious_call":
        extra = _neighbour_too(draw, generator, home, call)
        return (*calls, extra) if extra and extra not in calls else None
    wrong = _CHANGES[error](draw, generator, home, call)
    if wrong is None or wrong in calls:
        return None
    return (*calls[:position], wrong, *calls[position + 1 :])


def call_on_neighbour(
    draw: Draw, generator: ConversationGenerator, home: Home, domain: str, action: Action
) -> Call | None:
    """Return a request's action on a device that the user did not name."""
    devices = [device for device in home.by_domain.get(domain, ()) if action.fits(device.state)]
    values = {slot: pick(draw, generator.language.values.choices(slot, home.unit)) for slot in action.slots}
    return action.call(pick(draw, devices).name.entity_id, values) if devices else None


def any_action(draw: Draw, generator: ConversationGenerator, device: Device) -> Call | None:
    """Return an action without values that changes something about a device."""
    fitting = [
        action
        for action in generator.actions.get(device.name.domain, ())
        if not action.slots and action.fits(device.state)
    ]
    return pick(draw, fitting).call(device.name.entity_id, {}) if fitting else None


def do_the_same(home: Home, one: Sequence[Call], other: Sequence[Call]) -> bool:
    """Whether a home ends the same after either calls, and Home Assistant accepts both."""
    houses = House(home.entities), House(home.entities)
    problems = [house.apply_all(map(_service, calls)) for house, calls in zip(houses, (one, other), strict=True)]
    return not any(problems) and not differences(houses[0].end(), houses[1].end())


def _service(call: Call) -> ServiceCall:
    return ServiceCall(call["service"], {key: value for key, value in call.items() if key != "service"})


def _wrong_device(draw: Draw, generator: ConversationGenerator, home: Home, call: Call) -> Call | None:
    neighbours = _neighbours(home, call)
    return {**call, "target_device": pick(draw, neighbours).name.entity_id} if neighbours else None


def _neighbours(home: Home, call: Call) -> list[Device]:
    """Return the devices that one could take for a call's: of the same room, else of the same kind, else any other."""
    target = call["target_device"]
    devices = home.by_domain[domain_of(target)]
    meant = next(device for device in devices if device.name.entity_id == target)
    others = [device for device in devices if device is not meant]
    near = [device for device in others if device.name.room is not None and device.name.room is meant.name.room]
    near += [device for device in others if device.name.noun is not None and device.name.noun is meant.name.noun]
    return near or others


def _neighbour_too(draw: Draw, generator: ConversationGenerator, home: Home, call: Call) -> Call | None:
    """The same for a neighbour; for a device that has none, another action on it."""
    if wrong := _wrong_device(draw, generator, home, call):
        return wrong
    target = call["target_device"]
    device = next(device for device in home.devices if device.name.entity_id == target)
    return any_action(draw, generator, device)


def _wrong_service(draw: Draw, generator: ConversationGenerator, home: Home, call: Call) -> Call | None:
    target = call["target_device"]
    # A toggle may do what was requested.
    others = [
        action.call(target, {})
        for action in generator.actions.get(domain_of(target), ())
        if not action.slots and action.service != call["service"] and not action.service.endswith("toggle")
    ]
    return pick(draw, others) if others else None


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
    choices = list(generator.language.values.choices(slot, home.unit))
    if kind in ("percent", "fraction", "temperature", "humidity"):
        choices.sort(key=lambda choice: abs(choice - value * (100 if kind == "fraction" else 1)))
        choices = choices[: 2 * _NEAR]
    another = pick(draw, choices)
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
