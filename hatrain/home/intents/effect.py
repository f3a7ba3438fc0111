"""What a test sentence should come to in a home: calls, or something that is said."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hatrain.home.calls.compare import Call
from hatrain.home.clients.assist_tools import LIVE_CONTEXT, TOOLS
from hatrain.home.clients.satellite_tools import SATELLITE_TOOLS
from hatrain.home.clients.targets import TARGET_SLOTS, Target, match, read_target, same_place
from hatrain.home.clients.tool import Slot
from hatrain.home.clients.understanding import understand_tool
from hatrain.home.devices.actions import ACTIONS, ASKED
from hatrain.home.devices.entity import Entity
from hatrain.home.homes.scene import Satellite
from hatrain.home.intents.clone import Block, Sentences, number_or_text
from hatrain.home.judge.asked import RESPONSE, STATE, Asked
from hatrain.home.simulation.house import House, differences, end_after

TALK = ("HassRespond", "HassNevermind")
"""Intents that come to words alone."""

QUESTIONS = ("HassGetState", "HassClimateGetTemperature", "HassGetWeather")

_OPPOSITES = {
    "turn_on": "turn_off",
    "turn_off": "turn_on",
    "open_cover": "close_cover",
    "close_cover": "open_cover",
    "lock": "unlock",
    "unlock": "lock",
    "media_play": "media_pause",
    "media_pause": "media_play",
    "start": "return_to_base",
    "return_to_base": "start",
    "open_valve": "close_valve",
    "close_valve": "open_valve",
    "start_mowing": "dock",
    "dock": "start_mowing",
}
_LISTS = {
    "HassShoppingListAddItem": "HassListAddItem",
    "HassShoppingListCompleteItem": "HassListCompleteItem",
}
_ASKED_ABOUT = frozenset(question.partition(".")[0] for question in ASKED)
_SERVICES = frozenset(action.service for action in ACTIONS.values())


@dataclass(frozen=True)
class Due:
    """What is due for a block. `tool` is the call of Home Assistant's tool, `calls` are the services that it comes to.

    `home` is the one to ask in: devices that are already as they should be are put into the opposite state. For a
    question `tool` reads what it is about. `satellite` is the one through which the user speaks; `by_satellite`: the
    tool is offered there alone. `covered`: whether generated data has such requests.
    """

    tool: Call | None = None
    calls: tuple[Call, ...] = ()
    asked: tuple[Asked, ...] = ()
    about: tuple[str, ...] = ()
    covered: bool = False
    home: tuple[Entity, ...] = ()
    satellite: Satellite | None = None
    by_satellite: bool = False


def due_for(block: Block, home: Sequence[Entity], tests: Sentences) -> Due | str:
    """Return what a block comes to, or in one line why a client cannot be tested with it."""
    due = _due_for(block, home, tests)
    return replace(due, satellite=_satellite(block, due, home)) if isinstance(due, Due) else due


def _satellite(block: Block, due: Due, home: Sequence[Entity]) -> Satellite | None:
    """Return the satellite of the user's area; one of some area where only a satellite can do what is asked."""
    areas = sorted({entity.area for entity in home if entity.area}) if due.by_satellite else []
    area = block.area or next(iter(areas), None)
    if area is None:
        return None
    floors = (entity.floor for entity in home if entity.floor and same_place(area, entity.area or ""))
    return Satellite(area, next(floors, None))


def _due_for(block: Block, home: Sequence[Entity], tests: Sentences) -> Due | str:
    if block.intent in TALK:
        return Due(home=tuple(home), covered=True)
    if block.intent in SATELLITE_TOOLS:
        return _in_the_house(block, home)
    if block.intent in QUESTIONS:
        return _question(block, home, tests)
    intent = _LISTS.get(block.intent, block.intent)
    if intent not in TOOLS:
        return "Home Assistant's interface has no such tool"
    slots = dict(block.slots)
    if block.intent in _LISTS:
        lists = [entity for entity in home if entity.domain == "todo"]
        if not lists:
            return "the home has no shopping list"
        slots["name"] = lists[0].name
    accepted = (*TARGET_SLOTS, *TOOLS[intent].slots)
    if block.area and not any(key in slots for key in ("name", "area", "floor")):
        slots["area"] = block.area
    call = Call(intent, {key: _argument(intent, key, value) for key, value in slots.items() if key in accepted})
    understood = understand_tool(call, home, check_states=False)
    if understood.problem:
        return understood.problem.partition(": ")[2]
    about = tuple(dict.fromkeys(str(each.arguments["entity_id"]) for each in understood.calls))
    covered = all(each.service in _SERVICES for each in understood.calls)
    return Due(call, understood.calls, (), about, covered, _before(home, understood.calls))


def _in_the_house(block: Block, home: Sequence[Entity]) -> Due | str:
    """Return what a block about timers, or a broadcast, comes to: one call that touches no entity."""
    if not block.area and not any(entity.area for entity in home):
        return "the home has no area with a voice satellite"
    slots = SATELLITE_TOOLS[block.intent].slots
    arguments = {key: _of_schema(slots[key], value) for key, value in block.slots.items() if key in slots}
    call = Call(block.intent, arguments)
    if problem := understand_tool(call, home).problem:
        return problem
    return Due(call, covered=True, home=tuple(home), by_satellite=True)


def _before(home: Sequence[Entity], calls: Sequence[Call]) -> tuple[Entity, ...]:
    """Return a home in which calls change something."""
    house = House(home)
    if not differences(house.end(), end_after(home, calls)):
        house.apply_all(Call(_opposite(call.service), {"entity_id": call.arguments["entity_id"]}) for call in calls)
    return house.entities()


def _opposite(service: str) -> str:
    domain, _, name = service.partition(".")
    return f"{domain}.{_OPPOSITES.get(name, name)}"


def _argument(intent: str, key: str, value: Any) -> Any:
    """Return a slot as the tool's schema has it."""
    if key in ("domain", "device_class") and isinstance(value, str):
        return [value]
    slot = TOOLS[intent].slots.get(key)
    return _of_schema(slot, value) if slot else value


def _of_schema(slot: Slot, value: Any) -> Any:
    return number_or_text(value) if slot.schema.get("type") in ("integer", "number") else str(value)


def _question(block: Block, home: Sequence[Entity], tests: Sentences) -> Due | str:
    slots = dict(block.slots)
    if block.intent != "HassGetState":
        slots["domain"] = "climate" if block.intent == "HassClimateGetTemperature" else "weather"
        slots.setdefault("area", block.area or "")
    wanted = {key: value for key, value in slots.items() if key in TARGET_SLOTS and value}
    target = read_target(wanted)
    found = target if isinstance(target, str) else match(target, home)
    if isinstance(found, str):
        found = _in_home(wanted, home)
    if not found:
        return "the home has nothing that it asks about"
    if not block.response:
        return "no response to compare with"
    reading = Call(LIVE_CONTEXT, {key: value for key, value in wanted.items() if key in ("name", "area", "domain")})
    about = tuple(entity.entity_id for entity in found)
    covered = all(entity.domain in _ASKED_ABOUT for entity in found)
    return Due(reading, (), _asked(block, found, tests), about, covered, tuple(home))


def _in_home(wanted: Mapping[str, Any], home: Sequence[Entity]) -> list[Entity]:
    """Return what a question is about where nothing in its area fits: everything of the kind."""
    kind = Target(domains=frozenset({wanted["domain"]})) if "domain" in wanted else None
    found = match(kind, home) if kind else []
    return [] if isinstance(found, str) else found


def _asked(block: Block, found: Sequence[Entity], tests: Sentences) -> tuple[Asked, ...]:
    """One entity is asked for its value; of several the response says how it should be answered."""
    if len(found) > 1 or (block.intent == "HassGetState" and "name" not in block.slots):
        return (Asked(str(block.slots.get("domain", "home")), RESPONSE, block.response),)
    (entity,) = found
    if entity.state == "unknown":
        return (Asked(entity.entity_id, RESPONSE, block.response),)
    if block.intent == "HassClimateGetTemperature":
        return (Asked(entity.entity_id, "current_temperature", entity.attributes.get("current_temperature")),)
    if block.intent == "HassGetWeather":
        return (Asked(entity.entity_id, RESPONSE, block.response),)
    said = tests.said.get(str(entity.attributes.get("device_class")), {}) if entity.domain == "binary_sensor" else {}
    return (Asked(entity.entity_id, STATE, entity.state, block.slots.get("state"), said),)
