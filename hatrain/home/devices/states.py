"""The states that devices can be in. Every list is built once, in full."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import cycle, islice
from typing import Any, Literal

from hatrain.home.calls.colors import CSS_COLORS
from hatrain.home.devices.abilities import ANY, Abilities
from hatrain.home.devices.actions import State
from hatrain.home.devices.sensors import CONDITIONS, SENSORS
from hatrain.home.devices.services import COLORS, FAN_MODES, HVAC_MODES

Unit = Literal["C", "F"]

PERCENTS = tuple(range(5, 101, 5))
TEMPERATURES: dict[Unit, tuple[float, ...]] = {
    "C": tuple(half / 2 if half % 2 else half // 2 for half in range(32, 53)),  # 16 to 26 °C in half degrees
    "F": tuple(range(60, 81)),
}
HUMIDITIES = tuple(range(30, 66, 5))
WATER_HEATER_MODES = ("electric",)
"""The states of a water heater that is on. People ask whether it is on, and not for its mode."""
WARMTHS = (2200, 2700, 3000, 4000, 5000, 6500)
"""Colour temperatures of white light in kelvin."""
DURATIONS = tuple(
    [f"00:{minutes:02}:00" for minutes in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 18, 20, 22, 25, 30, 35, 40, 45, 50)]
    + [f"00:00:{seconds}" for seconds in (15, 20, 30, 40, 45)]
    + [f"{hours:02}:{minutes:02}:00" for hours in (1, 2, 3) for minutes in (0, 15, 20, 30, 45)]
    + ["00:01:30", "00:02:30", "04:00:00", "05:00:00", "08:00:00"]
)


def degrees(value: float, unit: Unit) -> str:
    """Return `21.5°C`, as Home Assistant writes it in every language."""
    return f"{value:g}°{unit}"


Plain = dict[str, Any]
"""A state without its attributes and text: the keys that `actions.py` names."""

StateText = Callable[[str, State, Unit], str]
"""From a domain and a state to the part of a device's line after the `=`: `on;40%`. Each client has its own."""


def _light() -> Iterator[Plain]:
    colors = cycle(COLORS)
    for brightness in PERCENTS:
        yield {"state": "off"}
        yield {"state": "off"}
        yield {"state": "on", "brightness": brightness}
        yield {"state": "on", "brightness": brightness, "color": next(colors)}
    for color in COLORS:
        yield {"state": "on", "brightness": 100, "color": color}


def _fan() -> Iterator[Plain]:
    for percentage in (10, 20, 25, 30, 33, 40, 50, 60, 66, 70, 75, 80, 90, 100):
        yield {"state": "off"}
        yield {"state": "on", "percentage": percentage}


def _positioned_cover() -> Iterator[Plain]:
    for position in PERCENTS:
        yield {"state": "open", "position": position}
        yield {"state": "closed", "position": 0}
        yield {"state": "open", "position": 100}
    for moving in ("opening", "closing"):
        for position in (25, 40, 60):
            yield {"state": moving, "position": position}


def _plain_cover() -> Iterator[Plain]:
    yield from _switches(*(("open", "closed") * 6), "opening", "closing")


def _media_player(titles: Sequence[str]) -> Iterator[Plain]:
    volumes = cycle(PERCENTS)
    for title in titles:
        yield {"state": "off"}
        yield {"state": "idle", "volume": next(volumes)}
        for state in ("playing", "playing", "paused"):
            yield {"state": state, "volume": next(volumes), "title": title}


def _climate(unit: Unit, cools: bool) -> Iterator[Plain]:
    every = ("heat", "cool", "off", "auto", "heat_cool", "heat", "off", "dry", "cool", "fan_only")
    modes = cycle(every if cools else ("heat", "off", "auto", "heat", "off"))
    fans, humidities, targets = cycle(FAN_MODES), cycle(range(28, 71, 3)), cycle(HUMIDITIES)
    steps = TEMPERATURES[unit]
    for index, target in islice(enumerate(cycle(steps)), 10 * len(steps)):
        mode = next(modes)
        now, humidity, fan = steps[(index * 8 + index // 7) % len(steps)], next(humidities), next(fans)
        state: Plain = {"state": mode, "temperature": now, "humidity": humidity}
        if mode != "off":
            state["target"] = target
        if mode != "off" and cools:
            state |= {"fan_mode": fan, "target_humidity": next(targets)}
        yield state


def _vacuum() -> Iterator[Plain]:
    states = cycle(("docked", "cleaning", "docked", "returning", "paused", "idle", "cleaning"))
    for battery in range(12, 101, 2):
        yield {"state": next(states), "battery": battery}


def _timer() -> Iterator[Plain]:
    for duration in DURATIONS:
        yield {"state": "idle"}
        yield {"state": "active", "remaining": duration}
        yield {"state": "paused", "remaining": duration}


def _valve() -> Iterator[Plain]:
    for position in (25, 50, 75):
        yield {"state": "open", "position": position}
        yield {"state": "closed", "position": 0}
        yield {"state": "open", "position": 100}


def _water_heater(unit: Unit) -> Iterator[Plain]:
    for mode in ("off", *WATER_HEATER_MODES):
        for now, target in ((38, 50), (46, 55), (52, 60)):
            state: Plain = {"state": mode, "temperature": now if unit == "C" else now + 32}
            yield state if mode == "off" else state | {"target": target if unit == "C" else target + 32}


def _humidifier() -> Iterator[Plain]:
    for humidity, target in zip(range(32, 64, 4), HUMIDITIES, strict=False):
        yield {"state": "off", "humidity": humidity}
        yield {"state": "on", "humidity": humidity, "target_humidity": target}


def _sensor(device_class: str, unit: Unit) -> Iterator[Plain]:
    symbol, values = SENSORS.get(device_class) or SENSORS["aqi"]  # a user's sensor without a class: a bare number
    for value in values:
        if symbol == "°C" and unit == "F":
            yield {"state": f"{round(value * 1.8 + 32)}", "value": round(value * 1.8 + 32), "unit": "°F"}
        else:
            yield {"state": f"{value:g}", "value": value, "unit": symbol}


def _weather(unit: Unit) -> Iterator[Plain]:
    for index, condition in enumerate(CONDITIONS * 2):
        celsius = (index * 7) % 31 - 4
        yield {"state": condition, "temperature": celsius if unit == "C" else round(celsius * 1.8 + 32)}


def _switches(*states: str) -> Iterator[Plain]:
    yield from ({"state": state} for state in states)


def _plain_states(
    domain: str, unit: Unit, titles: Sequence[str], positioned: bool, cools: bool, device_class: str
) -> Iterator[Plain]:
    match domain:
        case "light":
            return _light()
        case "fan":
            return _fan()
        case "cover":
            return _positioned_cover() if positioned else _plain_cover()
        case "media_player":
            return _media_player(titles)
        case "climate":
            return _climate(unit, cools)
        case "vacuum":
            return _vacuum()
        case "timer":
            return _timer()
        case "lock":
            return _switches("locked", "unlocked")
        case "todo":
            return ({"state": str(count), "count": count} for count in range(16))
        case "valve":
            return _valve()
        case "water_heater":
            return _water_heater(unit)
        case "humidifier":
            return _humidifier()
        case "lawn_mower":
            return _switches("mowing", "mowing", "docked", "paused")
        case "sensor":
            return _sensor(device_class, unit)
        case "person":
            return _switches("home", "not_home", "home")
        case "weather":
            return _weather(unit)
        case "calendar":
            return ({"state": "off", "event": title} for title in titles)
        case "scene" | "script" | "button":
            return _switches("unknown" if domain != "script" else "off")
    return _switches("on", "off")


def attributes(domain: str, state: State, unit: Unit, *, cools: bool = True, device_class: str = "") -> dict[str, Any]:
    """Return a state's attributes with Home Assistant's keys and units, and what the device can do.

    A brightness in percent becomes the lowest of 255 steps that is shown as that percentage.
    """
    found: dict[str, Any] = {"device_class": device_class} if device_class else {}
    if domain == "light":
        found["supported_color_modes"] = ["color_temp", "rgb"]
        if "brightness" in state:
            found["brightness"] = -(-state["brightness"] * 255 // 100)
        if "color" in state:
            found |= {"color_mode": "rgb", "rgb_color": CSS_COLORS[state["color"]]}
    elif domain == "climate":
        steps = TEMPERATURES[unit]
        found["hvac_modes"] = list(HVAC_MODES if cools else ("off", "heat", "auto"))
        found |= {"min_temp": min(steps) - 9, "max_temp": max(steps) + 9}
        if cools:
            found["fan_modes"] = list(FAN_MODES)
    elif domain == "sensor" and state["unit"]:
        found["unit_of_measurement"] = state["unit"]
    elif domain == "weather":
        found["temperature_unit"] = f"°{unit}"
    elif domain == "fan":
        found["percentage"] = state.get("percentage", 0)
    elif domain == "media_player" and "volume" in state:
        found["volume_level"] = state["volume"] / 100
    elif domain == "timer" and "remaining" in state:
        hours, _, rest = state["remaining"].partition(":")
        found["remaining"] = f"{int(hours)}:{rest}"
    return found | {key: state[own] for own, key in _SAME_VALUES[domain].items() if own in state}


# Domain → key of a state → the attribute that holds the same value.
_SAME_VALUES: dict[str, dict[str, str]] = defaultdict(
    dict,
    cover={"position": "current_position"},
    media_player={"title": "media_title"},
    climate={
        "temperature": "current_temperature",
        "humidity": "current_humidity",
        "target": "temperature",
        "target_humidity": "humidity",
        "fan_mode": "fan_mode",
    },
    vacuum={"battery": "battery_level"},
    valve={"position": "current_position"},
    water_heater={"temperature": "current_temperature", "target": "temperature"},
    humidifier={"humidity": "current_humidity", "target_humidity": "humidity"},
    weather={"temperature": "temperature"},
    calendar={"event": "message"},
)


@cache
def state_pool(
    domain: str,
    unit: Unit,
    titles: tuple[str, ...],
    text: StateText,
    *,
    positioned: bool = True,
    cools: bool = True,
    device_class: str = "",
    able: Abilities = ANY,
) -> tuple[State, ...]:
    """Return the states that a device may be in; likely ones occur several times.

    Each also has its `attributes` as Home Assistant has them, and as `text` what a client's prompt says of it.
    `titles`: what may be playing, or stand in a calendar. `positioned`: a cover that can stop half way. `cools`: a
    climate device that does more than heat. `able`: what a device of a user's home states of itself.
    """
    states = []
    for plain in able.states(domain, _plain_states(domain, unit, titles, positioned, cools, device_class)):
        usual = attributes(domain, plain, unit, cools=cools, device_class=device_class)
        state = {**plain, "attributes": able.attributes(domain, usual)}
        states.append({**state, "text": text(domain, state, unit)})
    return tuple(states)
