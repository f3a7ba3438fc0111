"""Holds the rows of the client `assist` against Home Assistant itself: its Assist API, run on each row's home.

python -m bench.assist [--rows N] [--language NAME …]

It needs an environment of Python 3.13 with hatrain's requirements for data (pydantic, PyYAML, Jinja2) and
`pip install homeassistant==2025.4.4`; run it in the repository's folder. Entities are states and registry entries;
services are Home Assistant's own, whose calls are recorded. Tools that came later than the installed version (a fan's
speed, stopping a cover, relative volume, playing media), and pressing buttons, are counted apart. It exits with 1 when
less than 99.5 % of the messages with calls do what hatrain says, or any overview or schema differs.
"""

import argparse
import asyncio
import logging
import sys
import tempfile
from collections.abc import Mapping, Sequence
from operator import itemgetter
from types import SimpleNamespace
from typing import Any

import yaml
from homeassistant import auth, config_entries, loader
from homeassistant.components.homeassistant.exposed_entities import async_expose_entity
from homeassistant.components.todo.const import DATA_COMPONENT, TodoItemStatus
from homeassistant.core import Context, Event, HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import (
    area_registry,
    category_registry,
    device_registry,
    entity_registry,
    floor_registry,
    issue_registry,
    label_registry,
    llm,
    restore_state,
)
from homeassistant.setup import async_setup_component
from voluptuous_openapi import convert

from bench.client import EXECUTED, Tally, drawn
from hatrain.home.calls.compare import Call
from hatrain.home.clients.assist import Assist, devices_overview
from hatrain.home.clients.assist_tools import READERS
from hatrain.home.devices.actions import ACTIONS
from hatrain.home.devices.entity import Entity
from hatrain.home.generate.dataset import Recipe
from hatrain.home.language.load import language_folders

COMPONENTS = ("homeassistant", *sorted({action.service.partition(".")[0] for action in ACTIONS.values()}), "intent")
"""Of each domain in which something can be requested; the intents come last, for they look for the services."""
NEWER = ("button.press",)
"""Services that this version calls for none of its tools."""
EVERY_FEATURE = 2**24 - 1
ASSIST = Assist()


class Home:
    """Home Assistant with the entities of one row, and the services that were called in it."""

    def __init__(self, hass: HomeAssistant):
        self._hass = hass
        self.calls: list[tuple[str, str, Mapping[str, Any]]] = []
        hass.bus.async_listen("call_service", self._record)
        self._item = ""
        # Adding and completing an item call the list itself, not a service.
        hass.data[DATA_COMPONENT] = SimpleNamespace(get_entity=self._list)

    async def fill(self, entities: Sequence[Entity]) -> None:
        entries = entity_registry.async_get(self._hass)
        for entry in list(entries.entities.values()):
            entries.async_remove(entry.entity_id)
        for state in self._hass.states.async_all():
            self._hass.states.async_remove(state.entity_id)
        for entity in entities:
            domain, _, name = entity.entity_id.partition(".")
            entry = entries.async_get_or_create(domain, "bench", entity.entity_id, suggested_object_id=name)
            assert entry.entity_id == entity.entity_id
            entries.async_update_entity(entry.entity_id, area_id=self._area(entity), aliases=set(entity.aliases))
            attributes = {**entity.attributes, "friendly_name": entity.name, "supported_features": EVERY_FEATURE}
            self._hass.states.async_set(entity.entity_id, entity.state, attributes)
            async_expose_entity(self._hass, "conversation", entity.entity_id, True)
        await self._hass.async_block_till_done()

    def _area(self, entity: Entity) -> str | None:
        if not entity.area:
            return None
        areas, floors = area_registry.async_get(self._hass), floor_registry.async_get(self._hass)
        area, floor = areas.async_get_or_create(entity.area), None
        if entity.floor:
            floor = (floors.async_get_floor_by_name(entity.floor) or floors.async_create(entity.floor)).floor_id
        areas.async_update(area.id, floor_id=floor)  # an earlier home may have had it elsewhere
        return area.id

    async def api(self) -> Any:
        context = llm.LLMContext("bench", Context(), "", "en", "conversation", None)
        return await llm.async_get_api(self._hass, "assist", context)

    async def call(self, api: Any, call: Call) -> Any:
        """Call a tool; what it answers, or the error as text. `calls` has the services of the entities' own domains."""
        self.calls.clear()
        self._item = call.arguments.get("item", "")
        try:
            answer = await api.async_call_tool(llm.ToolInput(call.service, dict(call.arguments)))
        except HomeAssistantError as error:
            return repr(error)
        await self._hass.async_block_till_done()
        return answer

    def _record(self, event: Event) -> None:
        data = dict(event.data["service_data"])
        named = data.pop("entity_id", [])
        for entity_id in [named] if isinstance(named, str) else named:
            if event.data["domain"] != "homeassistant":
                self.calls.append((f"{event.data['domain']}.{event.data['service']}", entity_id, data))

    def _list(self, entity_id: str) -> Any:
        async def add(item: Any) -> None:
            self.calls.append(("todo.add_item", entity_id, {"item": item.summary}))

        async def update(item: Any) -> None:
            self.calls.append(("todo.update_item", entity_id, {"item": item.summary, "status": item.status.value}))

        # Entities of a row have no items: the list holds the one that is asked for.
        there = SimpleNamespace(uid="item", summary=self._item, status=TodoItemStatus.NEEDS_ACTION)
        return SimpleNamespace(todo_items=[there], async_create_todo_item=add, async_update_todo_item=update)


async def start(folder: str) -> HomeAssistant:
    hass = HomeAssistant(folder)
    hass.config.skip_pip = True
    loader.async_setup(hass)
    registries = (
        area_registry, category_registry, device_registry, entity_registry, floor_registry, issue_registry,
        label_registry,
    )  # fmt: skip
    await asyncio.gather(*(registry.async_load(hass) for registry in registries))
    await restore_state.async_load(hass)
    hass.auth = await auth.auth_manager_from_config(hass, [], [])
    hass.config_entries = config_entries.ConfigEntries(hass, {})
    await hass.config_entries.async_initialize()
    for component in COMPONENTS:
        if not await async_setup_component(hass, component, {}):
            raise SystemExit(f"{component}: Home Assistant cannot set it up")
    return hass


async def compare(home: Home, language: str, rows: int) -> dict[str, Tally]:
    tallies = {
        name: Tally() for name in ("calls do the same", "newer tools, not compared", "overviews equal", "schemas")
    }
    for conversation, row in drawn(Recipe((language,), "assist", "messages"), rows):
        for turn in conversation.turns:
            await home.fill(turn.home.entities)
            api = await home.api()
            for step in turn.steps:
                calls = ASSIST.tool_calls(step.calls, turn.home.entities, conversation.kind == "implied")
                for call in [] if step.error else calls:
                    await _compare_call(home, api, call, turn.home.entities, tallies)
        listed = yaml.safe_load(api.api_prompt.rpartition("smart home:\n")[2])
        text = yaml.safe_dump(sorted(listed, key=itemgetter("names")), allow_unicode=True, sort_keys=False)
        # This version lists entities as they come, later ones by name.
        tallies["overviews equal"].add(devices_overview(conversation.turns[-1].home.devices) == text, text)
        _compare_schemas(api, row["tools"][0], tallies["schemas"])
    return tallies


async def _compare_call(
    home: Home, api: Any, call: Call, entities: Sequence[Entity], tallies: dict[str, Tally]
) -> None:
    if call.service not in {tool.name for tool in api.tools}:
        tallies["newer tools, not compared"].add(True, "")
        return
    understood = ASSIST.understand(call, entities)
    if any(done.service in NEWER for done in understood.calls):
        tallies["newer tools, not compared"].add(True, "")
        return
    answer = await home.call(api, call)
    if call.service in READERS:
        # This version lists every entity, later ones those that the call asks for.
        ours, theirs = (_listed(shown["result"]) for shown in (ASSIST.result(call, entities, ""), answer))
        tallies["calls do the same"].add(bool(ours) and ours <= theirs, f"{call}: {ours - theirs} {answer}")
        return
    expected = [(done.service, *_split(done.arguments)) for done in understood.calls]
    same = sorted(home.calls, key=repr) == sorted(expected, key=repr)
    result = ASSIST.result(call, entities, "")
    told = isinstance(answer, dict) and _told(answer) == _told(result)
    tallies["calls do the same"].add(same and told, f"{call}: {home.calls} {expected} {answer} {result}")


def _told(answer: Mapping[str, Any]) -> tuple[Any, set[str]]:
    """Return the sentence of a tool's result, and the entities that it names."""
    return answer["speech"], {one["id"] for one in answer["data"]["success"] if one["type"] == "entity"}


def _listed(result: str) -> set[str]:
    """Return the entities in the result of a tool that reads, each with what is said of it."""
    return {entity.strip() for entity in result.split("\n- ")[1:]}


def _split(arguments: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    rest = {key: value for key, value in arguments.items() if key != "entity_id"}
    return arguments["entity_id"], rest


def _compare_schemas(api: Any, domains: frozenset[str], tally: Tally) -> None:
    """Compare the tools that both offer: their arguments, which are required, and their types."""
    ours = {tool["function"]["name"]: tool["function"]["parameters"] for tool in ASSIST.tools(domains)}
    for tool in api.tools:
        if tool.name not in ours or tool.name in READERS:
            continue
        theirs = convert(tool.parameters, custom_serializer=api.custom_serializer)
        left, right = _types(ours[tool.name]), _types(theirs)
        tally.add(left == right, f"{tool.name}: {left}\n  {right}")


def _types(schema: Mapping[str, Any]) -> tuple[Any, ...]:
    properties = {key: value.get("type") for key, value in schema["properties"].items()}
    return properties, sorted(schema.get("required", ()))


async def run(args: argparse.Namespace) -> int:
    logging.disable(logging.CRITICAL)
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        hass = await start(folder)
        home = Home(hass)
        for language in args.language:
            for what, tally in (await compare(home, language, args.rows)).items():
                needed = EXECUTED if "calls" in what else 1.0
                failed |= tally.right < needed * tally.of
                print(f"{language:9} {what:28} {tally}", flush=True)
                for example in tally.examples:
                    print(f"  {example}", file=sys.stderr)
        await hass.async_stop(force=True)
    return int(failed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500, help="rows of each language's test set (default: 500)")
    parser.add_argument("--language", nargs="+", default=list(language_folders()))
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
