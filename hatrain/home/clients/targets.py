"""Finds the entities that a call means, as Home Assistant's intents and actions do."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hatrain.errors import nearest
from hatrain.home.calls.compare import Call
from hatrain.home.devices.entity import Entity
from hatrain.home.language.grammar import slug

TARGET_SLOTS = ("name", "area", "floor", "domain", "device_class")
"""The arguments of Home Assistant's intents that choose entities."""


@dataclass(frozen=True)
class Target:
    """What an intent's call names. Empty parts restrict nothing."""

    name: str = ""
    area: str = ""
    floor: str = ""
    domains: frozenset[str] = frozenset()
    device_classes: frozenset[str] = frozenset()


def read_target(arguments: Mapping[str, Any]) -> Target | str:
    """Return the target of an intent's arguments, or in one line why there is none."""
    texts = {key: arguments.get(key, "") for key in ("name", "area", "floor")}
    for key, text in texts.items():
        if not isinstance(text, str) or (key in arguments and not text.strip()):
            return f"{key}: found {text!r}; accepted: some text"
    lists: dict[str, frozenset[str]] = {}
    for key in ("domain", "device_class"):
        value = arguments.get(key, ())
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
            return f"{key}: found {value!r}; accepted: a list of text"
        lists[key] = frozenset(items)
    name = "" if texts["name"] == "all" else texts["name"]
    target = Target(name, texts["area"], texts["floor"], lists["domain"], lists["device_class"])
    return target if target != Target() else "found no name, area, floor or domain; a call cannot target everything"


def match(target: Target, entities: Sequence[Entity]) -> list[Entity] | str:
    """Return the entities of a target, at least one, or in one line why there is none.

    A name is an entity id, a friendly name or an alias; names, areas and floors ignore case. As in Home Assistant a
    name that two entities of the target share is refused.
    """
    found = list(entities)
    if target.domains:
        found = [entity for entity in found if entity.domain in target.domains]
        if not found:
            return f"domain: no entity of {', '.join(sorted(target.domains))} in this home"
    if target.name:
        found = [entity for entity in found if is_named(entity, target.name)]
        if not found:
            names = [name for entity in entities for name in (entity.name, *entity.aliases)]
            return f"name: no {target.name!r} in this home{nearest(target.name, names)}"
    if target.device_classes:
        found = [entity for entity in found if entity.attributes.get("device_class") in target.device_classes]
        if not found:
            return f"device_class: no {', '.join(sorted(target.device_classes))} in this home"
    places: list[tuple[str, str, Callable[[Entity], str | None]]] = [
        ("floor", target.floor, lambda entity: entity.floor),
        ("area", target.area, lambda entity: entity.area),
    ]
    for key, place, of in places:
        if not place:
            continue
        known = {name for name in map(of, entities) if name}
        if not any(same_place(place, name) for name in known):
            return f"{key}: no {place!r} in this home{nearest(place, known)}"
        found = [entity for entity in found if same_place(place, of(entity) or "")]
        if not found:
            return f"{key}: nothing that fits the call in {place!r}"
    if target.name and len(found) > 1:
        return f"name: {target.name!r} is the name of {len(found)} entities; add the area"
    return found


def is_named(entity: Entity, name: str) -> bool:
    wanted = _folded(name)
    return name == entity.entity_id or wanted in map(_folded, (entity.name, *entity.aliases))


def same_place(one: str, other: str) -> bool:
    """Whether two names of areas, or of floors, mean the same; an id such as `living_room` is a name too."""
    return _folded(one) == _folded(other) or one == slug(other)


def service_target(call: Call, entities: Sequence[Entity], keys: Collection[str]) -> list[str] | str:
    """Return the entity ids of a service's call, or in one line why there is none.

    They are given by `keys`, or by `entity_id`, `area_id` or `floor_id` in a `target` as in automations; areas and
    floors mean the entities of the service's domain in them. Every id must be one of the home.
    """
    nested = call.arguments.get("target")
    given = {**call.arguments, **(nested if isinstance(nested, Mapping) else {})}
    ids = [text for key in keys for text in _texts(given.get(key))]
    domain = call.service.partition(".")[0]
    for place in _texts(given.get("area_id")):
        ids += [entity.entity_id for entity in entities if entity.domain == domain and _is_in(place, entity.area)]
    for place in _texts(given.get("floor_id")):
        ids += [entity.entity_id for entity in entities if entity.domain == domain and _is_in(place, entity.floor)]
    if not ids:
        return f"{call.service}: names no entity of this home"
    known = [entity.entity_id for entity in entities]
    for entity_id in ids:
        if entity_id not in known:
            return f"{entity_id}: not in this home{nearest(entity_id, known)}"
        if entity_id.partition(".")[0] != domain:
            return f"{entity_id}: not a {domain}, which {call.service} needs"
    return list(dict.fromkeys(ids))


def _is_in(place: str, name: str | None) -> bool:
    return name is not None and same_place(place, name)


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [part.strip().lower() for part in value.split(",") if part.strip()]
    return [text for item in value for text in _texts(item)] if isinstance(value, list | tuple) else []


def _folded(name: str) -> str:
    return name.strip().casefold()
