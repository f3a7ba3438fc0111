"""What one device can do, from the features and modes that Home Assistant states for it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hatrain.home.devices.actions import SLOTS, Action

# Home Assistant's feature flags of each domain (the `…EntityFeature` of its components), by what they allow here.
# The flags say nothing about services that a domain always has.
FEATURES: Mapping[str, Mapping[str, int]] = {
    "fan": {"percentage": 1, "fan.increase_speed": 1, "fan.decrease_speed": 1},
    "cover": {"cover.open_cover": 1, "cover.close_cover": 2, "position": 4, "cover.stop_cover": 8},
    "media_player": {
        "media_player.media_pause": 1,
        "media_player.volume_set": 4,
        "media_player.volume_mute": 8,
        "media_player.media_previous_track": 16,
        "media_player.media_next_track": 32,
        "media_player.turn_on": 128,
        "media_player.turn_off": 256,
        "media_player.play_media": 512,
        "media_player.volume_up": 1024 | 4,
        "media_player.volume_down": 1024 | 4,
        "media_player.media_stop": 4096,
        "media_player.media_play": 16384,
    },
    "climate": {
        "climate.set_temperature": 1,
        "climate.set_humidity": 4,
        "climate.set_fan_mode": 8,
        "climate.turn_off": 128,
        "climate.turn_on": 256,
    },
    "vacuum": {
        "vacuum.pause": 4,
        "vacuum.stop": 8,
        "vacuum.return_to_base": 16,
        "vacuum.locate": 512,
        "vacuum.start": 8192,
    },
    "todo": {"todo.add_item": 1, "todo.remove_item": 2},
}
_COLOR_MODES = frozenset({"hs", "xy", "rgb", "rgbw", "rgbww"})
_NOT_DIMMED = frozenset({"onoff", "unknown"})


@dataclass(frozen=True)
class Abilities:
    """What a device lacks of what its domain has, and the values that it takes.

    `lacks` names services and slots of actions. `choices` are the values of a slot, `least` and `most` its bounds. What
    is not stated is not restricted.
    """

    lacks: frozenset[str] = frozenset()
    choices: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    least: float | None = None
    most: float | None = None

    def can(self, action: Action) -> bool:
        """Whether the device has the action's service and takes its arguments."""
        return action.service not in self.lacks and self.lacks.isdisjoint(action.slots)

    def takes(self, slot: str, value: Any) -> bool:
        """Whether a slot may have a value."""
        if slot in self.choices:
            return value in self.choices[slot]
        if slot != "temperature":
            return True
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def may_be(self, state: Mapping[str, Any]) -> bool:
        """Whether the device can be in a state: in a mode that it has, at a temperature that it can be set to."""
        return all(self.takes(name, state[slot.state_key]) for name, slot in SLOTS.items() if slot.state_key in state)


ANY = Abilities()


def abilities(domain: str, attributes: Mapping[str, Any]) -> Abilities:
    """Return what a device can do by its attributes: those of its state, or the capabilities and supported features of
    the entity registry. Without them it can do all that its domain has."""
    lacks: set[str] = set()
    flags = attributes.get("supported_features")
    if isinstance(flags, int) and not isinstance(flags, bool):
        lacks |= {name for name, flag in FEATURES.get(domain, {}).items() if not flags & flag}
    modes = _words(attributes.get("supported_color_modes"))
    if domain == "light" and modes:
        lacks |= set() if modes & _COLOR_MODES else {"color"}
        lacks |= set() if modes - _NOT_DIMMED else {"brightness", "color"}
    choices = {
        slot: listed
        for slot, key in (("hvac_mode", "hvac_modes"), ("fan_mode", "fan_modes"))
        if domain == "climate" and (listed := sorted(_words(attributes.get(key))))
    }
    least, most = (_number(attributes.get(key)) if domain == "climate" else None for key in ("min_temp", "max_temp"))
    return Abilities(frozenset(lacks), choices, least, most)


def _words(value: Any) -> set[str]:
    return {item for item in value if isinstance(item, str)} if isinstance(value, Iterable) else set()


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
