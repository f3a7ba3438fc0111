"""Generates questions: about one device, and about all things of a kind in a place."""

from collections.abc import Mapping, Sequence
from typing import Any

from hatrain.home.clients.assist_tools import LIVE_CONTEXT
from hatrain.home.clients.client import Client
from hatrain.home.devices.actions import ASKED, QUESTION_SLOTS, QUESTIONS, STATUS_SLOTS, State
from hatrain.home.devices.states import WATER_HEATER_MODES
from hatrain.home.generate.conversation import Conversation, Step, Topic, Turn, read_call
from hatrain.home.generate.drafts import Call, any_device
from hatrain.home.generate.places import Kind, Place, draw_place, says_room
from hatrain.home.generate.shapes import domain_of_devices
from hatrain.home.generate.wording import Wording
from hatrain.home.homes.home import Device, Draw, Home, pick
from hatrain.home.intents.shape import Shape, make_shape
from hatrain.home.judge.asked import RESPONSE, Asked
from hatrain.home.language.grammar import Forms, by_name
from hatrain.home.language.load import Language
from hatrain.home.language.places import Group
from hatrain.home.language.split import Templates
from hatrain.home.language.templates import Template
from hatrain.home.language.topics import GROUP_QUESTIONS

# The state's key that answers a question, where it is not the placeholder's own name.
_STATE_KEYS = {
    ("climate.target", "temperature"): "target",
    ("climate.state on", "hvac_mode"): "state",
    ("weather.state", "condition"): "state",
}
_PLACES: tuple[Kind | None, ...] = (None, "area", "area", "area", "floor", "here", "everywhere")
"""Where a question about several things is aimed; None says no place."""
_NEARBY: tuple[Kind | None, ...] = ("area", "area", "area", "here", "here", None)
"""Where a question about one thing is aimed that it does not name."""
_MOST_NAMED = 5
"""Devices that an answer may name."""


class Questions:
    """Generates questions in one language, from one side's templates: what the client shows, or what it reads."""

    def __init__(self, language: Language, templates: Templates, client: Client, *, apart: bool):
        self._language, self._templates, self._client = language, templates, client
        self._wording, self._reads = Wording(language), apart and not client.states_in_prompt
        self._by_domain: dict[str, list[str]] = {}
        for key in sorted(templates.status):
            self._by_domain.setdefault(key.partition(".")[0], []).append(key)
        self._groups = {
            (question, name): [request.template for request in templates.group.get(question, ()) if request.fits(name)]
            for question in GROUP_QUESTIONS
            for name in language.groups
        }

    def status(self, draw: Draw, home: Home) -> Conversation | None:
        """A question about a device's state."""
        device = any_device(draw, home)
        questions = self._by_domain.get(device.name.domain)
        if not questions:
            return None
        question = pick(draw, questions)
        key = next((key for key, answers in QUESTIONS[question].items() if answers(device.state)), None)
        asked, shows = ASKED[question], self._client.shows
        if (
            key is None
            or not shows(asked, device.state)
            or ("playing" in key and not shows("media_title", device.state))
            or (question == "weather.state" and not shows("temperature", device.state))
        ):
            return None
        template = pick(draw, self._templates.status[question])
        place = None
        if "device" not in template.slots:
            kind = pick(draw, _NEARBY)
            place = draw_place(draw, self._language, home, device, kind) if kind else None
            if not _is_the_only_one(home, device, place, "room" in template.slots) or (
                place and not place.suits(template)
            ):
                return None
        group = self._group_of(device)
        if question == "binary_sensor.state" and group is None:
            return None
        fillers = self._wording.device(draw, device)
        if place is not None:
            fillers["room"] = place.forms
        supposed = pick(draw, sorted(group.states)) if group and QUESTION_SLOTS.get(question) else None
        if group and supposed is not None:
            fillers["state"] = group.state(supposed, fillers["device"].cls)
        user = self._wording.fill(draw, template, fillers)
        for slot in STATUS_SLOTS.get(key, ()):
            if slot == "state" and group:
                fillers[slot] = group.state(device.state["state"], fillers["device"].cls)
            elif slot == "event":
                fillers[slot] = {"base": device.state["event"]}
            else:
                value = status_value(key, slot, device.state)
                fillers[slot] = pick(draw, _in_digits(self._language.values.wordings(slot, value, home.unit)))
        answer = self._wording.sentence(draw, self._templates.answers[home.persona, "status", key], fillers)
        entity_id, state = device.name.entity_id, device.state
        value = state["state"] if asked == "state" else state["attributes"][asked]
        steps = (Step("", (read_call(entity_id),)), Step(answer)) if self._reads else (Step(answer),)
        user = self._wording.request(draw, user)
        turn = Turn(user, steps, home)
        topic = Topic(device.name, state, question=question)
        about = (Asked(entity_id, asked, value, supposed, self._said(question, device, group)),)
        shape = _shape_of_question(question, device, place, "device" in template.slots, user)
        return Conversation(home, "status", (device.name.domain,), (turn,), about, topic, shape)

    def groups(self, draw: Draw, home: Home) -> Conversation | None:
        """A question about all things of a kind: any, all, which, how many."""
        device = any_device(draw, home)
        domain, device_class = device.name.domain, device.state["attributes"].get("device_class")
        names = [name for name in (domain, f"{domain}.{device_class}") if name in self._language.groups]
        if not names or not self._client.shows("state", device.state):
            return None
        name = pick(draw, names)
        question = pick(draw, tuple(GROUP_QUESTIONS))
        group, templates = self._language.groups[name], self._groups[question, name]
        if not templates or (question == "there" and group.there is None):
            return None
        kind = None if domain == "person" else pick(draw, _PLACES)
        place = kind and draw_place(draw, self._language, home, device, kind)
        if kind and place is None:
            return None
        devices = [
            other
            for other in home.by_domain[domain]
            if (place is None or place.holds(other)) and name in (domain, f"{domain}.{_class_of(other)}")
        ]
        state = "on" if question == "there" else pick(draw, sorted(group.states))
        found = [other for other in devices if other.state["state"] == state]
        named, key = _answer(question, devices, found)
        if len(named) > _MOST_NAMED or (question == "all" and len(devices) < 2):
            return None
        template = pick(draw, templates)
        fillers: dict[str, Any] = {
            "group": group.reference,
            "state": group.state(state),
            "there": group.there,
            "place": {"base": place.phrase if place else ""},
            "number": {"base": str(len(found))},
        }
        user = self._wording.request(draw, _tidy(self._wording.fill(draw, template, fillers)))
        if named:
            fillers["device"] = by_name(self._language.grammar, [other.name for other in named])
            fillers["state"] = group.state(state, fillers["device"].cls)
        possible = [each for each in self._answers(home, key) if named or "device" not in each.slots]
        if not possible:
            return None
        answer = _tidy(self._wording.sentence(draw, possible, fillers))
        steps = (Step("", (_reading(domain, place),)), Step(answer)) if self._reads else (Step(answer),)
        about = (Asked(domain, RESPONSE, answer),)
        shape = make_shape(
            "HassGetState", {place.kind} if place and place.kind != "everywhere" else (), *name.split(".")
        )
        return Conversation(home, "groups", (domain,), (Turn(user, steps, home),), about, None, shape)

    def _answers(self, home: Home, key: str) -> Sequence[Template]:
        return self._templates.answers[home.persona, "group", key]

    def _group_of(self, device: Device) -> Group | None:
        return self._language.groups.get(f"{device.name.domain}.{_class_of(device)}")

    def _said(self, question: str, device: Device, group: Group | None) -> Mapping[str, Sequence[str]]:
        """Return the words of states that the language's words.yaml does not have."""
        if question == "binary_sensor.state" and group:
            classes = self._language.grammar.classes
            return {
                state: tuple(dict.fromkeys(text for cls in classes for text in group.state(state, cls).values()))
                for state in group.states
            }
        if question == "water_heater.state":
            states = self._language.words.states
            return {"off": states["off"], **dict.fromkeys(WATER_HEATER_MODES, states["on"])}
        return self._language.values.names("condition") if question == "weather.state" else {}


def _in_digits(wordings: Sequence[Forms]) -> Sequence[Forms]:
    """Return the wordings with digits, if there are any: an answer gives a number as it is read."""
    return [forms for forms in wordings if any(map(str.isdigit, forms["base"]))] or wordings


def status_value(key: str, slot: str, state: State) -> Any:
    """Return the value of a placeholder in the answer to a question."""
    if slot == "value":
        return state["value"], state["unit"]
    return state[_STATE_KEYS.get((key, slot), slot)]


def _class_of(device: Device) -> str:
    return str(device.state["attributes"].get("device_class", ""))


def _answer(question: str, devices: Sequence[Device], found: Sequence[Device]) -> tuple[Sequence[Device], str]:
    """Return the devices that an answer names, and the key of the answer."""
    if question in ("any", "there"):
        return found, f"any {'yes' if found else 'no'}"
    if question == "all":
        others = [device for device in devices if device not in found]
        return others, f"all {'no' if others else 'yes'}"
    return found, f"{question} {'some' if found else 'none'}"


def _reading(domain: str, place: Place | None) -> Call:
    """Return the call that reads what a question is about. The tool knows areas, and no floors."""
    area = {"area": place.name} if place and place.kind in ("area", "here") and place.name else {}
    return {"service": LIVE_CONTEXT, **area, "domain": domain}


def _tidy(text: str) -> str:
    """Drop the gaps that a place that is not said leaves."""
    return (
        " ".join(text.split()).replace(" ?", "?").replace(" .", ".").replace(" ,", ",").replace("¿ ", "¿").lstrip(", ")
    )


def _is_the_only_one(home: Home, device: Device, place: Place | None, says_place: bool) -> bool:
    """Whether a question that names no device can mean this one alone: in the place that it says, around the
    satellite, or in the whole home."""
    others = [other for other in home.by_domain[device.name.domain] if other is not device]
    if place is None:
        return not says_place and not others
    if not says_place and place.kind != "here":
        return False
    return not any(place.holds(other) for other in others)


def _shape_of_question(question: str, device: Device, place: Place | None, named: bool, text: str) -> Shape:
    slots = {"name"} if named else {place.kind} if place else set()
    room = device.name.room
    if named and says_room(text, room):
        slots.add("area")
    intents = {"weather.state": "HassGetWeather", "climate.temperature": "HassClimateGetTemperature"}
    return make_shape(intents.get(question, "HassGetState"), slots, *domain_of_devices([device]))
