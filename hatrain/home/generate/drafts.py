"""Drafts requests that fit a home: which devices, which action, what values, what is said and what is due for it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hatrain.home.devices.actions import ACTIONS, SLOTS, Action, State
from hatrain.home.devices.services import SERVICES
from hatrain.home.generate.wording import Wording
from hatrain.home.homes.home import Device, Draw, Home, pick
from hatrain.home.language.grammar import Name, Noun
from hatrain.home.language.load import Language
from hatrain.home.language.split import Piles, Request
from hatrain.home.language.templates import Template
from hatrain.home.language.values import Forms

Call = Mapping[str, Any]  # {"service", "target_device", arguments…}
Wanted = Callable[[Action], bool]

_MOST_TOGETHER = 8  # devices that "all the lights" may be


@dataclass(frozen=True, slots=True)
class Draft:
    """A request and what is due for it."""

    user: str
    answer: str
    calls: tuple[Call, ...]
    devices: tuple[Device, ...]
    action: Action
    values: Mapping[str, Any]
    said: Mapping[str, Forms]  # how the values were said


class Drafts:
    """Drafts for one language and one side of the split. Each method returns nothing where the home does not fit.

    `intents` keeps to the actions that Home Assistant's intents can do.
    """

    def __init__(self, language: Language, piles: Piles, intents: bool):
        self.language, self.piles, self.wording = language, piles, Wording(language)
        self.actions: dict[str, list[Action]] = {}  # by domain: those that a request may ask of one device
        self._together: dict[str, list[tuple[str, Action]]] = {}
        self._suited: dict[tuple[str, str], tuple[tuple[Request, ...], tuple[Request, ...]]] = {}
        for scope, key in sorted(piles.requests):
            action = ACTIONS[key]
            if intents and SERVICES[action.service].intent is None:
                continue
            if scope == "device":
                self.actions.setdefault(action.domain, []).append(action)
            else:
                self._together.setdefault(action.domain, []).append((scope, action))

    def single(self, draw: Draw, home: Home, wanted: Wanted) -> Draft | None:
        """Draft a request that names one device."""
        device = any_device(draw, home)
        action = self._action(draw, device, wanted)
        naming = self.naming(action, device.name) if action else ()
        return self.draft(draw, home, action, (device,), pick(draw, naming)) if action and naming else None

    def plain(self, draw: Draw, home: Home) -> Draft | None:
        """Draft a plain imperative that can be joined with another: its `user` is raw, its answer empty."""
        device = any_device(draw, home)
        action = self._action(draw, device, lambda action: True)
        template = self._plain(draw, action, device.name) if action else None
        values = self._values(draw, home, action, device.name.noun, device.state) if action else None
        if not action or not template or values is None:
            return None
        text = template.text.format_map({**self.wording.device(draw, device), **values[1]})
        return Draft(text, "", (action.call(device.name.entity_id, values[0]),), (device,), action, *values)

    def listed(self, draw: Draw, home: Home) -> Draft | None:
        """Draft a request that names two or three devices."""
        device = any_device(draw, home)
        action = self._action(draw, device, lambda action: action.domain not in ("timer", "todo"))
        template = self._plain(draw, action, device.name) if action else None
        if not action or not template or "room" in template.slots:
            return None
        others = [
            other
            for other in self.fellows(home, device, action)
            if any(template is request for request in self.naming(action, other.name))
        ]
        if not others:
            return None
        start, more = int(draw() * len(others)), 1 if draw() < 0.7 else 2
        chosen = [device, *(others + others)[start : start + min(more, len(others))]]
        return self.draft(draw, home, action, chosen, template)

    def implied(self, draw: Draw, home: Home) -> Draft | None:
        """Draft a request that names no device: the room, the purpose or the whole house says which are meant."""
        device = any_device(draw, home)
        together = self._together.get(device.name.domain)
        if together and draw() < 0.6:
            return self._of_a_place(draw, home, device, *pick(draw, together))
        action = self._action(draw, device, lambda action: True)
        implying = self._requests(action, device.name)[1] if action else ()
        if not action or not implying:
            return None
        request = pick(draw, implying)
        room = device.name.room if "room" in request.template.slots else None
        meant = [
            other
            for other in home.by_domain[device.name.domain]
            if request.suits(other.name.noun) and (room is None or other.name.room is room)
        ]
        return self.draft(draw, home, action, meant, request.template) if len(meant) == 1 else None

    def _of_a_place(self, draw: Draw, home: Home, device: Device, scope: str, action: Action) -> Draft | None:
        """Draft a request for the only device of a domain in a room, for all of them, or all in the house."""
        room = device.name.room
        requests = [
            request for request in self.piles.requests[scope, action.key] if request.suits(device.name.noun)
        ]
        if not requests or (scope != "house" and room is None):
            return None
        request = pick(draw, requests)
        meant = [
            other
            for other in home.by_domain[device.name.domain]
            if (scope == "house" or other.name.room is room) and request.suits(other.name.noun)
        ]
        counted = len(meant) == 1 if scope == "one" else 2 <= len(meant) <= _MOST_TOGETHER
        # What is asked of them all may be so already for some, not for all, and must make sense for each.
        if not counted or not any(action.fits(other.state) for other in meant):
            return None
        if not all(_sensible(action, other) and _same_modes(device, other) for other in meant):
            return None
        return self.draft(draw, home, action, meant, request.template)

    def draft(
        self, draw: Draw, home: Home, action: Action, devices: Sequence[Device], template: Template
    ) -> Draft | None:
        """Put one action on some devices in the words of a template, with its answer and its calls."""
        first, alone = devices[0], len(devices) == 1
        values = self._values(draw, home, action, first.name.noun, first.state if alone else {})
        if values is None or ("room" in template.slots and first.name.room is None):
            return None
        fillers = {**self.wording.device(draw, first), **values[1]}
        if not alone:
            fillers["device"] = self.wording.said(draw, [device.name for device in devices])
            fillers["count"] = self.count(draw, home, len(devices))
        answers = self.piles.answers[home.persona, "action", action.key if alone else "several"]
        return Draft(
            self.wording.request(draw, template.text.format_map(fillers), template.plain),
            self.wording.sentence(draw, answers, fillers),
            tuple(action.call(device.name.entity_id, values[0]) for device in devices),
            tuple(devices),
            action,
            *values,
        )

    def refused(
        self, draw: Draw, home: Home, action: Action, name: Name, answers: Sequence[Template]
    ) -> tuple[str, str] | None:
        """Word a request that cannot be met, and its answer."""
        naming = self.naming(action, name)
        values = self._values(draw, home, action, name.noun, {})
        if not naming or values is None or not _made_for(name.noun, action):
            return None
        template = pick(draw, naming)
        fillers = {**self.wording.name(draw, name), **values[1]}
        user = self.wording.request(draw, template.text.format_map(fillers), template.plain)
        return user, self.wording.sentence(draw, answers, fillers)

    def count(self, draw: Draw, home: Home, number: int) -> Forms:
        """Return how many things there are, in words."""
        return pick(draw, self.language.values.say("count", number, home.unit))

    def naming(self, action: Action, name: Name) -> tuple[Template, ...]:
        """Return the templates of requests that name a device for an action."""
        return tuple(
            request.template
            for request in self._requests(action, name)[0]
            if name.room or "room" not in request.template.slots
        )

    def fellows(self, home: Home, device: Device, action: Action) -> list[Device]:
        """Return the other devices of which the same can be asked."""
        return [
            other
            for other in home.by_domain[device.name.domain]
            if other is not device and action.fits(other.state) and _can(other, action) and _same_modes(device, other)
        ]  # fmt: skip

    def _action(self, draw: Draw, device: Device, wanted: Wanted) -> Action | None:
        fitting = [
            action
            for action in self.actions.get(device.name.domain, ())
            if wanted(action) and action.fits(device.state) and _can(device, action)
        ]
        return pick(draw, fitting) if fitting else None

    def _requests(self, action: Action, name: Name) -> tuple[tuple[Request, ...], tuple[Request, ...]]:
        """Return the requests for an action that suit a device: those that name it, those that imply it."""
        key = action.key, name.noun.base if name.noun else ""
        if key not in self._suited:
            suited = [
                request for request in self.piles.requests["device", action.key] if request.suits(name.noun)
            ]
            naming = tuple(request for request in suited if "device" in request.template.slots)
            implying = tuple(request for request in suited if "device" not in request.template.slots)
            self._suited[key] = naming, implying
        return self._suited[key]

    def _plain(self, draw: Draw, action: Action, name: Name) -> Template | None:
        plain = [template for template in self.naming(action, name) if template.plain]
        return pick(draw, plain) if plain else None

    def _values(
        self, draw: Draw, home: Home, action: Action, noun: Noun | None, state: State
    ) -> tuple[dict[str, Any], dict[str, Forms]] | None:
        """Draw a value for each placeholder, other than the one that the device has already."""
        values: dict[str, Any] = {}
        forms: dict[str, Forms] = {}
        for slot in action.slots:
            choices = self.language.values.choices(slot, home.unit, noun)
            has = state.get(SLOTS[slot][2])
            value = pick(draw, choices)
            if value == has:
                value = pick(draw, choices)
                if value == has:
                    return None
            values[slot] = value
            forms[slot] = pick(draw, self.language.values.say(slot, value, home.unit))
        return values, forms


def any_device(draw: Draw, home: Home) -> Device:
    """Draw a device, each domain of the home equally likely."""
    return pick(draw, home.by_domain[pick(draw, home.domains)])


def _can(device: Device, action: Action) -> bool:
    """Whether a device can do it at all: a garage door has no position to set, a radiator no fan."""
    if action.service == "cover.set_cover_position":
        return "position" in device.state
    return _made_for(device.name.noun, action)


def _made_for(noun: Noun | None, action: Action) -> bool:
    """Whether things of a kind can do it at all; what is not known to be unable can."""
    if noun is None:
        return True
    if action.service == "cover.set_cover_position":
        return noun.positioned
    return noun.cools or action.service not in ("climate.set_fan_mode", "climate.set_humidity")


def _sensible(action: Action, device: Device) -> bool:
    """Whether an action asked of a whole room makes sense for a device of it, even if it changes nothing."""
    return _can(device, action) and (action.fits(device.state) or action.done(device.state))


def _same_modes(one: Device, other: Device) -> bool:
    """Whether two devices know the same modes, so that one value can be meant for both."""
    first, second = (device.name.noun is None or device.name.noun.cools for device in (one, other))
    return first == second
