"""What the training guide's own generator writes: fences with a call a line, or services or intents as tools."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from hatrain.errors import nearest
from hatrain.home.calls.answer import FENCE, TOOL_CALL
from hatrain.home.calls.compare import CLOCK_KEYS, TARGET_KEYS, Call
from hatrain.home.clients.assist_tools import TOOLS
from hatrain.home.clients.client import TEMPLATE, Drawn, History, Json, RowFormat, Understood
from hatrain.home.clients.guide_tools import Tools, tool_call, tools_for
from hatrain.home.clients.satellite_tools import SATELLITE_TOOLS
from hatrain.home.clients.targets import Target, match, service_target
from hatrain.home.clients.understanding import understand_tool
from hatrain.home.devices.actions import State
from hatrain.home.devices.entity import Entity
from hatrain.home.devices.services import DOMAINS, SERVICES
from hatrain.home.devices.states import Unit, degrees
from hatrain.home.homes.scene import Satellite, Scene

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
    row_format: RowFormat = "sharegpt"
    tools_of: Tools = "service"
    areas: bool = False
    states_in_prompt: bool = True
    says_where: bool = False
    history: History = "whole"
    least_brightness: int = 1

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

    def offers(self, service: str, arguments: Iterable[str]) -> bool:
        if service in TOOLS or service in SATELLITE_TOOLS:
            return False  # it writes devices' calls alone
        named = self.row_format == "messages" and self.tools_of == "hass"
        return not named or SERVICES[service].intent is not None

    def states_for(self, service: str, arguments: Iterable[str]) -> frozenset[str]:
        return frozenset()

    def lists(self, domain: str) -> bool:
        return True

    def shows(self, key: str, state: State) -> bool:
        return True

    def device_text(self, domain: str, state: State, unit: Unit) -> str:
        return ";".join([state["state"], *_attributes(domain, state, unit)])

    def prompt(self, scene: Scene) -> str:
        """Return the opening, the date, the services if no tools list them, and the devices, a line each."""
        lines = [device.name.line_start + device.state["text"] for device in scene.devices]
        services = ""
        if self.row_format != "messages":
            domains = frozenset(device.name.domain for device in scene.devices)
            services = f"{scene.labels['services']} {_signatures(domains)}\n"
        head = f"{scene.opening}\n{scene.date_line(scene.moment)}\n{services}{scene.labels['devices']}\n"
        return head + "\n".join(lines)

    def answer(self, text: str, calls: Sequence[Drawn]) -> str:
        if not calls:
            return text
        lines = "\n".join(map(_encode, calls))
        return f"{text}\n```homeassistant\n{lines}\n```"

    def tool_calls(self, calls: Sequence[Drawn], entities: Sequence[Entity], together: bool) -> list[Call]:
        names = {entity.entity_id: entity.name for entity in entities}
        return [Call(*tool_call(call, self.tools_of, names)) for call in calls]

    def result(self, call: Call, entities: Sequence[Entity], error: str, satellite: Satellite | None = None) -> Json:
        return {"error": error} if error else {"result": "ok"}

    def tools(self, domains: frozenset[str], satellite: bool = False) -> Sequence[Json]:
        return tools_for(domains, self.tools_of)


_encode = json.JSONEncoder(ensure_ascii=False).encode


@cache
def _signatures(domains: frozenset[str]) -> str:
    return ", ".join(service.signature for domain in sorted(domains) for service in DOMAINS[domain].values())


def _attributes(domain: str, state: State, unit: Unit) -> list[str]:
    """Return what a device's line says after its state, in the guide's order and units."""
    if domain == "climate":
        texts = [degrees(state["temperature"], unit)] if "temperature" in state else []
        texts += [f"{state['humidity']}%"] if "humidity" in state else []
        if "target" in state:
            texts.append(f"target={degrees(state['target'], unit)}")
        return [*texts, f"fan={state['fan_mode']}"] if "fan_mode" in state else texts
    return [pattern.format(state[key]) for key, pattern in _PATTERNS.get(domain, {}).items() if key in state]


_PATTERNS = {
    "light": {"brightness": "{}%", "color": "{}"},
    "fan": {"percentage": "{}%"},
    "cover": {"position": "{}%"},
    "media_player": {"title": "{}", "volume": "vol={}%"},
    "vacuum": {"battery": "battery={}%"},
    "timer": {"remaining": "remaining={}"},
}


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
