"""Generates what is said about no device: talk, the time, delays, conditions, and the timers of a voice satellite."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from hatrain.home.calls.compare import CLOCK_KEYS, duration_seconds
from hatrain.home.clients.assist_tools import DATE_TIME
from hatrain.home.clients.client import Client
from hatrain.home.devices.states import DURATIONS, TEMPERATURES
from hatrain.home.generate.conversation import Conversation, Step, Turn, read_call
from hatrain.home.generate.drafts import Call, Draft, Drafts
from hatrain.home.generate.places import Kind, near_satellite, room_forms
from hatrain.home.homes.home import Device, Draw, Home, pick
from hatrain.home.homes.scene import Satellite, SatelliteTimer
from hatrain.home.intents.shape import Shape, make_shape
from hatrain.home.judge.asked import RESPONSE, Asked
from hatrain.home.language.grammar import Forms
from hatrain.home.language.places import fill_text
from hatrain.home.language.templates import Template
from hatrain.home.language.topics import TALK, TIMERS

_LATER = ("later", "later", "when", "if above", "if below")
_TALK = tuple(key for key in TALK if key not in _LATER)
_MEASURED = {"climate": ("current_temperature", "temperature"), "sensor": ("state", "value")}
"""Domain → the attribute that holds a temperature, and the key of the state that has it as a number."""

_TOOLS = {
    "start": "HassStartTimer",
    "start named": "HassStartTimer",
    "pause": "HassPauseTimer",
    "resume": "HassUnpauseTimer",
    "cancel": "HassCancelTimer",
    "increase": "HassIncreaseTimer",
    "decrease": "HassDecreaseTimer",
    "status": "HassTimerStatus",
    "cancel all": "HassCancelAllTimers",
    "cancel all room": "HassCancelAllTimers",
}
_NEEDS_ACTIVE = {"pause": True, "resume": False}
"""What a timer must be doing for a request to make sense."""


class Talk:
    """Generates such conversations in one language, where the client has what they need."""

    def __init__(self, drafts: Drafts, client: Client, *, apart: bool):
        self._drafts, self._language, self._client = drafts, drafts.language, client
        self._wording, self._ask, self._say = drafts.wording, drafts.templates.ask, drafts.templates.say
        self._reads = apart and not client.states_in_prompt
        self._broadcasts = client.offers("HassBroadcast", ["message"])
        self._timers = client.offers("HassStartTimer", ["minutes"])

    def talk(self, draw: Draw, home: Home) -> Conversation | None:
        """Greetings, thanks, questions about the assistant, the time and the date; a message for everybody."""
        topic = pick(draw, _TALK)
        rules, moment = self._language.grammar.rules, home.scene.moment
        fillers: dict[str, Any] = {}
        calls: tuple[Call, ...] = ()
        told, shape = None, make_shape("HassRespond", ())
        match topic:
            case "nevermind":
                shape = make_shape("HassNevermind", ())
            case "time" | "date":
                say = rules.clock if topic == "time" else rules.day
                fillers[topic] = {"base": say(moment)}
                shape = make_shape(f"HassGetCurrent{topic.capitalize()}", ())
                if self._reads:
                    calls, told = ({"service": DATE_TIME},), _clock_result(moment)
            case "broadcast":
                if not self._broadcasts or home.scene.satellite is None:
                    return None
                message = pick(draw, self._language.values.messages)
                fillers["message"] = {"base": message}
                calls = ({"service": "HassBroadcast", "message": message},)
                shape = make_shape("HassBroadcast", {"message"})
        user, answer = self._words(draw, topic, fillers, fillers)
        asked = (Asked(topic, RESPONSE, answer),) if topic in ("time", "date") else ()
        return self._conversation(home, "talk", user, answer, calls, shape, told=told, asked=asked)

    def later(self, draw: Draw, home: Home) -> Conversation | None:
        """A request with a delay, one that waits for something, or one with a condition."""
        topic = pick(draw, _LATER)
        draft = self._drafts.plain(draw, home)
        if draft is None:
            return None
        request = {"request": {"base": draft.user}}
        if topic == "when":
            user, answer = self._words(draw, topic, request, {})
            return self._conversation(home, "later", user, answer, (), None)
        if topic == "later":
            if not self._timers or home.scene.satellite is None:
                return None
            duration = pick(draw, DURATIONS)
            forms = {"duration": self._duration(draw, home, duration)}
            user, answer = self._words(draw, topic, {**request, **forms}, forms)
            command = self._language.grammar.rules.finish(draft.user)
            call = {"service": "HassStartTimer", **_amounts(duration), "conversation_command": command}
            shape = make_shape("HassStartTimer", {"duration", "command"})
            return self._conversation(home, "later", user, answer, (call,), shape)
        return self._conditional(draw, home, topic, draft)

    def _conditional(self, draw: Draw, home: Home, topic: str, draft: Draft) -> Conversation | None:
        """A request that is carried out if it is warmer, or colder, in a room than so many degrees."""
        measured = [device for device in home.devices if self._measures_temperature(device)]
        if not measured:
            return None
        sensor = pick(draw, measured)
        room, now = sensor.name.room, sensor.state[_MEASURED[sensor.name.domain][1]]
        limit = pick(draw, TEMPERATURES[home.unit])
        if limit == now or room is None or draft.devices[0] is sensor:
            return None
        holds = now > limit if topic == "if above" else now < limit
        words = self._language.values.wordings
        fillers = {
            "request": {"base": draft.user},
            "room": room.forms,
            "temperature": pick(draw, words("temperature", limit, home.unit)),
        }
        user, answer = self._words(
            draw, topic, fillers, {**fillers, "temperature": pick(draw, words("temperature", now, home.unit))}
        )
        calls: tuple[Call, ...] = ()
        if holds:
            calls = tuple(draft.calls)
            done = {**self._wording.device(draw, draft.devices[0]), **draft.wordings}
            templates = self._drafts.templates.answers[home.persona, "action", draft.action.key]
            answer = self._wording.sentence(draw, templates, done)
        return self._conversation(home, "later", user, answer, calls, None, reads=sensor, about=draft.devices)

    def _measures_temperature(self, device: Device) -> bool:
        key = _MEASURED.get(device.name.domain, ("", ""))
        is_temperature = device.name.domain == "climate" or str(device.state.get("unit", "")).startswith("°")
        return is_temperature and key[1] in device.state and self._client.shows(key[0], device.state)

    def timers(self, draw: Draw, home: Home) -> Conversation | None:
        """A request about the timers of the satellite."""
        satellite = home.scene.satellite
        if not self._timers or satellite is None:
            return None
        topic = pick(draw, tuple(TIMERS))
        said: dict[str, Any] = {}
        call: dict[str, Any] = {"service": _TOOLS[topic]}
        slots: set[str] = set()
        timer, template = None, pick(draw, self._ask[topic])
        if "timer" in TIMERS[topic].asked:
            fitting = [each for each in satellite.timers if each.is_active == _NEEDS_ACTIVE.get(topic, each.is_active)]
            if not fitting:
                return None
            timer = pick(draw, fitting)
            reference = self._refer(draw, home, satellite, timer)
            if reference is None:
                return None
            said["timer"], found, slot = reference
            call |= found
            slots |= {slot} if slot else set()
        if "duration" in TIMERS[topic].asked:
            possible = [
                each
                for each in DURATIONS
                if topic != "decrease" or timer is None or (duration_seconds(each) or 0) < timer.left
            ]
            if not possible:
                return None
            duration = pick(draw, possible)
            said["duration"] = self._duration(draw, home, duration)
            call |= _amounts(duration)
            slots.add("duration")
        if "label" in TIMERS[topic].asked:
            label = pick(draw, self._language.values.labels)
            said["label"] = {"base": label}
            call["name"] = label
            slots.add("name")
        if "room" in TIMERS[topic].asked:
            kind: Kind = "here" if draw() < 0.4 else "area"
            room = pick(draw, self._language.places.here) if kind == "here" else self._room(home)
            if room is None or not room_forms(template) <= room.keys():
                return None
            said["room"] = room
            call["area"] = satellite.area
            slots.add(kind)
        answers = dict(said)
        if topic == "status" and timer:
            answers["remaining"] = self._duration(draw, home, _as_text(timer.left))
        user, answer = self._words(draw, topic, said, answers, template)
        shape = make_shape(_TOOLS[topic], slots)
        asked = (Asked("timer", RESPONSE, answer),) if topic == "status" else ()
        return self._conversation(home, "timers", user, answer, (call,), shape, asked=asked)

    def _refer(
        self, draw: Draw, home: Home, satellite: Satellite, timer: SatelliteTimer
    ) -> tuple[Forms, dict[str, Any], str] | None:
        """Draw a way to refer to a timer that no other timer shares: forms, what the tool is told, the shape's slot."""
        others = [other for other in satellite.timers if other is not timer]
        kind = pick(draw, ("any", "named", "room", "lasting"))
        patterns = pick(draw, self._language.timers[kind])
        if kind == "named":
            if not timer.name or any(other.name == timer.name for other in others):
                return None
            return fill_text(patterns, {"label": {"base": timer.name}}), {"name": timer.name}, "name"
        if kind == "lasting":
            if any(other.seconds == timer.seconds for other in others):
                return None
            duration = _as_text(timer.seconds)
            start = {f"start_{key}": amount for key, amount in _amounts(duration).items()}
            return fill_text(patterns, {"duration": self._duration(draw, home, duration)}), start, "start"
        if others:
            return None
        if kind == "room":
            room = self._room(home)
            return None if room is None else (fill_text(patterns, {"room": room}), {"area": satellite.area}, "area")
        return patterns, {}, ""

    def _room(self, home: Home) -> Forms | None:
        """Return the forms of the room that the satellite is in."""
        return next((device.name.room.forms for device in near_satellite(home) if device.name.room), None)

    def _duration(self, draw: Draw, home: Home, duration: str) -> Forms:
        return pick(draw, self._language.values.wordings("duration", duration, home.unit))

    def _words(
        self, draw: Draw, topic: str, said: dict[str, Any], answers: dict[str, Any], template: Template | None = None
    ) -> tuple[str, str]:
        """Draw a request, with a template or any, and an answer."""
        user = self._wording.fill(draw, template or pick(draw, self._ask[topic]), said)
        return self._wording.request(draw, user), self._wording.sentence(draw, self._say[topic], answers)

    def _conversation(
        self,
        home: Home,
        kind: str,
        user: str,
        answer: str,
        calls: tuple[Call, ...],
        shape: Shape | None,
        *,
        told: Any = None,
        asked: tuple[Asked, ...] = (),
        reads: Device | None = None,
        about: Sequence[Device] = (),
    ) -> Conversation:
        steps = [Step("", (read_call(reads.name.entity_id),))] if reads is not None and self._reads else []
        if calls and self._client.row_format == "messages":
            steps += [Step("", calls, told=told), Step(answer)]
        else:
            steps.append(Step(answer, calls))
        types = tuple(sorted({device.name.domain for device in about})) or ("none",)
        return Conversation(home, kind, types, (Turn(user, tuple(steps), home),), asked, None, shape)


def _amounts(duration: str) -> dict[str, int]:
    """Return the hours, minutes and seconds of `HH:MM:SS` that are not 0."""
    amounts = zip(CLOCK_KEYS, map(int, duration.split(":")), strict=True)
    return {key: amount for key, amount in amounts if amount}


def _as_text(seconds: int) -> str:
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _clock_result(moment: datetime) -> dict[str, Any]:
    """Return what the tool that reads the clock says."""
    weekday = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")[moment.weekday()]
    clock = {"date": f"{moment:%Y-%m-%d}", "time": f"{moment:%H:%M:%S}", "timezone": "UTC", "weekday": weekday}
    return {"success": True, "result": clock}
