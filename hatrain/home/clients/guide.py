"""What the training guide's own generator writes: fences with a call a line, or services or intents as tools."""

from collections.abc import Sequence
from dataclasses import dataclass

from hatrain.errors import nearest
from hatrain.home.calls.compare import CLOCK_KEYS, TARGET_KEYS, Call
from hatrain.home.clients.assist import understand_tool
from hatrain.home.clients.assist_tools import TOOLS
from hatrain.home.clients.client import FENCE, TEMPLATE, TOOL_CALL, Understood
from hatrain.home.clients.targets import Target, match, service_target
from hatrain.home.devices.entity import Entity
from hatrain.home.devices.services import SERVICES

_TIMERS = {
    "HassStartTimer": "timer.start",
    "HassUnpauseTimer": "timer.start",
    "HassPauseTimer": "timer.pause",
    "HassCancelTimer": "timer.cancel",
}
"""The guide's data starts timer entities by these intents; Home Assistant's own set timers of voice satellites."""

_NO_ARGUMENTS = (*TARGET_KEYS, "target", "area_id", "floor_id")


@dataclass(frozen=True)
class Guide:
    """Services by their names with Home Assistant's own arguments, or intents with a device's name."""

    name: str = "guide"
    forms: frozenset[str] = frozenset({FENCE, TOOL_CALL, TEMPLATE})

    def understand(self, call: Call, entities: Sequence[Entity]) -> Understood:
        if call.service in _TIMERS:
            return _timer(call, entities)
        if call.service in TOOLS:
            return understand_tool(call, entities, check_states=False)
        if call.service not in SERVICES:
            near = nearest(call.service, [*SERVICES, *TOOLS])
            return Understood(problem=f"{call.service}: no service of Home Assistant{near}")
        targets = service_target(call, entities, TARGET_KEYS)
        if isinstance(targets, str):
            return Understood(problem=targets)
        arguments = {key: value for key, value in call.arguments.items() if key not in _NO_ARGUMENTS}
        missing = next(
            (
                argument.name
                for argument in SERVICES[call.service].arguments
                if argument.required and argument.name not in arguments
            ),
            None,
        )
        if missing:
            return Understood(problem=f"{missing}: missing; {call.service} needs it")
        return Understood(tuple(Call(call.service, {"entity_id": target, **arguments}) for target in targets))


def _timer(call: Call, entities: Sequence[Entity]) -> Understood:
    name = call.arguments.get("name")
    found = match(Target(name=name if isinstance(name, str) else "", domains=frozenset({"timer"})), entities)
    if isinstance(found, str) or not isinstance(name, str):
        return Understood(problem=f"{call.service}: {found if isinstance(found, str) else 'name: missing'}")
    amounts = [call.arguments.get(key, 0) for key in CLOCK_KEYS]
    if not all(isinstance(amount, int) and not isinstance(amount, bool) and amount >= 0 for amount in amounts):
        return Understood(
            problem=f"{call.service}: found {amounts}; accepted: whole numbers of hours, minutes, seconds"
        )
    hours, minutes, seconds = amounts
    duration = {"duration": f"{hours:02}:{minutes:02}:{seconds:02}"} if any(amounts) else {}
    service = _TIMERS[call.service]
    return Understood(tuple(Call(service, {"entity_id": entity.entity_id, **duration}) for entity in found))
