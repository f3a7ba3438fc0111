"""What users request of devices, and what they ask about: actions and questions, and the states that they fit."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

State = Mapping[str, Any]  # {"state": "on", "brightness": 40, "attributes": {…}, "text": "on;40%"}: see states.py


class Slot(NamedTuple):
    """A placeholder for a value: the service's argument that takes it, and the key of the state that holds it."""

    argument: str
    state_key: str
    divisor: int | None = None  # the argument is the value divided by this


SLOTS: dict[str, Slot] = {
    "brightness": Slot("brightness_pct", "brightness"),
    "color": Slot("color_name", "color"),
    "warmth": Slot("color_temp_kelvin", "warmth"),
    "percentage": Slot("percentage", "percentage"),
    "position": Slot("position", "position"),
    "volume": Slot("volume_level", "volume", divisor=100),
    "title": Slot("media_content_id", "title"),
    "temperature": Slot("temperature", "target"),
    "humidity": Slot("humidity", "target_humidity"),
    "hvac_mode": Slot("hvac_mode", "state"),
    "fan_mode": Slot("fan_mode", "fan_mode"),
    "duration": Slot("duration", "duration"),
    "item": Slot("item", ""),
}


@dataclass(frozen=True)
class Action:
    """A service with the values that a request names. `key` is its name in phrase files: `light.turn_on brightness`.

    `fits` holds for states that the action changes, `done` for those in which there is nothing left to do.
    """

    key: str
    service: str
    slots: tuple[str, ...]
    fits: Callable[[State], bool]
    done: Callable[[State], bool]
    fixed: Mapping[str, Any]

    @property
    def domain(self) -> str:
        return self.service.partition(".")[0]

    @property
    def arguments(self) -> tuple[str, ...]:
        """The names of the arguments that its calls give."""
        return (*(SLOTS[slot].argument for slot in self.slots), *self.fixed)

    def call(self, entity_id: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return `{"service", "target_device", arguments…}`."""
        call: dict[str, Any] = {"service": self.service, "target_device": entity_id}
        for name in self.slots:
            slot = SLOTS[name]
            call[slot.argument] = values[name] / slot.divisor if slot.divisor else values[name]
        return {**call, **self.fixed}


def _always(state: State) -> bool:
    return True


def _never(state: State) -> bool:
    return False


def _is(*states: str) -> Callable[[State], bool]:
    return lambda state: state["state"] in states


def _isnt(*states: str) -> Callable[[State], bool]:
    return lambda state: state["state"] not in states


def _has(key: str) -> Callable[[State], bool]:
    return lambda state: key in state


def _actions() -> dict[str, Action]:
    actions: dict[str, Action] = {}

    def add(
        key: str,
        fits: Callable[[State], bool] = _always,
        done: Callable[[State], bool] = _never,
        **fixed: Any,
    ) -> None:
        service, *slots = key.split()
        # Words that are not slots, as in `volume_mute off`, only distinguish actions of one service.
        actions[key] = Action(key, service, tuple(slot for slot in slots if slot in SLOTS), fits, done, fixed)

    for domain in ("light", "switch", "fan", "media_player"):
        add(f"{domain}.turn_on", _is("off"), _isnt("off"))
        add(f"{domain}.turn_off", _isnt("off"), _is("off"))
    for domain in ("light", "switch", "fan"):
        add(f"{domain}.toggle")
    add("light.turn_on brightness")
    add("light.turn_on color")
    add("light.turn_on brightness color")
    add("light.turn_on warmth")
    add("fan.set_percentage percentage")
    add("fan.increase_speed", lambda state: 0 < state.get("percentage", 0) < 90)
    add("fan.decrease_speed", lambda state: state.get("percentage", 0) > 20)
    add(
        "cover.open_cover",
        _is("closed"),
        lambda state: state.get("position", 100) == 100 and state["state"] == "open",
    )
    add("cover.close_cover", _is("open"), _is("closed"))
    add("cover.stop_cover", _is("opening", "closing"))
    add("cover.toggle", _is("open", "closed"))
    add("cover.set_cover_position position", _has("position"))
    add("lock.lock", _is("unlocked"), _is("locked"))
    add("lock.unlock", _is("locked"), _is("unlocked"))
    add("media_player.media_play", _is("paused"), _is("playing"))
    add("media_player.media_pause", _is("playing"), _is("paused"))
    add("media_player.media_stop", _is("playing", "paused"))
    add("media_player.media_next_track", _is("playing", "paused"))
    add("media_player.media_previous_track", _is("playing", "paused"))
    add("media_player.volume_up", lambda state: state["state"] != "off" and state["volume"] < 100)
    add("media_player.volume_down", lambda state: state["state"] != "off" and state["volume"] > 0)
    add("media_player.volume_set volume", _isnt("off"))
    add("media_player.volume_mute on", _is("playing"), is_volume_muted=True)
    add("media_player.volume_mute off", _is("playing"), is_volume_muted=False)
    add("media_player.play_media title", media_content_type="music")
    add("climate.turn_on", _is("off"), _isnt("off"))
    add("climate.turn_off", _isnt("off"), _is("off"))
    add("climate.set_temperature temperature", _isnt("off"))
    add("climate.set_humidity humidity", _isnt("off"))
    add("climate.set_hvac_mode hvac_mode")
    add("climate.set_fan_mode fan_mode", _isnt("off"))
    add("vacuum.start", _is("docked", "idle", "paused"), _is("cleaning"))
    add("vacuum.pause", _is("cleaning"), _is("paused"))
    add("vacuum.stop", _is("cleaning", "returning"))
    add("vacuum.return_to_base", _is("cleaning", "idle", "paused"), _is("docked", "returning"))
    add("vacuum.locate")
    add("timer.start", _is("idle", "paused"), _is("active"))
    add("timer.start duration", _is("idle"))
    add("timer.pause", _is("active"), _is("paused"))
    add("timer.cancel", _is("active", "paused"), _is("idle"))
    add("todo.add_item item")
    add("todo.remove_item item", lambda state: state["count"] > 0)
    add("todo.update_item item", lambda state: state["count"] > 0, status="completed")
    add("scene.turn_on")
    add("script.turn_on")
    add("button.press")
    add("valve.open_valve", _is("closed"), lambda state: state.get("position", 100) == 100 and state["state"] == "open")
    add("valve.close_valve", _is("open"), _is("closed"))
    add("valve.set_valve_position position", _has("position"))
    for domain in ("water_heater", "humidifier"):
        add(f"{domain}.turn_on", _is("off"), _isnt("off"))
        add(f"{domain}.turn_off", _isnt("off"), _is("off"))
    add("water_heater.set_temperature temperature", _isnt("off"))
    add("humidifier.set_humidity humidity", _isnt("off"))
    add("lawn_mower.start_mowing", _is("docked", "paused"), _is("mowing"))
    add("lawn_mower.pause", _is("mowing"), _is("paused"))
    add("lawn_mower.dock", _is("mowing", "paused"), _is("docked"))
    return actions


ACTIONS: dict[str, Action] = _actions()

# Actions that may have nothing left to do: each needs answers under `[already KEY]`.
REFUSABLE: tuple[str, ...] = tuple(key for key, action in ACTIONS.items() if action.done is not _never)

_TOGETHER = ("light", "switch", "fan", "cover", "lock", "media_player", "climate", "valve", "humidifier")

# Actions that can be requested of all devices of a domain in a room, or in the home.
COLLECTIVE: frozenset[str] = frozenset(
    key
    for key in ACTIONS
    if key.split(".")[0] in _TOGETHER and not key.endswith(("toggle", "title", "volume_mute on", "volume_mute off"))
)


def _state_answers(domain: str, *states: str) -> dict[str, Callable[[State], bool]]:
    return {f"{domain}.state {state}": _is(state) for state in states}


# What users ask about: for each question, its answers and the states that they answer.
# An answer may use the state's values as placeholders: `{brightness}`, `{title}`, …
QUESTIONS: dict[str, dict[str, Callable[[State], bool]]] = {
    "light.state": _state_answers("light", "on", "off"),
    "light.brightness": {"light.brightness": _has("brightness")},
    "light.color": {"light.color": _has("color")},
    "switch.state": _state_answers("switch", "on", "off"),
    "fan.state": _state_answers("fan", "on", "off"),
    "fan.percentage": {"fan.percentage": _has("percentage")},
    "cover.state": _state_answers("cover", "open", "closed", "opening", "closing"),
    "cover.position": {"cover.position": _has("position")},
    "lock.state": _state_answers("lock", "locked", "unlocked"),
    "media_player.state": _state_answers("media_player", "playing", "paused", "idle", "off"),
    "media_player.title": {"media_player.title": _has("title")},
    "media_player.volume": {"media_player.volume": _has("volume")},
    "climate.state": {"climate.state off": _is("off"), "climate.state on": _isnt("off")},
    "climate.temperature": {"climate.temperature": _has("temperature")},
    "climate.target": {"climate.target": _has("target")},
    "climate.humidity": {"climate.humidity": _has("humidity")},
    "climate.fan_mode": {"climate.fan_mode": _has("fan_mode")},
    "vacuum.state": _state_answers("vacuum", "cleaning", "docked", "returning", "paused", "idle"),
    "vacuum.battery": {"vacuum.battery": _has("battery")},
    "timer.state": _state_answers("timer", "active", "paused", "idle"),
    "timer.remaining": {"timer.remaining": _has("remaining")},
    "todo.count": {"todo.count": _always},
    "valve.state": _state_answers("valve", "open", "closed"),
    "valve.position": {"valve.position": _has("position")},
    "water_heater.state": {"water_heater.state off": _is("off"), "water_heater.state on": _isnt("off")},
    "water_heater.temperature": {"water_heater.temperature": _has("temperature")},
    "humidifier.state": _state_answers("humidifier", "on", "off"),
    "humidifier.humidity": {"humidifier.humidity": _has("humidity")},
    "lawn_mower.state": _state_answers("lawn_mower", "mowing", "docked", "paused"),
    "binary_sensor.state": {"binary_sensor.state": _always},
    "sensor.value": {"sensor.value": _always},
    "person.state": _state_answers("person", "home", "not_home"),
    "weather.state": {"weather.state": _always},
    "calendar.event": {"calendar.event": _always},
}

# Question → where Home Assistant holds what it asks: an attribute, or the state itself.
ASKED: dict[str, str] = {
    "light.brightness": "brightness",
    "light.color": "rgb_color",
    "fan.percentage": "percentage",
    "cover.position": "current_position",
    "media_player.title": "media_title",
    "media_player.volume": "volume_level",
    "climate.temperature": "current_temperature",
    "climate.target": "temperature",
    "climate.humidity": "current_humidity",
    "climate.fan_mode": "fan_mode",
    "vacuum.battery": "battery_level",
    "timer.remaining": "remaining",
    "valve.position": "current_position",
    "water_heater.temperature": "current_temperature",
    "humidifier.humidity": "current_humidity",
    "sensor.value": "state",
    "calendar.event": "message",
    **{question: "state" for question in QUESTIONS if question.endswith((".state", ".count"))},
}

# The placeholders, besides `{device}`, that an answer to a question may use.
STATUS_SLOTS: dict[str, tuple[str, ...]] = {
    "light.brightness": ("brightness",),
    "light.color": ("color",),
    "fan.percentage": ("percentage",),
    "cover.position": ("position",),
    "media_player.state playing": ("title",),
    "media_player.title": ("title",),
    "media_player.volume": ("volume",),
    "climate.state on": ("hvac_mode",),
    "climate.temperature": ("temperature",),
    "climate.target": ("temperature",),
    "climate.humidity": ("humidity",),
    "climate.fan_mode": ("fan_mode",),
    "vacuum.battery": ("battery",),
    "timer.remaining": ("remaining",),
    "todo.count": ("count",),
    "valve.position": ("position",),
    "water_heater.temperature": ("temperature",),
    "humidifier.humidity": ("humidity",),
    "binary_sensor.state": ("state",),
    "sensor.value": ("value",),
    "weather.state": ("condition", "temperature"),
    "calendar.event": ("event",),
}

QUESTION_SLOTS: dict[str, tuple[str, ...]] = {"binary_sensor.state": ("state",)}
"""The placeholders, besides `{device}`, that a question may use: what is supposed, "is the window open?"."""

IN_A_PLACE = ("weather.state", "climate.temperature")
"""Questions that need not name a device: "how warm is it in the kitchen?"."""

STATUS_ANSWERS: tuple[str, ...] = tuple(key for answers in QUESTIONS.values() for key in answers)
