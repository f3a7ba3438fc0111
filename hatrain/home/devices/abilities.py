"""What one device can do, from the features and modes that Home Assistant states for it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hatrain.home.devices.actions import SLOTS, Action, State

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
        "temperature": 1,
        "humidity": 4,
        "fan_mode": 8,
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
    """What a device lacks of what its domain has, and the values that it takes; what is not stated is not restricted.

    `lacks` names services and slots of actions. The temperatures are bounds of a climate's target.
    """

    lacks: frozenset[str] = frozenset()
    hvac_modes: tuple[str, ...] = ()
    fan_modes: tuple[str, ...] = ()
    min_temp: float | None = None
    max_temp: float | None = None

    def can(self, action: Action) -> bool:
        """Whether the device has the action's service and takes its arguments."""
        return action.service not in self.lacks and self.lacks.isdisjoint(action.slots)

    def takes(self, slot: str, value: Any) -> bool:
        """Whether a slot may have a value."""
        match slot:
            case "hvac_mode":
                return not self.hvac_modes or value in self.hvac_modes
            case "fan_mode":
                return not self.fan_modes or value in self.fan_modes
            case "temperature":
                low, high = self.min_temp, self.max_temp
                return (low is None or value >= low) and (high is None or value <= high)
        return True

    def states(self, domain: str, states: Iterable[State]) -> list[State]:
        """Return the states of a domain that the device can be in, without what it lacks. If none of the values drawn
        suits it, all are returned: its own are unknown."""
        missing = {SLOTS[name].state_key for name in self.lacks if name in SLOTS}
        found: list[State] = [{key: value for key, value in state.items() if key not in missing} for state in states]
        if domain != "climate":
            return found
        keys = [(slot, SLOTS[slot].state_key) for slot in ("hvac_mode", "fan_mode", "temperature")]
        suiting = [state for state in found if all(self.takes(slot, state[key]) for slot, key in keys if key in state)]
        return suiting or found

    def attributes(self, domain: str, usual: Mapping[str, Any]) -> dict[str, Any]:
        """Return the attributes of a device in a state, with Home Assistant's keys: the `usual` ones, with what is
        stated of this device, and without what it lacks."""
        found = dict(usual)
        if domain == "light" and "color" in self.lacks:
            found["supported_color_modes"] = ["onoff" if "brightness" in self.lacks else "brightness"]
        stated = {name: getattr(self, name) for name in ("hvac_modes", "fan_modes", "min_temp", "max_temp")}
        found |= {name: value for name, value in stated.items() if value not in ((), None)}
        if "fan_mode" in self.lacks:
            found.pop("fan_modes", None)
        return found


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
    if domain != "climate":
        return Abilities(frozenset(lacks))
    return Abilities(
        frozenset(lacks),
        hvac_modes=tuple(sorted(_words(attributes.get("hvac_modes")))),
        fan_modes=tuple(sorted(_words(attributes.get("fan_modes")))),
        min_temp=_number(attributes.get("min_temp")),
        max_temp=_number(attributes.get("max_temp")),
    )


def _words(value: Any) -> set[str]:
    return {item for item in value if isinstance(item, str)} if isinstance(value, list | tuple) else set()


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
