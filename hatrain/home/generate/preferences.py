"""Makes the rejected answers of preference pairs: a correct answer with one error, in its calls or in its words."""

from dataclasses import dataclass

from hatrain.home.generate.conversation import Conversation, Step
from hatrain.home.generate.conversations import ConversationGenerator
from hatrain.home.generate.wrong_calls import any_action, call_on_neighbour, do_the_same, wrong_calls
from hatrain.home.generate.wrong_words import WrongWords
from hatrain.home.homes.home import Draw, pick
from hatrain.home.language.split import Side

ERRORS = {
    "calls": (
        "wrong_device", "wrong_device", "wrong_service", "wrong_value", "wrong_value", "missing_call",
        "spurious_call", "hallucinated_name", "false_refusal",
    ),
    "status": ("lie", "lie", "lie", "call_for_a_question", "wrong_language"),
    "missing": ("false_claim", "false_claim", "call_for_another", "call_for_nothing", "wrong_language"),
    "already": ("false_claim", "lie", "undoing_call", "wrong_language"),
}  # fmt: skip
"""The errors that an answer with calls may get, and one without calls by the conversation's kind; often ones repeat."""


@dataclass(frozen=True)
class Rejected:
    """A rejected answer, and the error that it has."""

    step: Step
    error: str


class Rejections:
    """Draws rejected answers to one language's conversations.

    None does the same as the chosen answer: its calls leave the simulated home otherwise or are refused, or, where
    neither calls anything, its words are not so or in another language.
    """

    def __init__(self, generator: ConversationGenerator, side: Side):
        self._generator = generator
        self._words = WrongWords(generator.language, generator.templates, side)

    def draw(self, draw: Draw, conversation: Conversation) -> Rejected | None:
        """Draw an error and put it into a conversation's answer; None where it does not fit, or for several turns."""
        if len(conversation.turns) != 1 or len(conversation.turns[0].steps) != 1:
            return None
        (step,) = conversation.turns[0].steps
        errors = ERRORS.get("calls" if step.calls else conversation.kind)
        if errors is None or any("target_device" not in call for call in step.calls):
            return None  # talk, timers, and questions about many things have no such errors
        error = pick(draw, errors)
        make = self._in_calls if step.calls else self._else
        rejected = make(draw, error, conversation, step)
        if rejected is None or (rejected.text == step.text and rejected.calls == step.calls):
            return None
        if (step.calls or rejected.calls) and do_the_same(conversation.home, step.calls, rejected.calls):
            return None
        return Rejected(rejected, error)

    def _in_calls(self, draw: Draw, error: str, conversation: Conversation, step: Step) -> Step | None:
        if error == "false_refusal":
            text = self._words.false_refusal(draw, conversation)
            return None if text is None else Step(text)
        calls = wrong_calls(draw, error, self._generator, conversation.home, step.calls)
        return None if calls is None else Step(step.text, calls)

    def _else(self, draw: Draw, error: str, conversation: Conversation, step: Step) -> Step | None:
        """An error in an answer that calls nothing."""
        words, home, topic = self._words, conversation.home, conversation.topic
        if error in ("lie", "false_claim", "wrong_language"):
            say = {"lie": words.lie, "false_claim": words.false_claim, "wrong_language": words.foreign}[error]
            text = say(draw, conversation)
            return None if text is None else Step(text)
        assert topic is not None
        if error == "call_for_another":
            claim = words.false_claim(draw, conversation)
            call = topic.action and call_on_neighbour(draw, self._generator, home, topic.name.domain, topic.action)
            return Step(claim, (call,)) if claim and call else None
        if error == "call_for_nothing":
            claim = words.false_claim(draw, conversation)
            action = topic.action
            if claim is None or action is None or action.slots:
                return None
            return Step(claim, (action.call(topic.name.entity_id, {}),))
        device = next(device for device in home.devices if device.name is topic.name)
        call = any_action(draw, self._generator, device)
        return Step(step.text, (call,)) if call else None
