"""The states that devices can be in, and how a system prompt writes them. Every list is built once, in full."""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import cycle, islice
from typing import Any, Literal

from hatrain.home.devices.actions import State
from hatrain.home.devices.services import COLORS, FAN_MODES

Unit = Literal["C", "F"]

PERCENTS = tuple(range(5, 101, 5))
TEMPERATURES: dict[Unit, tuple[float, ...]] = {
    "C": tuple(half / 2 if half % 2 else half // 2 for half in range(32, 53)),  # 16 to 26 °C in half degrees
    "F": tuple(range(60, 81)),
}
HUMIDITIES = tuple(range(30, 66, 5))
DURATIONS = tuple(
    [f"00:{minutes:02}:00" for minutes in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 18, 20, 22, 25, 30, 35, 40, 45, 50)]
    + [f"00:00:{seconds}" for seconds in (15, 20, 30, 40, 45)]
    + [f"{hours:02}:{minutes:02}:00" for hours in (1, 2, 3) for minutes in (0, 15, 20, 30, 45)]
    + ["00:01:30", "00:02:30", "04:00:00", "05:00:00", "08:00:00"]
)


def degrees(value: float, unit: Unit) -> str:
    """Return `21.5°C`, as Home Assistant writes it in every language."""
    return f"{value:g}°{unit}"


def write(state: dict[str, Any], *attributes: str) -> State:
    """Add `text`, the part of a device's line after the `=`."""
    return {**state, "text": ";".join([state["state"], *attributes])}


def _light() -> Iterator[State]:
    colors = cycle(COLORS)
    for brightness in PERCENTS:
        yield write({"state": "off"})
        yield write({"state": "off"})
        yield write({"state": "on", "brightness": brightness}, f"{brightness}%")
        color = next(colors)
        yield write({"state": "on", "brightness": brightness, "color": color}, f"{brightness}%", color)
    for color in COLORS:
        yield write({"state": "on", "brightness": 100, "color": color}, "100%", color)


def _fan() -> Iterator[State]:
    for percentage in (10, 20, 25, 30, 33, 40, 50, 60, 66, 70, 75, 80, 90, 100):
        yield write({"state": "off"})
        yield write({"state": "on", "percentage": percentage}, f"{percentage}%")


def _positioned_cover() -> Iterator[State]:
    for position in PERCENTS:
        yield write({"state": "open", "position": position}, f"{position}%")
        yield write({"state": "closed", "position": 0}, "0%")
        yield write({"state": "open", "position": 100}, "100%")
    for moving in ("opening", "closing"):
        for position in (25, 40, 60):
            yield write({"state": moving, "position": position}, f"{position}%")


def _plain_cover() -> Iterator[State]:
    yield from (write({"state": state}) for state in ("open", "closed") * 6)
    yield from (write({"state": state}) for state in ("opening", "closing"))


def _media_player(titles: Sequence[str]) -> Iterator[State]:
    volumes = cycle(PERCENTS)
    for title in titles:
        yield write({"state": "off"})
        idle = next(volumes)
        yield write({"state": "idle", "volume": idle}, f"vol={idle}%")
        for state in ("playing", "playing", "paused"):
            volume = next(volumes)
            yield write({"state": state, "volume": volume, "title": title}, title, f"vol={volume}%")


def _climate(unit: Unit, cools: bool) -> Iterator[State]:
    every = ("heat", "cool", "off", "auto", "heat_cool", "heat", "off", "dry", "cool", "fan_only")
    modes = cycle(every if cools else ("heat", "off", "auto", "heat", "off"))
    fans, humidities = cycle(FAN_MODES), cycle(range(28, 71, 3))
    steps = TEMPERATURES[unit]
    for index, target in islice(enumerate(cycle(steps)), 10 * len(steps)):
        mode = next(modes)
        now, humidity, fan = steps[(index * 8 + index // 7) % len(steps)], next(humidities), next(fans)
        state: dict[str, Any] = {"state": mode, "temperature": now, "humidity": humidity}
        attributes = [degrees(now, unit), f"{humidity}%"]
        if mode != "off":
            state["target"] = target
            attributes.append(f"target={degrees(target, unit)}")
        if mode != "off" and cools:
            state["fan_mode"] = fan
            attributes.append(f"fan={fan}")
        yield write(state, *attributes)


def _vacuum() -> Iterator[State]:
    states = cycle(("docked", "cleaning", "docked", "returning", "paused", "idle", "cleaning"))
    for battery in range(12, 101, 2):
        yield write({"state": next(states), "battery": battery}, f"battery={battery}%")


def _timer() -> Iterator[State]:
    for duration in DURATIONS:
        yield write({"state": "idle"})
        yield write({"state": "active", "remaining": duration}, f"remaining={duration}")
        yield write({"state": "paused", "remaining": duration}, f"remaining={duration}")


def _switches(*states: str) -> Iterator[State]:
    yield from (write({"state": state}) for state in states)


@cache
def state_pool(
    domain: str, unit: Unit, titles: tuple[str, ...], *, positioned: bool = True, cools: bool = True
) -> tuple[State, ...]:
    """Return the states that a device may be in; likely ones occur several times.

    `positioned`: a cover that can stop half way. `cools`: a climate device that does more than heat.
    """
    if domain == "light":
        return tuple(_light())
    if domain == "fan":
        return tuple(_fan())
    if domain == "cover":
        return tuple(_positioned_cover() if positioned else _plain_cover())
    if domain == "media_player":
        return tuple(_media_player(titles))
    if domain == "climate":
        return tuple(_climate(unit, cools))
    if domain == "vacuum":
        return tuple(_vacuum())
    if domain == "timer":
        return tuple(_timer())
    if domain == "lock":
        return tuple(_switches("locked", "unlocked"))
    if domain == "todo":
        return tuple(write({"state": str(count), "count": count}) for count in range(16))
    return tuple(_switches("on", "off"))
