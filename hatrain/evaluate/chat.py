"""Requests one after another to a model, in a simulated home that keeps its state between them."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hatrain.data.rows import Message
from hatrain.data.template import TemplateRefusal
from hatrain.evaluate.asking import Question
from hatrain.home.calls.answer import Answer
from hatrain.home.calls.prompt import PromptContents
from hatrain.home.clients import CLIENTS, Client
from hatrain.home.clients.client import ToolClient
from hatrain.home.clients.state_text import state_text
from hatrain.home.devices.entity import Entity
from hatrain.home.devices.states import Unit
from hatrain.home.judge.effects import Effects, effects
from hatrain.home.judge.telling import changes

REQUEST = "\N{OBJECT REPLACEMENT CHARACTER}"
"""Stands for the user's text in the question that a chat starts from."""
ROUNDS = 5
"""Answers to one request, at most: after a call of a tool the model is asked again, with the tool's result."""

_DEVICE = re.compile(r"^(\s*([a-z_]+\.[a-z0-9_]+)\s+'.*?'\s*=[ \t]*)(.*)$")
_AREA = re.compile(r"^##[ \t]*[^:\n]+:[ \t]*.+$")


@dataclass(frozen=True)
class Round:
    """One answer, the home that it was given in, and what came of its calls."""

    answer: Answer
    known: PromptContents
    effects: Effects


@dataclass(frozen=True)
class Reply:
    """All answers to one request, and how the home has changed, one line each."""

    rounds: tuple[Round, ...]
    changes: tuple[str, ...]


class Chat:
    """A home and a model that is asked about it. Each request is a conversation of its own, in the home as it is now;
    `question` is one whose text is REQUEST."""

    def __init__(self, question: Question, answer: Callable[[Question], Answer]):
        self.question, self._answer = question, answer
        self._start = question.known.devices
        self.home: tuple[Entity, ...] = self._start

    def reset(self) -> None:
        """Put the home back into its first state."""
        self.home = self._start

    def ask(self, text: str) -> Reply:
        """Ask for something, and carry out what the model answers."""
        before = self.home
        rounds: list[Round] = []
        events: list[str] = []
        messages = [replace(message, content=self._shown(message.content, text)) for message in self.question.messages]
        for _ in range(ROUNDS):
            question = replace(self.question, messages=tuple(messages), devices=self.home or self.question.devices)
            try:
                answer = self._answer(question)
            except TemplateRefusal:
                if not rounds:
                    raise
                break  # a template that cannot write these calls and results: the model hears nothing of them
            known = question.known
            done = effects(answer.calls, known.devices, question.understand)
            rounds.append(Round(answer, known, done))
            events += [str(event) for event in done.end.events]
            messages += self._results(answer, done, len(messages))
            if self._start:
                self.home = done.home
            if not answer.calls or not self._reads_results:
                break
        return Reply(tuple(rounds), (*changes(before, self.home), *events))

    # --- the prompt ---

    @property
    def _client(self) -> Client:
        return CLIENTS[self.question.client or "guide"]

    def _shown(self, content: str, text: str) -> str:
        """A message of the question with the request, and with the home's present states."""
        if self._client.states_in_prompt:
            content = with_states(content, self._client, changed(self._start, self.home))
        return content.replace(REQUEST, text)

    # --- tools ---

    @property
    def _reads_results(self) -> bool:
        """Whether the model is shown what its calls came to, and then answers."""
        return bool(self.question.tools) and hasattr(self._client, "result")

    def _results(self, answer: Answer, done: Effects, number: int) -> list[Message]:
        """The answer as a message with calls, and their results, as rows of this client have them."""
        if not answer.calls or not self._reads_results:
            return []
        client: ToolClient = self._client  # type: ignore[assignment]
        calls, results = [], []
        for count, call in enumerate(answer.calls):
            name = f"call_{number + count}"
            function = {"name": call.service, "arguments": dict(call.arguments)}
            calls.append({"id": name, "type": "function", "function": function})
            error = next((reason for failed, reason in done.failed if failed == call), "")
            result = client.result(call, done.home, error)
            extra = {"tool_call_id": name, "name": call.service}
            results.append(Message("tool", json.dumps(result, ensure_ascii=False), extra=extra))
        spoken = answer.text or ("None" if client.history == "calls" else "")
        return [Message("assistant", spoken, tool_calls=tuple(calls)), *results]


def changed(before: Sequence[Entity], after: Sequence[Entity]) -> dict[str, Entity]:
    """Return the entities that are not as they were, by their ids."""
    return {now.entity_id: now for then, now in zip(before, after, strict=True) if then != now}


def with_states(prompt: str, client: Client, entities: dict[str, Entity]) -> str:
    """Return a prompt whose lines say in which state these entities are; all other lines stay as they are."""
    if not entities:
        return prompt
    unit: Unit = "F" if "°F" in prompt else "C"
    in_area, lines = False, []
    for line in prompt.split("\n"):
        in_area = in_area or bool(_AREA.match(line))
        device = _DEVICE.match(line)
        if device and device[2] in entities:
            text = state_text(client, entities[device[2]], unit)
            # In an area home-llm's template ends a state without attributes with a semicolon.
            line = device[1] + (f"{text};" if in_area and ";" not in text else text)
        lines.append(line)
    return "\n".join(lines)
