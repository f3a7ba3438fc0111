"""One request to a model, in the format of the rows that it was trained on."""

import random
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from hatrain.contract.inputs import resolve, workdir_of
from hatrain.data.replies import ReplyFinder
from hatrain.data.rows import Message, Row, read_rows
from hatrain.data.template import Tools
from hatrain.evaluate.forms import accepted_forms, resolved_forms
from hatrain.evaluate.generation import Generated, find_stops, generate
from hatrain.home.calls.answer import Answer, read_answer
from hatrain.home.calls.prompt import PromptContents, read_prompt
from hatrain.home.clients import Client, find_client
from hatrain.home.clients.guide import Guide
from hatrain.home.devices.entity import Entity
from hatrain.home.generate.formats import SystemRole, opening
from hatrain.home.homes.home import Home
from hatrain.home.homes.home_file import read_home
from hatrain.home.homes.known_home import KnownHome
from hatrain.home.homes.random_homes import RandomHomes
from hatrain.home.judge.devices import read_devices
from hatrain.home.judge.effects import Understand
from hatrain.home.judge.judge import understand_as
from hatrain.home.language.load import Language, find_language, load_language
from hatrain.home.language.split import split_names
from hatrain.model.weights import Source

LIMIT = 512
"""Maximum tokens of an answer."""

_DEVICES = 12
"""Maximum devices of a generated home."""


@dataclass(frozen=True)
class Question:
    """A request in a home, ready for a chat template."""

    messages: tuple[Message, ...]
    tools: Tools
    home: str
    """Where the home comes from, for the user."""
    client: str | None = None
    """The client that the rows were made for."""
    devices: tuple[Entity, ...] | None = None
    """The devices of the home, where the row carries them."""

    @property
    def known(self) -> PromptContents:
        return read_prompt((message.content for message in self.messages), self.tools, self.devices)

    @property
    def understand(self) -> Understand:
        return understand_as(self.client)


def build_question(text: str, source: Source, home: Path | None) -> Question:
    """Return a request in the format of the rows that the model's run was trained on.

    The home is the one of the file `home`, in random states; else the first of the run's dataset; else a generated one.
    Raises BadInput for a home file that cannot be used.
    """
    row = _first_row(source)
    if row is not None and home is None:
        question = _as_in_row(text, row)
        # What a call would do can be told in a home whose devices are known.
        if question.client is None or question.known.devices:
            return question
    language = load_language(find_language(str(row.meta.get("language", "english")) if row else "english"))
    draw, client = random.Random(0).random, _client(row)
    if home is not None:
        return _in_home(
            text, KnownHome(language, read_home(home), client).draw(draw), row, language, f"{home}, in random states"
        )
    generated = RandomHomes(language, split_names(language.names, "test"), client).draw(draw, _DEVICES)
    return _in_home(text, generated, row, language, "generated; use yours with --home FILE")


def ask(model: Any, tokenizer: Any, question: Question, today: date | None = None) -> Answer:
    """Answer a question, asked exactly as the model was trained: with the chat template's generation prompt."""
    finder = ReplyFinder(tokenizer, today)
    stops = find_stops(model, tokenizer, finder.markers.stops)
    prompt = finder.template.render(question.messages, question.tools, prompt=True)
    ((_, generated),) = generate(model, tokenizer, [prompt], stops=stops, limit=LIMIT, batch_size=1)
    return as_answer(generated, question)


def as_answer(generated: Generated, question: Question) -> Answer:
    """Read an answer as the question's client does."""
    forms = resolved_forms(accepted_forms(question.client, tools=bool(question.tools)))
    return read_answer(generated.text, ended=generated.ended, forms=forms)


def _first_row(source: Source) -> Row | None:
    """Return the first training row of the run, if the file is here and the row is a conversation."""
    if source.run is None:
        return None
    plan = source.run.plan()
    path = resolve(plan.job.data.train[0].path, workdir_of(plan, source.run))
    row = next(iter(read_rows(path)), None) if path.is_file() else None
    return row if row is not None and row.messages else None


def _as_in_row(text: str, row: Row) -> Question:
    turn = next((turn for turn, message in enumerate(row.messages) if message.role == "user"), 0)
    content = row.messages[turn].content
    # Without a system role the home is in the user's text, and the request is its last line.
    prompt, line, _ = content.rpartition("\n")
    kept = prompt + line if read_prompt([content]).entities else ""
    message = replace(row.messages[turn], content=kept + text)
    return Question(
        (*row.messages[:turn], message),
        row.tools,
        f"the first of {row.path}",
        _client_name(row),
        read_devices(row.meta.get("devices"), row.where),
    )


def _in_home(text: str, home: Home, row: Row | None, language: Language, where: str) -> Question:
    """Build a request in a home, with a system role and tools if the run's rows have them."""
    instruction = language.labels["instruction"]
    system, user = opening(home.prompt, text, _role(row, instruction), instruction)
    messages = [Message("user", user)] if system is None else [Message("system", system), Message("user", user)]
    tools: Tools = _client(row).tools(frozenset(home.domains)) if row is not None and row.tools else ()
    count = f"{where} ({len(home.devices)} devices)"
    return Question(tuple(messages), tools, count, _client_name(row) if row else None, home.entities)


def _client_name(row: Row) -> str | None:
    """Return the client that a row names."""
    client = row.meta.get("client")
    return None if client is None else find_client(str(client), f"{row.where}: client").name


def _client(row: Row | None) -> Client:
    """Return the client that a run's rows are for: the guide's, with their tools, if they name none."""
    name = str(row.meta.get("client", "guide")) if row is not None else "guide"
    if name != "guide" or row is None or not row.tools:
        return find_client(name, "client")
    intents = any(str(tool.get("function", {}).get("name", "")).startswith("Hass") for tool in row.tools)
    return Guide(row_format="messages", tools_of="hass" if intents else "service")


def _role(row: Row | None, instruction: str) -> SystemRole:
    if row is None:
        return "system"
    system = [message.content for message in row.messages if message.role == "system"]
    if not system:
        return "none"
    return "merged" if system[0].endswith(instruction) else "system"
