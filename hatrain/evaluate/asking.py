"""Puts one request to a model, in the shape of the rows it was trained on. What a home looks like is the generator's
to say; where the answer leads is the judge's."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hatrain.contract.inputs import resolve
from hatrain.data.replies import NotFound, ReplyFinder
from hatrain.data.rows import Message, Row, read_rows
from hatrain.data.template import Tools
from hatrain.evaluate.generation import find_stops, generate
from hatrain.evaluate.sources import Source
from hatrain.home.calls.judge import Answer, PromptContents
from hatrain.home.calls.parse import read_answer, read_prompt
from hatrain.home.generate.formats import SystemRole, opening, tools_for
from hatrain.home.homes.home import Home
from hatrain.home.homes.known_home import KnownHome, read_home
from hatrain.home.homes.random_homes import RandomHomes
from hatrain.home.language.load import Language, find_language, load_language
from hatrain.home.language.split import split_names

_ROOM = 512
"""Tokens of an answer, at most."""

_DEVICES = 12
"""Most devices of a home that is made up for a question."""


@dataclass(frozen=True)
class Question:
    """A request in a home, ready for a chat template."""

    messages: tuple[Message, ...]
    tools: Tools
    home: str
    """Where the home comes from, in words."""

    @property
    def known(self) -> PromptContents:
        """What the home has."""
        return read_prompt((message.content for message in self.messages), self.tools)


def put_question(text: str, source: Source, home: Path | None) -> Question:
    """Return a request as the rows of the model's run would put it.

    The home is the one of a file, in drawn states; else the first of the run's dataset; else one that is made
    up. Raises BadInput for a home file that cannot be used.
    """
    row = _first_row(source)
    if row is not None and home is None:
        return _as_in_row(text, row)
    language = load_language(find_language(str(row.meta.get("language", "english")) if row else "english"))
    draw = random.Random(0).random
    if home is not None:
        return _in_home(
            text, KnownHome(language, read_home(home)).draw(draw), row, language, f"{home}, in drawn states"
        )
    made_up = RandomHomes(language, split_names(language.names, "test")).draw(draw, _DEVICES)
    return _in_home(text, made_up, row, language, "made up; --home FILE takes yours")


def ask(model: Any, tokenizer: Any, question: Question) -> Answer:
    """Return what a model answers, greedily."""
    finder = ReplyFinder(tokenizer)
    stops = find_stops(model, tokenizer, finder.markers.ends)
    prompt = _prompt(finder, question.messages, question.tools)
    ((_, said),) = generate(model, tokenizer, [prompt], stops=stops, room=_ROOM, batch_size=1)
    return read_answer(said.text, ended=said.ended)


def _prompt(finder: ReplyFinder, messages: Sequence[Message], tools: Tools) -> str:
    """Return what stands before a reply, as it did when the model was trained."""
    try:
        located = finder.in_conversation([*messages, Message("assistant", "Sure.", train=True)], tools)
    except NotFound:
        return finder.template.render(messages, tools, prompt=True)
    return located.text[: located.replies[-1][0]].rstrip(" ")


def _first_row(source: Source) -> Row | None:
    """Return the first row that the run was trained on, where it is here and is a conversation."""
    if source.run is None:
        return None
    plan = source.run.plan()
    path = resolve(plan.job.data.train[0].path, plan.paths.workdir)
    row = next(iter(read_rows(path)), None) if path.is_file() else None
    return row if row is not None and row.messages else None


def _as_in_row(text: str, row: Row) -> Question:
    """Put a request in the place of a row's own."""
    asked = next((turn for turn, message in enumerate(row.messages) if message.role == "user"), 0)
    said = row.messages[asked].content
    # Without a system role the home stands in the user's text, and the request is its last line.
    prompt, line, _ = said.rpartition("\n")
    kept = prompt + line if read_prompt([said]).entities else ""
    message = replace(row.messages[asked], content=kept + text)
    return Question((*row.messages[:asked], message), row.tools, f"the first of {row.path}")


def _in_home(text: str, home: Home, row: Row | None, language: Language, where: str) -> Question:
    """Put a request in a home, with a system role and tools if the run's rows have them."""
    instruction = language.labels["instruction"]
    system, user = opening(home.prompt, text, _role(row, instruction), instruction)
    messages = (
        [Message("user", user)] if system is None else [Message("system", system), Message("user", user)]
    )
    tools: Tools = ()
    if row is not None and row.tools:
        intents = any(str(tool.get("function", {}).get("name", "")).startswith("Hass") for tool in row.tools)
        tools = tools_for(frozenset(home.domains), "hass" if intents else "service")
    return Question(tuple(messages), tools, f"{where} ({len(home.devices)} devices)")


def _role(row: Row | None, instruction: str) -> SystemRole:
    if row is None:
        return "system"
    system = [message.content for message in row.messages if message.role == "system"]
    if not system:
        return "none"
    return "merged" if system[0].endswith(instruction) else "system"
