"""The tools that Home Assistant's Assist API offers through a voice satellite alone: timers and broadcasts.

They touch no entity. Source: `components/intent/timers.py` and `components/assist_satellite/intent.py` in
home-assistant/core. The descriptions are our own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hatrain.home.calls.compare import CLOCK_KEYS
from hatrain.home.clients.targets import same_place
from hatrain.home.clients.tool import (
    Arguments,
    Json,
    Slot,
    function,
    missing_slot,
    not_an_argument,
    number,
    refused,
    some_text,
    within,
)
from hatrain.home.homes.scene import Satellite, SatelliteTimer
from hatrain.home.simulation.thing import Event

TIMER_STATUS = "HassTimerStatus"
TIMERS = "timers"
"""What a call of `HassTimerStatus` reads; with a filter its text follows."""

_START_KEYS = tuple(f"start_{unit}" for unit in CLOCK_KEYS)


@dataclass(frozen=True)
class SatelliteTool:
    """One intent. `happens` is what a call of it does; nothing for one that only reads. One of `one_of` is needed."""

    name: str
    description: str
    happens: str
    slots: Mapping[str, Slot] = field(default_factory=dict)
    one_of: tuple[str, ...] = ()

    def schema(self) -> Json:
        """Return the tool as an OpenAI-style function."""
        properties = {key: slot.schema for key, slot in self.slots.items()}
        required = [key for key, slot in self.slots.items() if slot.required]
        tool = function(self.name, self.description, properties, required)
        if self.one_of:
            tool["function"]["parameters"]["anyOf"] = [{"required": [key]} for key in self.one_of]
        return tool

    def problem(self, arguments: Arguments) -> str | None:
        """Return in one line what the schema refuses, if anything."""
        for key, value in arguments.items():
            if key not in self.slots:
                return not_an_argument(self.name, key, tuple(self.slots))
            if not self.slots[key].accepts(value):
                return refused(self.name, key, value)
        if self.one_of and arguments.keys().isdisjoint(self.one_of):
            return f"{self.one_of[0]}: missing; {self.name} needs one of {', '.join(self.one_of)}"
        return missing_slot(self.name, self.slots, arguments)

    def event(self, arguments: Arguments) -> Event:
        """Return what a call means, whatever the units and the spelling. `duration` and `started with` are seconds."""
        details: Json = {}
        for what, keys in (("duration", CLOCK_KEYS), ("started with", _START_KEYS)):
            seconds = _seconds(arguments, keys)
            if seconds is not None:
                details[what] = seconds
        for key in ("name", "area", "conversation_command", "message"):
            if key in arguments and (said := _plain(arguments[key])):
                details[key] = said
        return Event("", self.happens or TIMERS, details, ordered=False)


def _seconds(arguments: Arguments, keys: Sequence[str]) -> int | None:
    """Return the whole time that hours, minutes and seconds come to; None without any of them."""
    factors = zip(keys, (3600, 60, 1), strict=True)
    given = [factor * int(number(arguments[key]) or 0) for key, factor in factors if key in arguments]
    return sum(given) if given else None


def _plain(text: Any) -> str:
    """Return words without the punctuation that ends them, in lower case."""
    return str(text).strip().rstrip(".!?…").rstrip().casefold()


def _whole(key_prefix: str = "") -> dict[str, Slot]:
    whole = Slot({"type": "integer", "minimum": 0}, within(0), required=False)
    return {f"{key_prefix}{unit}": whole for unit in CLOCK_KEYS}


def _tools() -> dict[str, SatelliteTool]:
    text = Slot({"type": "string"}, lambda value: isinstance(value, str), required=False)
    said = Slot({"type": "string"}, some_text)
    amount, start = _whole(), _whole("start_")
    finding = {**start, "name": text, "area": text}
    tools = [
        SatelliteTool(
            "HassStartTimer",
            "Starts a timer. With a conversation_command that command is carried out when the time is over.",
            "start timer",
            {**amount, "name": text, "conversation_command": text},
            CLOCK_KEYS,
        ),
        SatelliteTool("HassCancelTimer", "Ends a timer before its time is over.", "cancel timer", finding),
        SatelliteTool(
            "HassCancelAllTimers", "Ends every timer, or those of an area.", "cancel all timers", {"area": text}
        ),
        SatelliteTool("HassIncreaseTimer", "Gives a timer more time.", "increase timer", {**amount, **finding}),
        SatelliteTool(
            "HassDecreaseTimer", "Takes time from a timer.", "decrease timer", {**amount, **finding}, CLOCK_KEYS
        ),
        SatelliteTool("HassPauseTimer", "Pauses a timer that runs.", "pause timer", finding),
        SatelliteTool("HassUnpauseTimer", "Lets a paused timer go on.", "unpause timer", finding),
        SatelliteTool(TIMER_STATUS, "Reads how much time is left on timers.", "", finding),
        SatelliteTool(
            "HassBroadcast", "Says a message through the other satellites of the home.", "broadcast", {"message": said}
        ),
    ]
    return {tool.name: tool for tool in tools}


SATELLITE_TOOLS: dict[str, SatelliteTool] = _tools()


def answer(tool: str, arguments: Arguments, satellite: Satellite | None, *, must_fail: bool) -> Json:
    """Return what Home Assistant answers to a call. `must_fail`: no timer is the one that the call means."""
    if must_fail:
        return {"error": "TimerNotFoundError", "error_text": "Timer not found"}
    done: Json = {"speech": {}, "response_type": "action_done"}
    found = [timer for timer in satellite.timers if _means(arguments, timer, satellite)] if satellite else []
    if tool == TIMER_STATUS:
        done["speech_slots"] = {"timers": list(map(_status, found))}
    elif tool == "HassCancelAllTimers":
        area = {"area": arguments["area"]} if "area" in arguments else {}
        done["speech_slots"] = {"canceled": len(found), **area}
    return {**done, "data": {"targets": [], "success": [], "failed": []}}


def _means(arguments: Arguments, timer: SatelliteTimer, satellite: Satellite) -> bool:
    name, area = arguments.get("name"), arguments.get("area")
    start = _seconds(arguments, _START_KEYS)
    return (
        (name is None or _plain(name) == _plain(timer.name))
        and (area is None or same_place(area, satellite.area))
        and (start is None or start == timer.seconds)
    )


def _status(timer: SatelliteTimer) -> Json:
    start, left = _clock(timer.seconds), _clock(timer.left)
    return {
        "name": timer.name,
        **{f"start_{unit}": amount for unit, amount in zip(CLOCK_KEYS, start, strict=True)},
        "is_active": timer.is_active,
        **{f"{unit}_left": amount for unit, amount in zip(CLOCK_KEYS, left, strict=True)},
        **{f"rounded_{unit}_left": amount for unit, amount in zip(CLOCK_KEYS, _rounded(*left), strict=True)},
        "total_seconds_left": timer.left,
    }


def _clock(seconds: int) -> tuple[int, int, int]:
    minutes, rest = divmod(seconds, 60)
    return (*divmod(minutes, 60), rest)


def _rounded(hours: int, minutes: int, seconds: int) -> tuple[int, int, int]:
    """Return a time as it is told: to half an hour, to half a minute, to ten seconds, or exactly."""
    if hours:
        return (*_half(hours, minutes), 0)
    if minutes:
        return (0, *_half(minutes, seconds))
    if seconds > 50:
        return 0, 1, 0
    return 0, 0, seconds if seconds < 10 else seconds // 10 * 10


def _half(units: int, parts: int) -> tuple[int, int]:
    """Return whole units and 0 or 30 of their sixty parts."""
    if parts > 45:
        return units + 1, 0
    return units, 0 if parts < 15 else 30
