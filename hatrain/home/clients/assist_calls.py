"""Writes drawn calls as calls of Home Assistant's Assist API, and what the API answers to them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml

from hatrain.home.calls.compare import Call
from hatrain.home.clients.assist_tools import LIVE_CONTEXT, TOOLS
from hatrain.home.clients.client import READ, Drawn, Json, Understood
from hatrain.home.clients.guide_tools import intent_of, tool_call
from hatrain.home.clients.satellite_tools import SATELLITE_TOOLS
from hatrain.home.clients.targets import same_place
from hatrain.home.clients.tool import Tool
from hatrain.home.clients.understanding import understand_tool
from hatrain.home.devices.entity import Entity
from hatrain.home.devices.services import domain_of
from hatrain.home.language.grammar import slug

LIVE_ATTRIBUTES = (
    "temperature", "current_temperature", "temperature_unit", "brightness", "humidity", "unit_of_measurement",
    "device_class", "current_position", "percentage", "volume_level", "media_title", "media_artist",
    "media_album_name",
)  # fmt: skip
"""The attributes that `GetLiveContext` reads."""


def tool_for(service: str, arguments: Iterable[str]) -> Tool | None:
    """Return the tool that does what a service does with these arguments, if there is one.

    The API has timers of voice satellites, and none for timer entities.
    """
    if service in TOOLS:
        return TOOLS[service]
    if service in SATELLITE_TOOLS:
        return None
    intent = intent_of(service, arguments)
    return TOOLS.get(intent.name) if intent and domain_of(service) != "timer" else None


def write_calls(calls: Sequence[Drawn], entities: Sequence[Entity], together: bool) -> list[Call]:
    """Return tool calls that do what drawn calls should.

    `together`: where the drawn calls do the same to all devices of an area, floor, domain or device class, one call
    names these. Otherwise each names its device, and its area where two devices share the name. A drawn call without
    a device is written as it is.
    """
    if together and len(calls) > 1 and (common := _common_call(calls, entities)):
        return [common]
    by_id = {entity.entity_id: entity for entity in entities}
    return [_written(call, by_id) for call in calls]


def _written(call: Drawn, by_id: Mapping[str, Entity]) -> Call:
    if "target_device" in call:
        return _with_target(call, _own_target(call["target_device"], by_id))
    return Call(call["service"], {key: value for key, value in call.items() if key != "service"})


def _common_call(calls: Sequence[Drawn], entities: Sequence[Entity]) -> Call | None:
    """Return one call that does what several do, and touches no other device; None if there is none."""
    if any("target_device" not in call or call["service"] == READ for call in calls):
        return None
    first = _with_target(calls[0], {})
    if any(_with_target(call, {}) != first for call in calls[1:]):
        return None
    tool, ids = TOOLS[first.service], {call["target_device"] for call in calls}
    if tool.single or tool.targets == ("name",):
        return None
    accepted = (*tool.targets, *(["device_class"] if tool.device_classes else []))
    for target in _common_targets([entity for entity in entities if entity.entity_id in ids]):
        chosen = {key: value for key, value in target.items() if key in accepted}
        common = Call(first.service, {**chosen, **first.arguments})
        touched = {call.arguments["entity_id"] for call in understand_tool(common, entities).calls}
        if touched == ids:
            return common
    return None


def _common_targets(devices: Sequence[Entity]) -> Iterator[Json]:
    """Yield what devices have in common, from the general to the particular.

    An area comes before the whole home: people name it, and the home's only lights may all be in it.
    """
    domains = sorted({device.domain for device in devices})
    places = [{key: place} for key in ("area", "floor") if (place := _only_one(getattr(each, key) for each in devices))]
    if len(domains) > 1:
        yield from places
    area, floor = ([place for place in places if key in place] for key in ("area", "floor"))
    for device_class in ({}, _class_of(devices)):
        if device_class is not None:
            yield from ({**place, "domain": domains, **device_class} for place in (*area, {}, *floor))


def _only_one(places: Iterable[str | None]) -> str | None:
    found = set(places)
    return found.pop() if len(found) == 1 else None


def _class_of(devices: Sequence[Entity]) -> Json | None:
    name = _only_one(device.attributes.get("device_class") for device in devices)
    return {"device_class": [name]} if name else None


def _own_target(entity_id: str, by_id: Mapping[str, Entity]) -> Json:
    domain, _, rest = entity_id.partition(".")
    entity = by_id.get(entity_id)
    if entity is None:  # an id that is wrong on purpose has no friendly name: derive one from it
        return {"name": rest.replace("_", " "), "domain": [domain]}
    twins = [other for other in by_id.values() if other.name.casefold() == entity.name.casefold()]
    area = {"area": entity.area} if len(twins) > 1 and entity.area else {}
    return {"name": entity.name, **area, "domain": [domain]}


def _with_target(call: Drawn, target: Json) -> Call:
    if call["service"] == READ:
        return Call(LIVE_CONTEXT, {key: value for key, value in target.items() if key != "domain"})
    name, arguments = tool_call(call, "hass", {})
    accepted = TOOLS[name].targets
    own = {key: value for key, value in target.items() if key in accepted}
    return Call(name, {**own, **{key: value for key, value in arguments.items() if key != "name"}})


def result(call: Call, entities: Sequence[Entity], understood: Understood, *, must_fail: bool = False) -> Json:
    """Return what Home Assistant answers to a call of a tool."""
    if understood.problem or must_fail:
        return {"error": "MatchFailedError", "error_text": _match_failed(call)}
    by_id = {entity.entity_id: entity for entity in entities}
    if call.service == LIVE_CONTEXT:
        return {"success": True, "result": live_context([by_id[name] for name in understood.read])}
    found = [by_id[name] for name in dict.fromkeys(done.arguments["entity_id"] for done in understood.calls)]
    speech: Json = {}
    success = [{"name": entity.name, "type": "entity", "id": entity.entity_id} for entity in found]
    if (says := TOOLS[call.service].says) is not None:
        speech, success = {"plain": {"speech": says(found[0], call.arguments), "extra_data": None}}, []
    if kind := next((kind for kind in ("floor", "area") if call.arguments.get(kind)), None):
        place, places = call.arguments[kind], [getattr(entity, kind) for entity in found]
        own = next((name for name in places if name and same_place(place, name)), place)
        success.insert(0, {"name": own, "type": kind, "id": slug(own)})
    data = {"targets": [], "success": success, "failed": []}
    return {"speech": speech, "response_type": "action_done", "data": data}


def _match_failed(call: Call) -> str:
    """Return the text of the error as Python writes it: no entity has the name."""
    tool = TOOLS.get(call.service)
    domains = call.arguments.get("domain") or (tool.domains if tool else ())
    constraints = {
        "name": call.arguments.get("name"),
        "area_name": call.arguments.get("area"),
        "floor_name": call.arguments.get("floor"),
        "domains": domains,
        "device_classes": None,
        "features": None,
        "states": None,
        "assistant": "conversation",
        "allow_duplicate_names": False,
        "single_target": tool is not None and tool.single,
    }
    reason = "no_match_reason=<MatchFailedReason.NAME: 1>"
    found = f"is_match=False, {reason}, states=[], no_match_name=None, areas=[], floors=[]"
    # Sorted: the order of a Python set differs from run to run.
    listed = f"{{{', '.join(map(repr, sorted(domains)))}}}" if domains else "None"
    wanted = ", ".join(f"{key}={listed if key == 'domains' else repr(value)}" for key, value in constraints.items())
    preferences = "MatchTargetsPreferences(area_id=None, floor_id=None)"
    return (
        f"<MatchFailedError result=MatchTargetsResult({found}), constraints=MatchTargetsConstraints({wanted}), "
        f"preferences={preferences}>"
    )


def overview(entity: Entity, with_state: bool) -> Json:
    """Return an entity as Home Assistant's overviews list it."""
    shown: Json = {"names": ", ".join((entity.name, *entity.aliases)), "domain": entity.domain}
    if with_state:
        shown["state"] = entity.state
    if entity.area:
        shown["areas"] = entity.area
    attributes = {
        key: str(value) if isinstance(value, int) else value
        for key, value in entity.attributes.items()
        if key in LIVE_ATTRIBUTES
    }
    return {**shown, "attributes": attributes} if with_state and attributes else shown


def dump_yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=False, allow_unicode=True, sort_keys=False)


def live_context(entities: Sequence[Entity]) -> str:
    ordered = sorted(entities, key=lambda entity: entity.name)
    return "Live Context:\n" + dump_yaml([overview(entity, True) for entity in ordered])
