"""Drafts requests that fit a home: devices, an action, its values, and the answer and calls that are correct."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from hatrain.home.clients.client import Client
from hatrain.home.devices.abilities import ANY
from hatrain.home.devices.actions import ACTIONS, COLLECTIVE, SLOTS, Action, State
from hatrain.home.generate.places import Kind, Place, draw_place, is_near, near_satellite, room_forms
from hatrain.home.generate.shapes import shape_of_request
from hatrain.home.generate.wording import Wording
from hatrain.home.homes.home import Device, Draw, Home, pick
from hatrain.home.intents.shape import Shape
from hatrain.home.language.grammar import Forms, Name, Noun, at
from hatrain.home.language.load import Language
from hatrain.home.language.split import Request, Templates
from hatrain.home.language.templates import Template

Call = Mapping[str, Any]  # {"service", "target_device", arguments…}
Requests = tuple[Request, ...]
T = TypeVar("T")

_MAX_GROUP = 8  # devices that "all the lights" may mean
_GROUP_SHARE = 0.85  # of requests that imply their devices
_HERE_SHARE = 0.4  # of these, where there is a satellite: about its surroundings
_PLACES: tuple[Kind, ...] = ("area",) * 6 + ("floor",) * 4 + ("everywhere",) * 2
"""Where a request about all of a domain is aimed, by how often."""
_PLACES_OF_ONE: tuple[Kind, ...] = ("area",) * 6 + ("floor",)
_ON_A_FLOOR = 0.04  # share of requests that also say on which floor a device is
_ANY_DEVICE = 0.4  # share of draws in which common domains are as common as their devices
_TOGGLE_SHARE = 0.15  # of the toggles that chance would give: people seldom ask for one


@dataclass(frozen=True, slots=True)
class Draft:
    """A request, with the answer and the calls that are correct for it."""

    user: str
    answer: str
    calls: tuple[Call, ...]
    devices: tuple[Device, ...]
    action: Action
    values: Mapping[str, Any]
    wordings: Mapping[str, Forms]  # of the values
    shape: Shape | None = None


class Drafts:
    """Drafts requests in one language, from one side's templates. Methods return None where the home does not fit.

    Only what the client can carry out is requested.
    """

    def __init__(self, language: Language, templates: Templates, client: Client):
        self.language, self.templates, self.wording = language, templates, Wording(language)
        self._least_brightness = client.least_brightness
        self._states = {key: client.states_for(action.service, action.arguments) for key, action in ACTIONS.items()}
        self.actions: dict[str, list[Action]] = {}  # by domain: what can be requested of one device
        self._group_actions: dict[str, list[tuple[str, Action]]] = {}  # by domain: (scope, action)
        self._naming: dict[tuple[str, str, bool], tuple[Template, ...]] = {}
        self._suitable: dict[tuple[str, str], tuple[Requests, Requests]] = {}
        for scope, key in sorted(templates.requests):
            action = ACTIONS[key]
            if not client.offers(action.service, action.arguments):
                continue
            if scope == "device":
                self.actions.setdefault(action.domain, []).append(action)
            else:
                self._group_actions.setdefault(action.domain, []).append((scope, action))

    def single(self, draw: Draw, home: Home, wanted: Callable[[Action], bool]) -> Draft | None:
        device = any_device(draw, home)
        action = self._action(draw, device, wanted)
        templates = self.naming_templates(action, device.name) if action else ()
        if not action or not templates:
            return None
        return self.draft(draw, home, action, (device,), pick(draw, templates))

    def plain(self, draw: Draw, home: Home) -> Draft | None:
        """Draft a plain imperative to be joined with another: `user` is not finished, `answer` is empty."""
        device = any_device(draw, home)
        action = self._action(draw, device, lambda action: True)
        template = self._plain_template(draw, action, device.name) if action else None
        drawn = self._values(draw, home, action, (device.name,), device.state) if action else None
        if not action or not template or drawn is None:
            return None
        text = template.text.format_map({**self.wording.device(draw, device), **drawn[1]})
        shape = shape_of_request(action, (device,), None, named=True)
        return Draft(text, "", (action.call(device.name.entity_id, drawn[0]),), (device,), action, *drawn, shape)

    def listed(self, draw: Draw, home: Home) -> Draft | None:
        """Draft a request that names two or three devices."""
        device = any_device(draw, home)
        action = self._action(draw, device, lambda action: action.domain not in ("timer", "todo"))
        template = self._plain_template(draw, action, device.name) if action else None
        if not action or not template or "room" in template.slots:
            return None
        others = [
            other
            for other in self.others_for(home, device, action)
            if any(template is candidate for candidate in self.naming_templates(action, other.name))
        ]
        if not others:
            return None
        start, more = int(draw() * len(others)), 1 if draw() < 0.7 else 2
        devices = [device, *(others + others)[start : start + min(more, len(others))]]
        return self.draft(draw, home, action, devices, template)

    def implied(self, draw: Draw, home: Home) -> Draft | None:
        """Draft a request that names no device: the room, the purpose or the whole house implies them."""
        near = near_satellite(home) if draw() < _HERE_SHARE else []
        device = pick(draw, near) if near else any_device(draw, home)
        group_actions = self._group_actions.get(device.name.domain)
        if group_actions and draw() < _GROUP_SHARE:
            scope, wanted = _seldom_a_toggle(draw, group_actions, lambda pair: pair[1])
            return self._group(draw, home, device, scope, wanted, "here" if near else None)
        action = self._action(draw, device, lambda action: True)
        requests = self._requests(action, device.name)[1] if action else ()
        if not action or not requests:
            return None
        request = pick(draw, requests)
        room = device.name.room if "room" in request.template.slots else None
        if "room" in request.template.slots and (room is None or not room_forms(request.template) <= room.forms.keys()):
            return None
        devices = [
            other
            for other in home.by_domain[device.name.domain]
            if request.suits(other.name.noun) and (room is None or other.name.room is room)
        ]
        return self.draft(draw, home, action, devices, request.template) if len(devices) == 1 else None

    def _group(
        self, draw: Draw, home: Home, device: Device, scope: str, action: Action, kind: Kind | None
    ) -> Draft | None:
        """Draft a request for a domain's only device in a place (`one`), all there (`all`), all in the home (`house`),
        all but something (`except`), or those around the satellite without saying so (`here`).

        `kind` is that of the place; None draws one.
        """
        requests = self._suiting((scope, action.key), device.name)
        if not requests:
            return None
        request, place = pick(draw, requests), None
        if scope in ("one", "all"):
            usual = pick(draw, _PLACES if scope == "all" else _PLACES_OF_ONE)
            place = draw_place(draw, self.language, home, device, kind or usual)
            if place is None or not place.suits(request.template):
                return None
        devices = self._meant(home, device, scope, request, place)
        if scope == "here" and len(devices) > 1 and action.key not in COLLECTIVE:
            return None
        right_number = len(devices) == 1 if scope == "one" else 2 <= len(devices) <= _MAX_GROUP
        if not right_number and not (scope in ("here", "except") and len(devices) == 1):
            return None
        # The request may change nothing for some of the devices, but not for all, and must make sense for each.
        if not any(action.fits(other.state) for other in devices):
            return None
        if not all(self._makes_sense(action, other) and _same_modes(device, other) for other in devices):
            return None
        return self.draft(draw, home, action, devices, request.template, place, spared=device, scope=scope)

    def _meant(self, home: Home, device: Device, scope: str, request: Request, place: Place | None) -> Sequence[Device]:
        """Return the devices that a request about a domain means."""
        suiting = [other for other in home.by_domain[device.name.domain] if request.suits(other.name.noun)]
        if place is not None:
            return [other for other in suiting if place.holds(other)]
        if scope == "except":
            if "device" in request.template.slots:
                return [other for other in suiting if other is not device]
            room = device.name.room
            if room is None or not room_forms(request.template) <= room.forms.keys():
                return []
            return [other for other in suiting if other.name.room is not room]
        if scope == "here":
            around = [other for other in suiting if is_near(home, other)]
            return around or (suiting if len(suiting) == 1 else [])
        return suiting

    def draft(
        self,
        draw: Draw,
        home: Home,
        action: Action,
        devices: Sequence[Device],
        template: Template,
        place: Place | None = None,
        *,
        spared: Device | None = None,
        scope: str = "",
    ) -> Draft | None:
        """Draft a request for devices. `place` is where they are said to be; `spared` the one that the text names where
        the `scope` is `except`."""
        first, alone = devices[0], len(devices) == 1
        names = tuple(device.name for device in devices)
        drawn = self._values(draw, home, action, names, first.state if alone else {})
        if drawn is None or ("room" in template.slots and place is None and first.name.room is None):
            return None
        values, wordings = drawn
        fillers = {**self.wording.device(draw, first), **wordings}
        if not alone:
            fillers["device"] = self.wording.reference(draw, names)
            fillers["count"] = self.count(draw, home, len(devices))
        if place is not None:
            fillers["room"] = place.forms
        said = fillers
        if scope == "except" and spared:
            said = {**fillers, **self.wording.device(draw, spared)}
        elif not room_forms(template) <= fillers["room"].keys():
            return None
        floor = None
        if alone and scope == "" and "device" in template.slots and draw() < _ON_A_FLOOR:
            floor = draw_place(draw, self.language, home, first, "floor")
        if floor is not None:
            said = {**fillers, "device": at(self.language.grammar, fillers["device"], floor.phrase)}
        answers = self.templates.answers[home.persona, "action", action.key if alone else "several"]
        user = self.wording.request(draw, self.wording.fill(draw, template, said), template.plain)
        named = "device" in template.slots and scope != "except"
        here = scope == "here" and is_near(home, first)
        return Draft(
            user,
            self.wording.sentence(draw, answers, fillers),
            tuple(action.call(device.name.entity_id, values) for device in devices),
            tuple(devices),
            action,
            values,
            wordings,
            shape_of_request(action, devices, place or floor, named=named, here=here, text=user),
        )

    def refused(
        self, draw: Draw, home: Home, action: Action, name: Name, answers: Sequence[Template]
    ) -> tuple[str, str] | None:
        """Draft a request that cannot be carried out, and its answer."""
        templates = self.naming_templates(action, name)
        drawn = self._values(draw, home, action, (name,), {})
        if not templates or drawn is None or not (_noun_supports(name.noun, action) and name.able.can(action)):
            return None
        template = pick(draw, templates)
        fillers = {**self.wording.name(draw, name), **drawn[1]}
        user = self.wording.request(draw, template.text.format_map(fillers), template.plain)
        return user, self.wording.sentence(draw, answers, fillers)

    def count(self, draw: Draw, home: Home, number: int) -> Forms:
        return pick(draw, self.language.values.wordings("count", number, home.unit))

    def naming_templates(self, action: Action, name: Name) -> tuple[Template, ...]:
        key = action.key, name.noun.base if name.noun else "", name.room is not None
        if key not in self._naming:
            self._naming[key] = tuple(
                request.template
                for request in self._requests(action, name)[0]
                if name.room or "room" not in request.template.slots
            )
        return self._naming[key]

    def others_for(self, home: Home, device: Device, action: Action) -> list[Device]:
        """Return the other devices of the domain that the same action can be requested of."""
        return [
            other
            for other in home.by_domain[device.name.domain]
            if other is not device and self.fits(action, other) and _same_modes(device, other)
        ]

    def _action(self, draw: Draw, device: Device, wanted: Callable[[Action], bool]) -> Action | None:
        fitting = [
            action
            for action in self.actions.get(device.name.domain, ())
            if wanted(action) and self.fits(action, device)
        ]
        return _seldom_a_toggle(draw, fitting, lambda action: action) if fitting else None

    def fits(self, action: Action, device: Device) -> bool:
        """Whether an action changes a device, and the client would carry it out."""
        return action.fits(device.state) and supports(device, action) and self.reaches(action, device.state)

    def reaches(self, action: Action, state: State) -> bool:
        """Whether the client finds a device in this state for an action."""
        states = self._states[action.key]
        return not states or state["state"] in states

    def _makes_sense(self, action: Action, device: Device) -> bool:
        """Whether an action on a whole room makes sense for a device in it, even if it changes nothing there."""
        if not supports(device, action) or not self.reaches(action, device.state):
            return False
        return action.fits(device.state) or action.done(device.state)

    def _requests(self, action: Action, name: Name) -> tuple[Requests, Requests]:
        """Return the requests that suit a device: those that name it, and those that imply it."""
        key = action.key, name.noun.base if name.noun else ""
        if key not in self._suitable:
            suitable = self._suiting(("device", action.key), name)
            naming = tuple(request for request in suitable if "device" in request.template.slots)
            implying = tuple(request for request in suitable if "device" not in request.template.slots)
            self._suitable[key] = naming, implying
        return self._suitable[key]

    def _suiting(self, key: tuple[str, str], name: Name) -> list[Request]:
        return [request for request in self.templates.requests[key] if request.suits(name.noun)]

    def _plain_template(self, draw: Draw, action: Action, name: Name) -> Template | None:
        plain = [template for template in self.naming_templates(action, name) if template.plain]
        return pick(draw, plain) if plain else None

    def _values(
        self, draw: Draw, home: Home, action: Action, names: Sequence[Name], state: State
    ) -> tuple[dict[str, Any], dict[str, Forms]] | None:
        """Draw a value that all the devices take, and its wording, for each placeholder; not the value that the state
        already has."""
        values: dict[str, Any] = {}
        wordings: dict[str, Forms] = {}
        for slot in action.slots:
            choices = self.language.values.choices(slot, home.unit, names[0].noun)
            if any(name.able is not ANY for name in names):
                choices = [value for value in choices if all(name.able.takes(slot, value) for name in names)]
                if not choices:
                    return None
            if slot == "brightness":
                choices = [value for value in choices if value >= self._least_brightness]
            current = state.get(SLOTS[slot].state_key)
            value = pick(draw, choices)
            if value == current:
                value = pick(draw, choices)
                if value == current:
                    return None
            values[slot] = value
            wordings[slot] = pick(draw, self.language.values.wordings(slot, value, home.unit))
        return values, wordings


def _seldom_a_toggle(draw: Draw, items: Sequence[T], action_of: Callable[[T], Action]) -> T:
    """Draw an item; a toggle that is drawn is mostly replaced by something else."""
    item = pick(draw, items)
    if not action_of(item).service.endswith(".toggle") or draw() < _TOGGLE_SHARE:
        return item
    others = [other for other in items if not action_of(other).service.endswith(".toggle")]
    return pick(draw, others) if others else item


def any_device(draw: Draw, home: Home) -> Device:
    """Draw a device: any of the home, or any of one of its domains, so that rare domains have their turn."""
    return pick(draw, home.devices if draw() < _ANY_DEVICE else home.by_domain[pick(draw, home.domains)])


def supports(device: Device, action: Action) -> bool:
    """Whether a device can do an action at all: a garage door has no position to set, a radiator no fan."""
    if not device.name.able.can(action):
        return False
    if action.service == "cover.set_cover_position":
        return "position" in device.state
    return _noun_supports(device.name.noun, action)


def _noun_supports(noun: Noun | None, action: Action) -> bool:
    """Whether devices of a noun can do an action at all; an unknown device can."""
    if noun is None:
        return True
    if action.service == "cover.set_cover_position":
        return noun.positioned
    return noun.cools or action.service not in ("climate.set_fan_mode", "climate.set_humidity")


def _same_modes(one: Device, other: Device) -> bool:
    """Whether one mode can be set on both devices."""
    first, second = (device.name.noun is None or device.name.noun.cools for device in (one, other))
    return first == second
