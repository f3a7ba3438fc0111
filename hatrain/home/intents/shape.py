"""What a request is like: its intent, the kind of thing that it is about, and what it says."""

from collections.abc import Iterable
from dataclasses import dataclass

from hatrain.home.devices.entity import Entity
from hatrain.home.intents.clone import Block, Sentences

NO_CALLS = frozenset(
    {
        "HassGetState", "HassClimateGetTemperature", "HassGetTemperature", "HassGetWeather", "HassGetCurrentDate",
        "HassGetCurrentTime", "HassRespond", "HassNevermind",
    }
)  # fmt: skip
"""Intents that answer or only talk. The sentences of all others are service sentences."""

_SAME = {"HassShoppingListAddItem": "HassListAddItem", "HassShoppingListCompleteItem": "HassListCompleteItem"}
WITH_CLASS = ("binary_sensor", "sensor", "cover")
_NOT_SAID = ("domain", "device_class", "state", "media_class")
_WORDS = {
    "hours": "duration",
    "minutes": "duration",
    "seconds": "duration",
    "start_hours": "start",
    "start_minutes": "start",
    "start_seconds": "start",
    "volume_level": "volume",
    "conversation_command": "command",
}
_DOMAINS = {
    "HassLightSet": "light",
    "HassClimate": "climate",
    "HassMedia": "media_player",
    "HassSetVolume": "media_player",
    "HassVacuum": "vacuum",
    "HassGetWeather": "weather",
    "HassList": "todo",
}
"""The domain of an intent, by its name's beginning, where a sentence gives none."""


@dataclass(frozen=True)
class Shape:
    """`intent` is Home Assistant's; `domain` has the device class after a dot where that matters. Make one with
    `make_shape`, which gives both sides of a comparison the same words."""

    intent: str
    domain: str
    slots: frozenset[str]

    @property
    def is_service(self) -> bool:
        return self.intent not in NO_CALLS

    def __str__(self) -> str:
        return " ".join((self.intent, self.domain or "-", "+".join(sorted(self.slots)) or "-"))


def make_shape(intent: str, slots: Iterable[str], domain: str = "", device_class: str = "") -> Shape:
    """Return the shape of a request that says `slots`, by Home Assistant's names or ours. Timers have no domain."""
    intent = _SAME.get(intent, intent)
    if intent.endswith(("Timer", "Timers", "TimerStatus")):
        domain = device_class = ""
    elif not domain:
        domain = next((own for start, own in _DOMAINS.items() if intent.startswith(start)), "")
    said = frozenset(_WORDS.get(slot, slot) for slot in slots if slot not in _NOT_SAID)
    if intent == "HassStartTimer":
        said -= {"here"}  # it runs where it is spoken to, also without saying so
    return Shape(intent, f"{domain}.{device_class}" if domain and device_class else domain, said)


def shape_of(block: Block, tests: Sentences) -> Shape:
    """Return the shape of a block's sentences. A name stands for the entity of the block's home that has it."""
    slots, home = block.slots, tests.home_of(block)
    named = _named(str(slots["name"]), home) if "name" in slots else None
    device_class = str(slots.get("device_class") or "")
    domain = str(slots.get("domain") or "") or (named.domain if named else "")
    if not domain and device_class:
        domain = next((each.domain for each in home if each.attributes.get("device_class") == device_class), "cover")
    if not device_class and named and named.domain in WITH_CLASS:
        device_class = str(named.attributes.get("device_class") or "")
    said = set(slots)
    if block.area and "floor" not in said:
        area = str(slots.get("area") or block.area)
        if area.casefold() == block.area.casefold():
            said = (said - {"area"}) | {"here"}
    return make_shape(block.intent, said, domain, device_class)


def _named(name: str, home: Iterable[Entity]) -> Entity | None:
    """Return the entity of this name or alias; entities of a block's own file come last and win."""
    wanted = name.casefold()
    found = [each for each in home if wanted in (each.name.casefold(), *(alias.casefold() for alias in each.aliases))]
    return found[-1] if found else None
