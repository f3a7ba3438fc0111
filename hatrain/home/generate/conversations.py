"""Generates conversations of every kind in a home, independent of any row format."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hatrain.home.clients.client import Client
from hatrain.home.devices.actions import SLOTS, Action
from hatrain.home.generate.aftermath import home_after
from hatrain.home.generate.conversation import Conversation, Step, Topic, Turn
from hatrain.home.generate.drafts import Draft, Drafts, any_device, supports
from hatrain.home.generate.questions import Questions
from hatrain.home.generate.talk import Talk
from hatrain.home.homes.home import Device, Draw, Home, Homes, pick
from hatrain.home.language.load import Language
from hatrain.home.language.split import Templates

# How often each kind of conversation is tried, in percent.
KIND_SHARES = {
    "action": 14,
    "value": 13,
    "implied": 32,
    "several": 7,
    "status": 10,
    "groups": 6,
    "missing": 3,
    "already": 3,
    "followup": 4,
    "failure": 2,
    "talk": 2,
    "later": 1,
    "timers": 3,
}
_TRIES = 5
"""Draws of a kind before another takes its place: some kinds seldom fit, and their share should not depend on that."""
_KINDS = tuple(kind for kind, share in KIND_SHARES.items() for _ in range(share))


class ConversationGenerator:
    """Generates conversations in one language, from one side's templates.

    It requests what the client can carry out, and asks what the client shows. `apart`: words are said after the calls
    and their results, and a failing call names a wrong entity and its result says so. Otherwise words and calls are
    one answer, and the user says that nothing happened.
    """

    def __init__(
        self,
        language: Language,
        templates: Templates,
        homes: Homes,
        client: Client,
        *,
        apart: bool,
    ):
        self.language, self.homes, self.templates = language, homes, templates
        self._templates, self._client, self._apart = templates, client, apart
        self._drafts = Drafts(language, templates, client)
        self._wording = self._drafts.wording
        questions = Questions(language, templates, client, apart=apart)
        talk = Talk(self._drafts, client, apart=apart)
        self._by_kind: dict[str, Callable[[Draw, Home], Conversation | None]] = {
            "action": self._action,
            "value": self._value,
            "implied": self._implied,
            "several": self._several,
            "status": questions.status,
            "groups": questions.groups,
            "missing": self._missing,
            "already": self._already,
            "followup": self._followup,
            "failure": self._failure,
            "talk": talk.talk,
            "later": talk.later,
            "timers": talk.timers,
        }

    @property
    def actions(self) -> Mapping[str, Sequence[Action]]:
        """What can be requested of one device, by domain."""
        return self._drafts.actions

    def draw(self, draw: Draw, home: Home) -> Conversation:
        """Draw a conversation. A kind that does not fit the home is replaced by another draw."""
        for _ in range(200):
            make = self._by_kind[_KINDS[int(draw() * len(_KINDS))]]
            for _ in range(_TRIES):
                if conversation := make(draw, home):
                    return conversation
        raise AssertionError(f"no conversation fits this home: {[device.name for device in home.devices]}")

    def _action(self, draw: Draw, home: Home) -> Conversation | None:
        draft = self._drafts.single(draw, home, lambda action: not action.slots)
        return self._conversation(home, "action", draft)

    def _value(self, draw: Draw, home: Home) -> Conversation | None:
        draft = self._drafts.single(draw, home, lambda action: bool(action.slots))
        return self._conversation(home, "value", draft)

    def _implied(self, draw: Draw, home: Home) -> Conversation | None:
        return self._conversation(home, "implied", self._drafts.implied(draw, home))

    def _several(self, draw: Draw, home: Home) -> Conversation | None:
        """One request about several devices: the same action for all of them, or two actions."""
        if draw() < 0.5:
            return self._conversation(home, "several", self._drafts.listed(draw, home))
        first, second = (self._drafts.plain(draw, home) for _ in range(2))
        if not first or not second or first.devices[0] is second.devices[0]:
            return None
        devices = (*first.devices, *second.devices)
        fillers = {
            "device": self._wording.reference(draw, [device.name for device in devices]),
            "count": self._drafts.count(draw, home, 2),
        }
        joined = pick(draw, self.language.joins).format(first=first.user, second=second.user)
        both = Draft(
            self._wording.request(draw, joined, True),
            self._wording.sentence(draw, self._templates.answers[home.persona, "action", "several"], fillers),
            (*first.calls, *second.calls),
            devices,
            first.action,
            {},
            {},
            first.shape,
        )
        return self._conversation(home, "several", both)

    def _missing(self, draw: Draw, home: Home) -> Conversation | None:
        domain = pick(draw, home.domains)
        name = self.homes.absent_name(draw, home, domain)
        actions = self._drafts.actions.get(domain)
        if name is None or not actions:
            return None
        action = pick(draw, actions)
        texts = self._drafts.refused(draw, home, action, name, self._templates.missing)
        return texts and _without_calls(home, "missing", Topic(name, None, action), *texts)

    def _already(self, draw: Draw, home: Home) -> Conversation | None:
        """A request that has nothing left to do, as the prompt says."""
        if not self._client.states_in_prompt:
            return None
        device = any_device(draw, home)
        done = [
            action
            for action in self._drafts.actions.get(device.name.domain, ())
            if action.key in self._templates.already and action.done(device.state)
        ]
        if not done:
            return None
        action = pick(draw, done)
        texts = self._drafts.refused(draw, home, action, device.name, self._templates.already[action.key])
        return texts and _without_calls(home, "already", Topic(device.name, device.state, action), *texts)

    def _followup(self, draw: Draw, home: Home) -> Conversation | None:
        """A second request that needs the first to be understood: another device, or another action."""
        first = self._drafts.single(draw, home, lambda action: action.domain not in ("timer", "todo"))
        if not first:
            return None
        after = home_after(home, first.calls, self._client)
        second = self._then(draw, after, first) if draw() < 0.5 else self._again(draw, home, first)
        if not second:
            return None
        turns = (self._turn(home, first), self._turn(after, second))
        types = {device.name.domain for draft in (first, second) for device in draft.devices}
        # A client that shows a model only parts of its earlier turns writes the prompt anew for each.
        shown = home if self._client.history == "whole" else after
        return Conversation(shown, "followup", tuple(sorted(types)), turns)

    def _then(self, draw: Draw, after: Home, first: Draft) -> Draft | None:
        """Draft another action for the device of the first request, in the home after it."""
        actions = [
            action
            for action in self._drafts.actions.get(first.action.domain, ())
            if action.key in self._templates.then
            and _may_follow(first.action, action)
            and supports(first.devices[0], action)
        ]
        if not actions:
            return None
        action, (device,) = pick(draw, actions), first.devices
        state = next(other.state for other in after.devices if other.name is device.name)
        if not self._drafts.reaches(action, state):
            return None
        changes = {SLOTS[slot].state_key: value for slot, value in first.values.items()}
        changed = Device(device.name, {**device.state, **changes})
        return self._drafts.draft(draw, after, action, (changed,), pick(draw, self._templates.then[action.key]))

    def _again(self, draw: Draw, home: Home, first: Draft) -> Draft | None:
        """Draft the action of the first request for another device."""
        others = [
            other
            for other in self._drafts.others_for(home, first.devices[0], first.action)
            if all(other.name.able.takes(slot, value) for slot, value in first.values.items())
        ]
        if not others:
            return None
        device = pick(draw, others)
        fillers = {**self._wording.device(draw, device), **first.wordings}
        user = self._wording.request(draw, pick(draw, self._templates.again).text.format_map(fillers))
        answers = self._templates.answers[home.persona, "action", first.action.key]
        answer = self._wording.sentence(draw, answers, fillers)
        call = {**first.calls[0], "target_device": device.name.entity_id}
        return Draft(user, answer, (call,), (device,), first.action, first.values, first.wordings, first.shape)

    def _failure(self, draw: Draw, home: Home) -> Conversation | None:
        """A call that has no effect, and is made again."""
        draft = self._drafts.single(draw, home, lambda action: True)
        if not draft:
            return None
        device, call = draft.devices[0], draft.calls[0]
        fillers: dict[str, Any] = {"device": device.name.references[0]}
        turns: tuple[Turn, ...]
        if self._apart:
            wrong = _wrong_id(draw, device.name.entity_id, {other.name.entity_id for other in home.devices})
            error = pick(draw, self._templates.errors).text.format_map({"entity_id": {"base": wrong}})
            retry = self._wording.sentence(draw, self._templates.corrections, fillers)
            failing = Step("", ({**call, "target_device": wrong},), error)
            turns = (Turn(draft.user, (failing, Step(retry, (call,)), Step(draft.answer)), home),)
        else:
            complaint = pick(draw, self._templates.complaints).text.format_map(fillers)
            retry = self._wording.sentence(draw, self._templates.retries, fillers)
            turns = (
                Turn(draft.user, (Step(draft.answer, (call,)),), home),
                Turn(self._wording.request(draw, complaint), (Step(retry, (call,)),), home),
            )
        return Conversation(home, "failure", (device.name.domain,), turns)

    def _conversation(self, home: Home, kind: str, draft: Draft | None) -> Conversation | None:
        if draft is None:
            return None
        types = {device.name.domain for device in draft.devices}
        first = draft.devices[0]
        topic = Topic(first.name, first.state, draft.action)
        return Conversation(home, kind, tuple(sorted(types)), (self._turn(home, draft),), (), topic, draft.shape)

    def _turn(self, home: Home, draft: Draft) -> Turn:
        if self._apart:
            return Turn(draft.user, (Step("", draft.calls), Step(draft.answer)), home)
        return Turn(draft.user, (Step(draft.answer, draft.calls),), home)


def _without_calls(home: Home, kind: str, topic: Topic, user: str, answer: str) -> Conversation:
    return Conversation(home, kind, (topic.name.domain,), (Turn(user, (Step(answer),), home),), (), topic)


def _may_follow(first: Action, second: Action) -> bool:
    """Whether a second action makes sense on the same device after the first has been carried out."""
    if "toggle" in first.service + second.service:
        return False
    if first.service.endswith("turn_off") or second.key.endswith("turn_on"):
        return first.service.endswith("turn_off") and second.service.endswith("turn_on")
    return second.service != first.service or bool(second.slots)


def _wrong_id(draw: Draw, entity_id: str, existing: set[str]) -> str:
    """Draw an entity id that is close to a real one and not in the home."""
    domain, _, name = entity_id.partition(".")
    words = name.split("_")
    wrong = [f"{domain}.{name}_1", f"{domain}.{name}_device", f"{domain}.my_{name}"]
    if len(words) > 1:
        wrong += [
            f"{domain}.{'_'.join(words[1:])}",
            f"{domain}.{'_'.join(words[:-1])}",
            f"{domain}.{'_'.join(words[::-1])}",
        ]
    return pick(draw, [name for name in wrong if name not in existing])
