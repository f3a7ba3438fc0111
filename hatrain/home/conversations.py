"""Draws what is said in a home: a request, the answer, the calls that carry it out. It knows no format of rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hatrain.home.actions import ACTIONS, QUESTIONS, SLOTS, STATUS_SLOTS, Action, State
from hatrain.home.devices import SERVICES
from hatrain.home.grammar import Name, Noun, Said, several
from hatrain.home.homes import Device, Draw, Home, Homes, pick
from hatrain.home.language import Language
from hatrain.home.split import Piles, Request
from hatrain.home.templates import Template
from hatrain.home.values import Forms

Call = Mapping[str, Any]  # {"service", "target_device", arguments…}

# How often each kind of request is drawn, in parts of a hundred.
KIND_SHARES = {
    "action": 24,
    "value": 20,
    "implied": 14,
    "several": 10,
    "status": 13,
    "missing": 5,
    "already": 5,
    "followup": 6,
    "failure": 3,
}
_WHEEL = tuple(kind for kind, share in KIND_SHARES.items() for _ in range(share))
_MOST_TOGETHER = 4  # devices that one request may be about


@dataclass(frozen=True, slots=True)
class Step:
    """What the assistant does in one go: says `text`, makes `calls`. `error` is what a call that must fail gets."""

    text: str
    calls: tuple[Call, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """What the user says, and what the assistant does about it."""

    user: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Conversation:
    """A whole exchange in a home. `device_types` are the domains it is about, sorted."""

    home: Home
    kind: str
    device_types: tuple[str, ...]
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class _Draft:
    """A request and what is due for it, before it is worded for a format."""

    user: str
    answer: str
    calls: tuple[Call, ...]
    devices: tuple[Device, ...]
    action: Action
    values: Mapping[str, Any]
    said: Mapping[str, Forms]  # how the values were said


@dataclass(eq=False)
class Speaker:
    """Draws the conversations of one language and one side of the split.

    `reports` says whether the format has tool results: then a failing call is one to a wrong entity, seen in its
    result; else the user says that nothing happened. `intents` keeps to what Home Assistant's intents can do.
    """

    language: Language
    piles: Piles
    homes: Homes
    reports: bool = False
    intents: bool = False
    _suited: dict[tuple[str, str], tuple[tuple[Request, ...], tuple[Request, ...]]] = field(
        default_factory=dict
    )

    def __post_init__(self) -> None:
        self._actions: dict[str, list[Action]] = {}
        self._together: dict[str, list[tuple[str, Action]]] = {}
        for scope, key in sorted(self.piles.requests):
            action = ACTIONS[key]
            if self.intents and SERVICES[action.service].intent is None:
                continue
            if scope == "device":
                self._actions.setdefault(action.domain, []).append(action)
            else:
                self._together.setdefault(action.domain, []).append((scope, action))
        self._questions: dict[str, list[str]] = {}
        for key in sorted(self.piles.status):
            self._questions.setdefault(key.partition(".")[0], []).append(key)
        self._makers: dict[str, Callable[[Draw, Home], Conversation | None]] = {
            "action": lambda draw, home: self._single(draw, home, "action"),
            "value": lambda draw, home: self._single(draw, home, "value"),
            "implied": self._implied,
            "several": self._several,
            "status": self._status,
            "missing": self._missing,
            "already": self._already,
            "followup": self._followup,
            "failure": self._failure,
        }

    def draw(self, draw: Draw, home: Home) -> Conversation:
        """Draw a conversation that fits the home: what does not fit is drawn again, as another kind."""
        for _ in range(60):
            made = self._makers[_WHEEL[int(draw() * len(_WHEEL))]](draw, home)
            if made:
                return made
        raise AssertionError(f"nothing can be asked of this home: {[device.name for device in home.devices]}")

    # Requests ------------------------------------------------------------------------------------------------

    def _device(self, draw: Draw, home: Home) -> Device:
        return pick(draw, home.by_domain[pick(draw, home.domains)])

    def _action(self, draw: Draw, device: Device, wanted: Callable[[Action], bool]) -> Action | None:
        fitting = [
            action
            for action in self._actions.get(device.name.domain, ())
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

    def _values(
        self, draw: Draw, home: Home, action: Action, noun: Noun | None, state: State
    ) -> tuple[dict[str, Any], dict[str, Forms]] | None:
        """Draw a value for each placeholder, other than the one that the device has already."""
        values: dict[str, Any] = {}
        forms: dict[str, Forms] = {}
        for slot in action.slots:
            choices = self.language.values.choices(slot, home.unit, noun)
            value = pick(draw, choices)
            if state.get(SLOTS[slot][2]) == value:
                value = pick(draw, choices)
                if state.get(SLOTS[slot][2]) == value:
                    return None
            values[slot] = value
            forms[slot] = pick(draw, self.language.values.say(slot, value, home.unit))
        return values, forms

    def _drafted(
        self, draw: Draw, home: Home, action: Action, devices: Sequence[Device], template: Template
    ) -> _Draft | None:
        """Word a request for one action on some devices, and what is due for it."""
        values = self._values(
            draw, home, action, devices[0].name.noun, devices[0].state if len(devices) == 1 else {}
        )
        room = devices[0].name.room
        if values is None or ("room" in template.slots and room is None):
            return None
        said = self._said(draw, devices)
        fillers = {"device": said, "room": room.forms if room else {}, **values[1]}
        answers = self.piles.answers[home.persona, "action", action.key if len(devices) == 1 else "several"]
        if len(devices) > 1:
            fillers["count"] = pick(draw, self.language.values.say("count", len(devices), home.unit))
        return _Draft(
            self._request(draw, template.text.format_map(fillers), template.plain),
            self._sentence(pick(draw, answers), fillers),
            tuple(action.call(device.name.entity_id, values[0]) for device in devices),
            tuple(devices),
            action,
            *values,
        )

    def _single_draft(self, draw: Draw, home: Home, wanted: Callable[[Action], bool]) -> _Draft | None:
        device = self._device(draw, home)
        action = self._action(draw, device, wanted)
        naming = self._requests(action, device.name)[0] if action else ()
        if not action or not naming:
            return None
        return self._drafted(draw, home, action, (device,), pick(draw, naming).template)

    def _single(self, draw: Draw, home: Home, kind: str) -> Conversation | None:
        draft = self._single_draft(draw, home, lambda action: bool(action.slots) == (kind == "value"))
        return self._conversation(home, kind, draft)

    def _implied(self, draw: Draw, home: Home) -> Conversation | None:
        """A request that names no device: the room, the purpose or the whole house says which are meant."""
        device = self._device(draw, home)
        together = self._together.get(device.name.domain)
        draft = None
        if together and draw() < 0.6:
            draft = self._together_draft(draw, home, device, *pick(draw, together))
        else:
            action = self._action(draw, device, lambda action: True)
            implying = self._requests(action, device.name)[1] if action else ()
            if action and implying:
                request = pick(draw, implying)
                if self._only_one(home, device, request):
                    draft = self._drafted(draw, home, action, (device,), request.template)
        return self._conversation(home, "implied", draft)

    def _together_draft(
        self, draw: Draw, home: Home, device: Device, scope: str, action: Action
    ) -> _Draft | None:
        room = device.name.room
        same = home.by_domain[device.name.domain]
        requests = [
            request for request in self.piles.requests[scope, action.key] if request.suits(device.name.noun)
        ]
        if not requests or (scope != "house" and room is None):
            return None
        request = pick(draw, requests)
        meant = [
            other
            for other in same
            if (scope == "house" or other.name.room is room) and request.suits(other.name.noun)
        ]
        counted = len(meant) == 1 if scope == "one" else 2 <= len(meant) <= _MOST_TOGETHER
        # A room that is spoken of in the singular may hold no other thing that answers to the same words.
        if not counted or not all(_can(other, action) and _sensible(action, other) for other in meant):
            return None
        if not any(action.fits(other.state) for other in meant):
            return None
        return self._drafted(draw, home, action, meant, request.template)

    def _only_one(self, home: Home, device: Device, request: Request) -> bool:
        """Whether a request that names no device can only mean this one."""
        room = device.name.room if "room" in request.template.slots else None
        return not any(
            other is not device
            and request.suits(other.name.noun)
            and (room is None or other.name.room is room)
            for other in home.by_domain[device.name.domain]
        )

    def _several(self, draw: Draw, home: Home) -> Conversation | None:
        """One request about two or three devices: the same for all of them, or one thing and then another."""
        if draw() < 0.5:
            draft = self._listed_draft(draw, home)
            return self._conversation(home, "several", draft)
        first, second = (self._plain_draft(draw, home) for _ in range(2))
        if not first or not second or first.devices[0] is second.devices[0]:
            return None
        devices = (*first.devices, *second.devices)
        fillers = {
            "device": self._said(draw, devices),
            "count": pick(draw, self.language.values.say("count", 2, home.unit)),
        }
        joined = pick(draw, self.language.joins).format(first=first.user, second=second.user)
        answer = self._sentence(pick(draw, self.piles.answers[home.persona, "action", "several"]), fillers)
        calls = (*first.calls, *second.calls)
        both = _Draft(self._request(draw, joined, True), answer, calls, devices, first.action, {}, {})
        return self._conversation(home, "several", both)

    def _plain_request(self, draw: Draw, action: Action, name: Name) -> Template | None:
        plain = [request.template for request in self._requests(action, name)[0] if request.template.plain]
        return pick(draw, plain) if plain else None

    def _plain_draft(self, draw: Draw, home: Home) -> _Draft | None:
        device = self._device(draw, home)
        action = self._action(draw, device, lambda action: True)
        template = self._plain_request(draw, action, device.name) if action else None
        values = self._values(draw, home, action, device.name.noun, device.state) if action else None
        if not action or not template or values is None:
            return None
        room = device.name.room
        if "room" in template.slots and room is None:
            return None
        fillers = {"device": self._said(draw, (device,)), "room": room.forms if room else {}, **values[1]}
        text = template.text.format_map(fillers)
        return _Draft(text, "", (action.call(device.name.entity_id, values[0]),), (device,), action, *values)

    def _listed_draft(self, draw: Draw, home: Home) -> _Draft | None:
        device = self._device(draw, home)
        action = self._action(
            draw, device, lambda action: action.service.partition(".")[0] not in ("timer", "todo")
        )
        same = home.by_domain[device.name.domain]
        template = self._plain_request(draw, action, device.name) if action and len(same) > 1 else None
        if not action or not template or "room" in template.slots:
            return None
        others = [
            other
            for other in same
            if other is not device and action.fits(other.state) and _can(other, action)
            and any(request.template is template for request in self._requests(action, other.name)[0])
        ]  # fmt: skip
        if not others:
            return None
        start = int(draw() * len(others))
        wanted = 1 if draw() < 0.7 else 2
        chosen = [device, *(others + others)[start : start + min(wanted, len(others))]]
        return self._drafted(draw, home, action, chosen, template)

    # Questions, refusals, follow-ups, failures ---------------------------------------------------------------

    def _status(self, draw: Draw, home: Home) -> Conversation | None:
        device = self._device(draw, home)
        questions = self._questions.get(device.name.domain)
        if not questions:
            return None
        question = pick(draw, questions)
        key = next((key for key, holds in QUESTIONS[question].items() if holds(device.state)), None)
        if key is None:
            return None
        fillers: dict[str, Any] = {"device": self._said(draw, (device,))}
        asked = pick(draw, self.piles.status[question]).text.format_map(fillers)
        for slot in STATUS_SLOTS.get(key, ()):
            value = device.state[
                {"hvac_mode": "state"}.get(slot, slot) if key != "climate.target" else "target"
            ]
            fillers[slot] = pick(draw, self.language.values.say(slot, value, home.unit))
        answer = self._sentence(pick(draw, self.piles.answers[home.persona, "status", key]), fillers)
        turn = Turn(self._request(draw, asked, False), (Step(answer),))
        return Conversation(home, "status", (device.name.domain,), (turn,))

    def _missing(self, draw: Draw, home: Home) -> Conversation | None:
        """A request for a device that is not there."""
        domain = pick(draw, home.domains)
        name = self.homes.another_name(draw, home, domain)
        if name is None:
            return None
        actions = self._actions.get(domain, ())
        action = pick(draw, actions) if actions else None
        naming = self._requests(action, name)[0] if action else ()
        if not action or not naming:
            return None
        template = pick(draw, naming).template
        values = self._values(draw, home, action, name.noun, {})
        if values is None or ("room" in template.slots and name.room is None):
            return None
        fillers = {"device": _wording(draw, name), "room": name.room.forms if name.room else {}, **values[1]}
        user = self._request(draw, template.text.format_map(fillers), template.plain)
        answer = self._sentence(pick(draw, self.piles.missing), fillers)
        return Conversation(home, "missing", (domain,), (Turn(user, (Step(answer),)),))

    def _already(self, draw: Draw, home: Home) -> Conversation | None:
        """A request for what is so already."""
        device = self._device(draw, home)
        done = [
            action
            for action in self._actions.get(device.name.domain, ())
            if action.key in self.piles.already and action.done(device.state)
        ]
        if not done:
            return None
        action = pick(draw, done)
        naming = self._requests(action, device.name)[0]
        template = pick(draw, naming).template if naming else None
        if not template or ("room" in template.slots and device.name.room is None):
            return None
        room = device.name.room
        fillers = {"device": self._said(draw, (device,)), "room": room.forms if room else {}}
        user = self._request(draw, template.text.format_map(fillers), template.plain)
        answer = self._sentence(pick(draw, self.piles.already[action.key]), fillers)
        return Conversation(home, "already", (device.name.domain,), (Turn(user, (Step(answer),)),))

    def _followup(self, draw: Draw, home: Home) -> Conversation | None:
        """A second request that only makes sense after the first: another device, or something else for the same."""
        first = self._single_draft(draw, home, lambda action: action.domain not in ("timer", "todo"))
        if not first:
            return None
        device, action = first.devices[0], first.action
        then = [
            other
            for other in self._actions.get(action.domain, ())
            if other.key in self.piles.then
            and other.key != action.key
            and _follows(action, other)
            and _can(device, other)
        ]
        second: _Draft | None = None
        if then and draw() < 0.5:
            other = pick(draw, then)
            since = {SLOTS[slot][2]: value for slot, value in first.values.items()}
            now = Device(device.name, {**device.state, **since})
            second = self._drafted(draw, home, other, (now,), pick(draw, self.piles.then[other.key]))
        elif self.piles.again:
            more = [
                another
                for another in home.by_domain[action.domain]
                if another is not device and action.fits(another.state) and _can(another, action)
            ]
            if more:
                second = self._same_again(draw, home, first, pick(draw, more))
        return self._conversation(home, "followup", first, second)

    def _same_again(self, draw: Draw, home: Home, first: _Draft, device: Device) -> _Draft:
        fillers: dict[str, Any] = {"device": self._said(draw, (device,)), **first.said}
        user = self._request(draw, pick(draw, self.piles.again).text.format_map(fillers), False)
        answers = self.piles.answers[home.persona, "action", first.action.key]
        answer = self._sentence(pick(draw, answers), fillers)
        call = {**first.calls[0], "target_device": device.name.entity_id}
        return _Draft(user, answer, (call,), (device,), first.action, first.values, first.said)

    def _failure(self, draw: Draw, home: Home) -> Conversation | None:
        """A call that fails and is made again: to a wrong entity where results are told, else by the user's word."""
        draft = self._single_draft(draw, home, lambda action: True)
        if not draft:
            return None
        device, call = draft.devices[0], draft.calls[0]
        fillers: dict[str, Any] = {"device": device.name.said[0]}
        retry = self._sentence(pick(draw, self.piles.retries), fillers)
        types = (device.name.domain,)
        if self.reports:
            wrong = _wrong_id(draw, device.name.entity_id, {other.name.entity_id for other in home.devices})
            error = pick(draw, self.piles.errors).text.format_map({"entity_id": {"base": wrong}})
            steps = (
                Step("", ({**call, "target_device": wrong},), error),
                Step(retry, (call,)),
                Step(draft.answer),
            )
            return Conversation(home, "failure", types, (Turn(draft.user, steps),))
        complaint = self._request(draw, pick(draw, self.piles.complaints).text.format_map(fillers), False)
        turns = (Turn(draft.user, (Step(draft.answer, (call,)),)), Turn(complaint, (Step(retry, (call,)),)))
        return Conversation(home, "failure", types, turns)

    # Words ---------------------------------------------------------------------------------------------------

    def _said(self, draw: Draw, devices: Sequence[Device]) -> Said:
        said = [_wording(draw, device.name) for device in devices]
        return said[0] if len(said) == 1 else several(self.language.grammar, said)

    def _request(self, draw: Draw, text: str, plain: bool) -> str:
        """Put a request as people do: with a filler now and then, as dictated, typed in haste, or in full."""
        if plain and draw() < 0.25:
            text = pick(draw, self.language.fillers).replace("{request}", text)
        text = self.language.grammar.rules.finish(text)
        look = draw()
        if look < 0.25:
            text = text[0].upper() + text[1:]
            return text if text[-1] in ".?!" else text + "."
        if look < 0.45:
            return text.lower().rstrip(".?!")
        return text

    def _sentence(self, template: Template, fillers: Mapping[str, Any]) -> str:
        text = self.language.grammar.rules.finish(template.text.format_map(fillers))
        return text[0].upper() + text[1:]

    def _conversation(self, home: Home, kind: str, *drafts: _Draft | None) -> Conversation | None:
        """Return a conversation of one turn for each draft; none where a draft did not come about."""
        turns = []
        for draft in drafts:
            if draft is None:
                return None
            if self.reports:
                turns.append(Turn(draft.user, (Step("", draft.calls), Step(draft.answer))))
            else:
                turns.append(Turn(draft.user, (Step(draft.answer, draft.calls),)))
        types = {device.name.domain for draft in drafts if draft for device in draft.devices}
        return Conversation(home, kind, tuple(sorted(types)), tuple(turns))


def _wording(draw: Draw, name: Name) -> Said:
    """Draw a way of speaking of a device; the usual one three times out of four."""
    return (
        name.said[0]
        if len(name.said) == 1 or draw() < 0.75
        else name.said[1 + int(draw() * (len(name.said) - 1))]
    )


def _can(device: Device, action: Action) -> bool:
    """Whether a device can do it at all: a garage door has no position to set, a radiator no fan."""
    if action.service == "cover.set_cover_position":
        return "position" in device.state
    if action.service in ("climate.set_fan_mode", "climate.set_humidity"):
        return device.name.noun is None or device.name.noun.cools
    return True


def _sensible(action: Action, device: Device) -> bool:
    """Whether an action asked of a whole room makes sense for one of its devices, even if it changes nothing."""
    return action.fits(device.state) or action.done(device.state)


def _follows(first: Action, then: Action) -> bool:
    """Whether a request makes sense on the same device once the first has been carried out."""
    if "toggle" in first.service + then.service:
        return False
    if first.service.endswith("turn_off") or then.key.endswith("turn_on"):
        return first.service.endswith("turn_off") and then.service.endswith("turn_on")
    return then.service != first.service or bool(then.slots)


def _wrong_id(draw: Draw, entity_id: str, taken: set[str]) -> str:
    """Return an entity id that is nearly right and not in the home."""
    domain, _, name = entity_id.partition(".")
    words = name.split("_")
    wrong = [f"{domain}.{name}_1", f"{domain}.{name}_device", f"{domain}.my_{name}"]
    if len(words) > 1:
        wrong += [
            f"{domain}.{'_'.join(words[1:])}",
            f"{domain}.{'_'.join(words[:-1])}",
            f"{domain}.{'_'.join(words[::-1])}",
        ]
    return pick(draw, [name for name in wrong if name not in taken])
