"""Draws what is said in a home, of every kind: a request, the answer, the calls that carry it out, and what comes
after. It knows no format of rows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hatrain.home.devices.actions import QUESTIONS, SLOTS, STATUS_SLOTS, Action
from hatrain.home.generate.drafts import Call, Draft, Drafts, any_device
from hatrain.home.homes.home import Device, Draw, Home, Homes, pick
from hatrain.home.language.load import Language
from hatrain.home.language.split import Piles

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

# The state's key that answers a question, where it is not the placeholder's own name.
_STATE_KEYS = {("climate.target", "temperature"): "target", ("climate.state on", "hvac_mode"): "state"}


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


class Speaker:
    """Draws the conversations of one language and one side of the split.

    `reports` says whether the format has tool results: then a failing call is one to a wrong entity, seen in its
    result; else the user says that nothing happened. `intents` keeps to what Home Assistant's intents can do.
    """

    def __init__(
        self, language: Language, piles: Piles, homes: Homes, *, reports: bool = False, intents: bool = False
    ):
        self.language, self.homes = language, homes
        self._piles, self._reports = piles, reports
        self._drafts = Drafts(language, piles, intents)
        self._wording = self._drafts.wording
        self._questions: dict[str, list[str]] = {}
        for key in sorted(piles.status):
            self._questions.setdefault(key.partition(".")[0], []).append(key)
        self._makers: dict[str, Callable[[Draw, Home], Conversation | None]] = {
            "action": self._action,
            "value": self._value,
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
        for _ in range(200):
            made = self._makers[_WHEEL[int(draw() * len(_WHEEL))]](draw, home)
            if made:
                return made
        raise AssertionError(f"nothing can be asked of this home: {[device.name for device in home.devices]}")

    def _action(self, draw: Draw, home: Home) -> Conversation | None:
        draft = self._drafts.single(draw, home, lambda action: not action.slots)
        return self._conversation(home, "action", draft)

    def _value(self, draw: Draw, home: Home) -> Conversation | None:
        draft = self._drafts.single(draw, home, lambda action: bool(action.slots))
        return self._conversation(home, "value", draft)

    def _implied(self, draw: Draw, home: Home) -> Conversation | None:
        return self._conversation(home, "implied", self._drafts.implied(draw, home))

    def _several(self, draw: Draw, home: Home) -> Conversation | None:
        """One request about two or three devices: the same for all of them, or one thing and then another."""
        if draw() < 0.5:
            return self._conversation(home, "several", self._drafts.listed(draw, home))
        first, second = (self._drafts.plain(draw, home) for _ in range(2))
        if not first or not second or first.devices[0] is second.devices[0]:
            return None
        devices = (*first.devices, *second.devices)
        fillers = {
            "device": self._wording.said(draw, [device.name for device in devices]),
            "count": self._drafts.count(draw, home, 2),
        }
        joined = pick(draw, self.language.joins).format(first=first.user, second=second.user)
        both = Draft(
            self._wording.request(draw, joined, True),
            self._wording.sentence(draw, self._piles.answers[home.persona, "action", "several"], fillers),
            (*first.calls, *second.calls),
            devices,
            first.action,
            {},
            {},
        )
        return self._conversation(home, "several", both)

    def _status(self, draw: Draw, home: Home) -> Conversation | None:
        """A question about a device's state."""
        device = any_device(draw, home)
        questions = self._questions.get(device.name.domain)
        if not questions:
            return None
        question = pick(draw, questions)
        key = next((key for key, holds in QUESTIONS[question].items() if holds(device.state)), None)
        if key is None:
            return None
        fillers = self._wording.device(draw, device)
        asked = pick(draw, self._piles.status[question]).text.format_map(fillers)
        for slot in STATUS_SLOTS.get(key, ()):
            value = device.state[_STATE_KEYS.get((key, slot), slot)]
            fillers[slot] = pick(draw, self.language.values.say(slot, value, home.unit))
        answer = self._wording.sentence(draw, self._piles.answers[home.persona, "status", key], fillers)
        return self._without_calls(
            home, "status", device.name.domain, self._wording.request(draw, asked), answer
        )

    def _missing(self, draw: Draw, home: Home) -> Conversation | None:
        """A request for a device that is not there."""
        domain = pick(draw, home.domains)
        name = self.homes.absent_name(draw, home, domain)
        actions = self._drafts.actions.get(domain)
        if name is None or not actions:
            return None
        said = self._drafts.refused(draw, home, pick(draw, actions), name, self._piles.missing)
        return said and self._without_calls(home, "missing", domain, *said)

    def _already(self, draw: Draw, home: Home) -> Conversation | None:
        """A request for what is so already."""
        device = any_device(draw, home)
        done = [
            action
            for action in self._drafts.actions.get(device.name.domain, ())
            if action.key in self._piles.already and action.done(device.state)
        ]
        if not done:
            return None
        action = pick(draw, done)
        said = self._drafts.refused(draw, home, action, device.name, self._piles.already[action.key])
        return said and self._without_calls(home, "already", device.name.domain, *said)

    def _followup(self, draw: Draw, home: Home) -> Conversation | None:
        """A second request that only makes sense after the first: another device, or something else for the same."""
        first = self._drafts.single(draw, home, lambda action: action.domain not in ("timer", "todo"))
        if not first:
            return None
        second = self._then(draw, home, first) if draw() < 0.5 else self._again(draw, home, first)
        return self._conversation(home, "followup", first, second)

    def _then(self, draw: Draw, home: Home, first: Draft) -> Draft | None:
        then = [
            action
            for action in self._drafts.actions.get(first.action.domain, ())
            if action.key in self._piles.then and _follows(first.action, action)
        ]
        if not then:
            return None
        action, (device,) = pick(draw, then), first.devices
        since = {SLOTS[slot][2]: value for slot, value in first.values.items()}
        now = Device(device.name, {**device.state, **since})
        return self._drafts.draft(draw, home, action, (now,), pick(draw, self._piles.then[action.key]))

    def _again(self, draw: Draw, home: Home, first: Draft) -> Draft | None:
        fellows = self._drafts.fellows(home, first.devices[0], first.action)
        if not fellows:
            return None
        device = pick(draw, fellows)
        fillers = {**self._wording.device(draw, device), **first.said}
        user = self._wording.request(draw, pick(draw, self._piles.again).text.format_map(fillers))
        answers = self._piles.answers[home.persona, "action", first.action.key]
        answer = self._wording.sentence(draw, answers, fillers)
        call = {**first.calls[0], "target_device": device.name.entity_id}
        return Draft(user, answer, (call,), (device,), first.action, first.values, first.said)

    def _failure(self, draw: Draw, home: Home) -> Conversation | None:
        """A call that fails and is made again: to a wrong entity where results are told, else by the user's word."""
        draft = self._drafts.single(draw, home, lambda action: True)
        if not draft:
            return None
        device, call = draft.devices[0], draft.calls[0]
        fillers: dict[str, Any] = {"device": device.name.said[0]}
        retry = self._wording.sentence(draw, self._piles.retries, fillers)
        turns: tuple[Turn, ...]
        if self._reports:
            wrong = _wrong_id(draw, device.name.entity_id, {other.name.entity_id for other in home.devices})
            error = pick(draw, self._piles.errors).text.format_map({"entity_id": {"base": wrong}})
            missed = Step("", ({**call, "target_device": wrong},), error)
            turns = (Turn(draft.user, (missed, Step(retry, (call,)), Step(draft.answer))),)
        else:
            complaint = pick(draw, self._piles.complaints).text.format_map(fillers)
            turns = (
                Turn(draft.user, (Step(draft.answer, (call,)),)),
                Turn(self._wording.request(draw, complaint), (Step(retry, (call,)),)),
            )
        return Conversation(home, "failure", (device.name.domain,), turns)

    def _without_calls(self, home: Home, kind: str, domain: str, user: str, answer: str) -> Conversation:
        """Return a conversation in which nothing is done."""
        return Conversation(home, kind, (domain,), (Turn(user, (Step(answer),)),))

    def _conversation(self, home: Home, kind: str, *drafts: Draft | None) -> Conversation | None:
        """Return a conversation of one turn for each draft; none where a draft did not come about."""
        turns = []
        for draft in drafts:
            if draft is None:
                return None
            if self._reports:
                turns.append(Turn(draft.user, (Step("", draft.calls), Step(draft.answer))))
            else:
                turns.append(Turn(draft.user, (Step(draft.answer, draft.calls),)))
        types = {device.name.domain for draft in drafts if draft for device in draft.devices}
        return Conversation(home, kind, tuple(sorted(types)), tuple(turns))


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
