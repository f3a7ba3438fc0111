"""Writes drawn calls as calls of Home Assistant's Assist API, and what the API answers to them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from hatrain.home.calls.compare import Call
from hatrain.home.clients.assist_tools import LIVE_CONTEXT, TOOLS, Tool
from hatrain.home.clients.client import READ, Drawn, Json, Understood
from hatrain.home.clients.guide_tools import intent_of, tool_call
from hatrain.home.clients.targets import same_place
from hatrain.home.devices.entity import Entity
from hatrain.home.devices.services import DOMAINS, domain_of
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
    intent = intent_of(service, arguments)
    return TOOLS.get(intent.name) if intent and domain_of(service) != "timer" else None


def write_calls(calls: Sequence[Drawn], entities: Sequence[Entity], together: bool) -> list[Call]:
    """Return tool calls that do what drawn calls should.

    `together`: where the drawn calls do the same to all devices of a domain, in one area or in the home, one call
    names the area and the domain. Otherwise each names its device, and its area where two devices share the name.
    """
    if together and len(calls) > 1 and (target := _common_target(calls, entities)):
        return [_with_target(calls[0], target)]
    by_id = {entity.entity_id: entity for entity in entities}
    return [_with_target(call, _own_target(call["target_device"], by_id)) for call in calls]


def _common_target(calls: Sequence[Drawn], entities: Sequence[Entity]) -> Json | None:
    """Return the area and domain, or the domain, of exactly the devices of some calls; None if there is none."""
    first = _without_target(calls[0])
    if any(_without_target(call) != first for call in calls[1:]) or first["service"] not in _FOR_ALL:
        return None
    ids = {call["target_device"] for call in calls}
    domain = first["service"].partition(".")[0]
    of_domain = [entity for entity in entities if entity.domain == domain]
    if {entity.entity_id for entity in of_domain} == ids:
        areas = {entity.area for entity in of_domain}
        area = areas.pop() if len(areas) == 1 else None
    else:
        areas = {entity.area for entity in of_domain if entity.entity_id in ids}
        area = areas.pop() if len(areas) == 1 else None
        if area is None or {entity.entity_id for entity in of_domain if entity.area == area} != ids:
            return None
    return {**({"area": area} if area else {}), "domain": [domain]}


_FOR_ALL = frozenset(
    f"{domain}.{name}"
    for domain, services in DOMAINS.items()
    for name in (service.partition(".")[2] for service in services)
    if (domain, name) not in (("climate", "set_temperature"), ("todo", "add_item"))
)
"""The services whose tool takes several devices at once."""


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


def _without_target(call: Drawn) -> Json:
    return {key: value for key, value in call.items() if key != "target_device"}


def result(call: Call, entities: Sequence[Entity], understood: Understood, *, must_fail: bool = False) -> Json:
    """Return what Home Assistant answers to a call of a tool."""
    if understood.problem or must_fail:
        return {"error": "MatchFailedError", "error_text": _match_failed(call)}
    by_id = {entity.entity_id: entity for entity in entities}
    if call.service == LIVE_CONTEXT:
        return {"success": True, "result": live_context([by_id[name] for name in understood.read])}
    found = [by_id[done.arguments["entity_id"]] for done in understood.calls]
    success = [{"name": entity.name, "type": "entity", "id": entity.entity_id} for entity in found]
    if area := call.arguments.get("area"):
        own = next((entity.area for entity in found if entity.area and same_place(area, entity.area)), area)
        success.insert(0, {"name": own, "type": "area", "id": slug(own)})
    data = {"targets": [], "success": success, "failed": []}
    return {"speech": {}, "response_type": "action_done", "data": data}


def _match_failed(call: Call) -> str:
    """Return the text of the error as Python writes it: no entity has the name."""
    domains = call.arguments.get("domain")
    constraints = {
        "name": call.arguments.get("name"),
        "area_name": call.arguments.get("area"),
        "floor_name": None,
        "domains": set(domains) if domains else None,
        "device_classes": None,
        "features": None,
        "states": None,
        "assistant": "conversation",
        "allow_duplicate_names": False,
        "single_target": False,
    }
    reason = "no_match_reason=<MatchFailedReason.NAME: 1>"
    found = f"is_match=False, {reason}, states=[], no_match_name=None, areas=[], floors=[]"
    wanted = ", ".join(f"{key}={value!r}" for key, value in constraints.items())
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
