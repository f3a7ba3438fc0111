"""Writes test sentences as rows of a client's dataset, and picks which."""

import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

from hatrain.home.calls.answer import read_answer
from hatrain.home.calls.colors import CSS_COLORS
from hatrain.home.calls.compare import Call
from hatrain.home.clients.client import Client, TextClient, ToolClient
from hatrain.home.devices.actions import State
from hatrain.home.devices.entity import Entity
from hatrain.home.devices.services import COLORS, DOMAINS
from hatrain.home.generate.formats import entity_json
from hatrain.home.homes.scene import Device, Scene
from hatrain.home.intents.clone import Block, Sentences
from hatrain.home.intents.effect import Due, due_for
from hatrain.home.judge.asked import write_asked
from hatrain.home.language.grammar import Name
from hatrain.home.language.load import Language

Row = dict[str, Any]

MOST_OF_A_BLOCK = 3
"""Sentences of one block; more of them say the same again."""
MOST_OF_A_LANGUAGE = 300

_MOMENT = datetime(2024, 3, 15, 18, 30)
_COLOR_NAMES = {CSS_COLORS[name]: name for name in reversed(COLORS)}


@dataclass(frozen=True)
class Picked:
    """The rows of a language, and what was left out: (intent, reason) → sentences."""

    rows: tuple[Row, ...]
    left_out: Mapping[tuple[str, str], int] = field(default_factory=dict)


def pick_rows(tests: Sentences, client: Client, language: Language, seed: int) -> Picked:
    """Return the rows of a language: at most three sentences a block, every intent as often as it can be."""
    by_intent: dict[str, list[tuple[Block, str, Due]]] = {}
    left_out: Counter[tuple[str, str]] = Counter()
    draw = random.Random(f"{seed}/{tests.language}/intents")
    for block in tests.blocks:
        due = _due(block, tests, client)
        if isinstance(due, str):
            left_out[block.intent, due] += len(block.sentences)
            continue
        sentences = draw.sample(block.sentences, min(MOST_OF_A_BLOCK, len(block.sentences)))
        by_intent.setdefault(block.intent, []).extend((block, sentence, due) for sentence in sentences)
    for entries in by_intent.values():
        draw.shuffle(entries)
    picked = _in_turn(list(by_intent.values()))[:MOST_OF_A_LANGUAGE]
    writer = _Writer(tests, client, language)
    return Picked(tuple(writer.row(*each) for each in picked), left_out)


def _due(block: Block, tests: Sentences, client: Client) -> Due | str:
    """Return what a block comes to, or why this client cannot be tested with it."""
    due = due_for(block, _shown(tests.home_of(block), client), tests)
    if isinstance(due, str):
        return due
    if due.tool and due.by_satellite and not client.offers(due.tool.service, due.tool.arguments):
        return f"{client.name} has no timers or broadcasts of a voice satellite"
    in_a_place = block.area or not {"area", "floor"}.isdisjoint(block.slots)
    if in_a_place and "name" not in block.slots and not client.areas:
        return f"{client.name} knows no areas"
    if client.row_format != "messages":
        answer = cast(TextClient, client).answer("", [_drawn(call) for call in due.calls])
        refused = (client.understand(call, tests.home_of(block)).problem for call in read_answer(answer).calls)
        if problem := next(filter(None, refused), None):
            return f"{client.name}: {problem.partition(': ')[2] or problem}"
    return due


def _in_turn(groups: Sequence[Sequence[Any]]) -> list[Any]:
    """Return the items of all groups, one of each in turn."""
    longest = max(map(len, groups), default=0)
    return [group[index] for index in range(longest) for group in groups if index < len(group)]


def _shown(home: Sequence[Entity], client: Client) -> list[Entity]:
    """Return the entities that a client shows: the guide's prompt has services of its own domains alone."""
    return [entity for entity in home if client.name != "guide" or entity.domain in DOMAINS]


class _Writer:
    """Writes the rows of one language for one client."""

    def __init__(self, tests: Sentences, client: Client, language: Language):
        self._tests, self._client, self._language = tests, client, language
        self._opening = next(iter(language.prompts.values()))[0]

    def row(self, block: Block, sentence: str, due: Due) -> Row:
        client = self._client
        home = due.home
        # Home Assistant's own interface says itself where the user is.
        satellite = due.satellite if client.says_where else None
        in_words = f"\nThe user is in the area {block.area}." if block.area and not satellite else ""
        opening = self._opening + in_words
        devices = [self._device(entity) for entity in home]
        rules, labels = self._language.grammar.rules, self._language.labels
        scene = Scene(opening, _MOMENT, devices, self._language.code, labels, rules.date_line, satellite)
        turns = list(self._turns(block, sentence, due, home))
        domains = frozenset(entity.domain for entity in home)
        row: Row = {}
        if client.row_format == "messages":
            row["messages"] = [{"role": "system", "content": client.prompt(scene)}, *turns]
            row["tools"] = list(client.tools(domains, satellite is not None))
        else:
            texts = [("system", client.prompt(scene)), *((turn["role"], turn["content"]) for turn in turns)]
            row["conversations"] = [{"from": role, "value": text} for role, text in texts]
        kinds = sorted({name.partition(".")[0] for name in due.about})
        row |= {
            "language": self._language.code,
            "kind": block.intent,
            "device_types": kinds or ["none"],
            "client": client.name,
            "covered": due.covered,
            "source": f"home-assistant/intents (CC BY 4.0): {block.file}, test {block.number}",
            "devices": [entity_json(entity) for entity in home],
        }
        return row | ({"asked": list(map(write_asked, due.asked))} if due.asked else {})

    def _turns(self, block: Block, sentence: str, due: Due, home: Sequence[Entity]) -> Iterator[Row]:
        client = self._client
        response = block.response or self._language.words.done[0].capitalize() + "."
        yield {"role": "user", "content": sentence}
        if client.row_format != "messages":
            text = cast(TextClient, client).answer(response, [_drawn(call) for call in due.calls])
            yield {"role": "assistant", "content": text}
            return
        acts = bool(due.calls) or due.by_satellite
        if due.tool and (acts or not client.states_in_prompt):
            function = {"name": due.tool.service, "arguments": json.dumps(due.tool.arguments, ensure_ascii=False)}
            call = {"id": "call_1", "type": "function", "function": function}
            yield {"role": "assistant", "content": "", "tool_calls": [call]}
            if acts:
                return
            result = json.dumps(cast(ToolClient, client).result(due.tool, home, ""), ensure_ascii=False)
            yield {"role": "tool", "tool_call_id": "call_1", "name": due.tool.service, "content": result}
        yield {"role": "assistant", "content": response}

    def _device(self, entity: Entity) -> Device:
        unknown = self._language.unknown_class
        name = Name(entity.domain, None, None, entity.name, entity.entity_id, unknown, ())
        state = _plain_state(entity)
        text = self._client.device_text(entity.domain, state, self._language.units[0])
        return Device(name, {**state, "text": text}, entity.area, entity.floor, entity.aliases)


def _plain_state(entity: Entity) -> State:
    """Return a state with its attributes, and the keys in which the guide's prompt writes them."""
    attributes = entity.attributes
    named = {
        "position": attributes.get("current_position"),
        "percentage": attributes.get("percentage"),
        "temperature": attributes.get("current_temperature"),
        "target": attributes.get("temperature"),
        "volume": round(attributes["volume_level"] * 100) if "volume_level" in attributes else None,
    }
    found = {key: value for key, value in named.items() if value is not None}
    return {"state": entity.state, "attributes": attributes, **found}


def _drawn(call: Call) -> dict[str, Any]:
    """Return a service's call as a generator draws it: with `target_device`, and a colour by its name."""
    drawn: dict[str, Any] = {"service": call.service, "target_device": call.arguments["entity_id"]}
    for key, value in call.arguments.items():
        if key == "rgb_color" and tuple(value) in _COLOR_NAMES:
            drawn["color_name"] = _COLOR_NAMES[tuple(value)]
        elif key != "entity_id":
            drawn[key] = value
    return drawn
