"""The tools of the guide's data: Home Assistant's services by their names, or its intents with a device's name."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Literal

from hatrain.home.calls.compare import CLOCK_KEYS
from hatrain.home.clients.client import Drawn, Json
from hatrain.home.clients.tool import function
from hatrain.home.devices.services import DOMAINS, SERVICES, Argument, Intent, Kind

Tools = Literal["service", "hass"]

_SCHEMAS: dict[Kind, Json] = {
    "percent": {"type": "integer", "minimum": 0, "maximum": 100},
    "humidity": {"type": "integer", "minimum": 0, "maximum": 100},
    "fraction": {"type": "number", "minimum": 0, "maximum": 1},
    "color": {"type": "string"},
    "kelvin": {"type": "integer", "minimum": 0},
    "status": {"type": "string", "enum": ["needs_action", "completed"]},
    "temperature": {"type": "number"},
    "duration": {"type": "string", "description": "HH:MM:SS"},
    "hvac_mode": {"type": "string", "enum": ["off", "heat", "cool", "heat_cool", "auto", "dry", "fan_only"]},
    "fan_mode": {"type": "string", "enum": ["auto", "low", "medium", "high"]},
    "text": {"type": "string"},
    "flag": {"type": "boolean"},
}


_NO_INTENT = ("media_content_type", "status")
"""Arguments of services that no intent takes: it implies them."""


def _service_tool(name: str) -> Json:
    service = SERVICES[name]
    properties = {"entity_id": {"type": "string"}}
    properties |= {argument.name: _SCHEMAS[argument.kind] for argument in service.arguments}
    required = ["entity_id", *(argument.name for argument in service.arguments if argument.required)]
    return function(name, f"Home Assistant's action {name}", properties, required)


def _intent_arguments(intent: Intent, argument: Argument) -> Json:
    if argument.kind == "duration":
        return {unit: {"type": "integer", "minimum": 0} for unit in CLOCK_KEYS}
    # The intent takes volume in percent, the service as a fraction.
    kind: Kind = "percent" if argument.kind == "fraction" else argument.kind
    return {intent.renamed.get(argument.name, argument.name): _SCHEMAS[kind]}


def intent_of(service: str, arguments: Iterable[str]) -> Intent | None:
    """Return the intent for a service; it depends on whether there are arguments, as in `light.turn_on`."""
    given = set(arguments)
    if service == "light.turn_on" and not given:
        return Intent("HassTurnOn")
    if service == "timer.start" and not given:
        return Intent("HassUnpauseTimer")
    return SERVICES[service].intent


@cache
def _intent_tools() -> Mapping[str, dict[str, Json]]:
    """Return {domain: {intent: tool}}."""
    by_domain: dict[str, dict[str, Json]] = {}
    for domain, services in DOMAINS.items():
        tools = by_domain.setdefault(domain, {})
        for service in services.values():
            names = [argument.name for argument in service.arguments]
            for given in ([], names) if names else ([],):
                intent = intent_of(service.name, given)
                if intent is None or (names and not given and intent is service.intent):
                    continue
                properties: Json = {"name": {"type": "string"}}
                for argument in service.arguments if given else ():
                    if argument.name not in _NO_INTENT:
                        properties |= _intent_arguments(intent, argument)
                properties |= {name: {"type": "string", "enum": ["up", "down"]} for name in intent.fixed}
                description = f"Home Assistant's intent {intent.name}"
                tools[intent.name] = function(intent.name, description, properties, ["name"])
    return by_domain


def tools_for(domains: frozenset[str], tools: Tools) -> tuple[Json, ...]:
    """Return the tools of a home with devices of these domains, sorted by name."""
    if tools == "service":
        return tuple(_service_tool(name) for domain in sorted(domains) for name in DOMAINS[domain])
    intents = {name: tool for domain in sorted(domains) for name, tool in _intent_tools()[domain].items()}
    return tuple(intents[name] for name in sorted(intents))


def tool_call(call: Drawn, tools: Tools, names: Mapping[str, str]) -> tuple[str, Json]:
    """Return a call as (tool name, arguments). Intents take devices by friendly name (`names`: by entity id)."""
    target = call["target_device"]
    arguments = {key: value for key, value in call.items() if key not in ("service", "target_device")}
    if tools == "service":
        return call["service"], {"entity_id": target, **arguments}
    intent = intent_of(call["service"], arguments)
    assert intent, f"{call['service']} has no intent"
    kinds = {argument.name: argument.kind for argument in SERVICES[call["service"]].arguments}
    # An id that is wrong on purpose has no friendly name: derive one from the id.
    renamed: Json = {"name": names.get(target, target.partition(".")[2].replace("_", " "))}
    for key, value in arguments.items():
        if kinds[key] == "duration":
            renamed |= {unit: int(part) for unit, part in zip(CLOCK_KEYS, value.split(":"), strict=True) if int(part)}
        elif key not in _NO_INTENT:
            renamed[intent.renamed.get(key, key)] = round(value * 100) if kinds[key] == "fraction" else value
    return intent.name, {**renamed, **intent.fixed}
