"""What holds for the rows of every client, in every language."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from hatrain.home.calls.compare import Call
from hatrain.home.clients import CLIENTS
from hatrain.home.devices.entity import Entity
from hatrain.home.generate.dataset import Recipe
from hatrain.home.language.load import find_language, load_language
from hatrain.home.simulation.house import House

Rows = Callable[..., list[dict[str, Any]]]
Row = dict[str, Any]
FENCE = re.compile(r"```homeassistant\n(.*?)\n```", re.DOTALL)
NEW = ["assist", "home-llm", "home-llm-legacy"]
ASKING = ("status", "groups", "talk", "timers")


def rows_of(make_rows: Rows, client: str, language: str, part: str = "test", homes: int = 256) -> list[Row]:
    return make_rows(Recipe((language,), client, CLIENTS[client].row_format), part, homes)


def entities(row: Row) -> list[Entity]:
    return [Entity(**{**entity, "aliases": tuple(entity.get("aliases", ()))}) for entity in row["devices"]]


def text(message: Row) -> str:
    return "".join(part["text"] for part in message["content"])


def messages(row: Row) -> list[tuple[str, str, list[Call], bool]]:
    """Return (role, text, calls, whether it is trained) of each message of a row."""
    found = []
    for message in row.get("messages") or row["conversations"]:
        trained = message.get("train_on_turn", True)
        if "from" in message:
            role = {"gpt": "assistant", "human": "user"}.get(message["from"], message["from"])
            written = [json.loads(call) for call in FENCE.findall(message["value"])]
            calls = [Call(call.pop("service"), call) for call in written]
            found.append((role, FENCE.sub("", message["value"]).strip(), calls, trained))
        else:
            functions = [call["function"] for call in message.get("tool_calls", [])]
            calls = [Call(function["name"], json.loads(function["arguments"])) for function in functions]
            found.append((message["role"], text(message), calls, trained))
    return found


def trained_calls(row: Row) -> Iterator[list[Call]]:
    yield from (calls for role, _, calls, trained in messages(row) if role == "assistant" and trained and calls)


@pytest.mark.parametrize("client", NEW)
def test_every_call_is_understood_and_carried_out_in_its_home(make_rows: Rows, client: str, language_name: str) -> None:
    seen = 0
    for row in rows_of(make_rows, client, language_name):
        home = entities(row)
        for calls in trained_calls(row):
            for call in calls:
                understood = CLIENTS[client].understand(call, home)
                assert understood.problem is None, (call, understood.problem)
                house = House(home)
                assert house.apply_all(understood.calls) == [], call
                seen += 1
            home = list(house.entities())
    assert seen > 100


@pytest.mark.parametrize("client", list(CLIENTS))
def test_rows_name_their_client_and_carry_a_home_only_where_they_are_judged(make_rows: Rows, client: str) -> None:
    for part, judged in (("test", True), ("dpo", True), ("train", False)):
        for row in rows_of(make_rows, client, "english", part):
            assert row["client"] == client
            assert ("devices" in row) == judged
            assert "asked" not in row or (judged and row["kind"] in ASKING)
            assert "asked" in row or not (judged and row["kind"] in ("status", "groups"))


@pytest.mark.parametrize("client", list(CLIENTS))
def test_a_question_asks_what_a_device_of_the_home_holds(make_rows: Rows, client: str, language_name: str) -> None:
    keys = Counter()
    for row in rows_of(make_rows, client, language_name, homes=512):
        for asked in row.get("asked", ()):
            if asked["key"] == "response":
                assert asked["value"].strip() and row["kind"] != "status"
                continue
            (entity,) = [entity for entity in entities(row) if entity.entity_id == asked["about"]]
            assert asked["value"] == (entity.state if asked["key"] == "state" else entity.attributes[asked["key"]])
            keys[asked["key"]] += 1
    assert keys["state"] > 10


def as_shown(key: str, value: Any) -> str:
    """Return a pattern for how home-llm writes a value."""
    if key == "brightness":
        return f"{value * 100 // 255}%"
    if key == "rgb_color":
        return re.escape(f"({', '.join(map(str, value))})")
    if key == "volume_level":
        return f"vol={round(value * 100)}"
    return f"{value:g} [CF]" if key == "temperature" else re.escape(str(value))


@pytest.mark.parametrize("client", ["home-llm", "home-llm-legacy"])
def test_what_is_asked_stands_in_the_devices_line(make_rows: Rows, client: str, language_name: str) -> None:
    keys = set()
    for row in rows_of(make_rows, client, language_name, homes=512):
        prompt = messages(row)[0][1]
        for asked in row.get("asked", ()) if row["kind"] == "status" else ():
            line = next(line for line in prompt.splitlines() if line.startswith(f"{asked['about']} '"))
            assert re.search(as_shown(asked["key"], asked["value"]), line), (asked, line)
            keys.add(asked["key"])
    assert "state" in keys and len(keys) > 2
    assert not keys & {"current_temperature", "current_humidity", "current_position", "percentage", "battery_level"}


def test_assist_looks_before_it_answers_a_question_and_never_calls_a_state_known(make_rows: Rows) -> None:
    looked = 0
    for row in rows_of(make_rows, "assist", "english", homes=1024):
        assert row["kind"] != "already"
        if row["kind"] != "status":
            continue
        _, _, (_, _, (call,), trained), (role, result, _, _), (_, answer, none, _) = messages(row)
        assert call.service == "GetLiveContext" and trained and role == "tool" and answer and not none
        (listed,) = yaml.safe_load(json.loads(result)["result"].partition("\n")[2])
        (asked,) = row["asked"]
        about = next(entity for entity in entities(row) if entity.entity_id == asked["about"])
        assert listed["names"] == about.name and str(listed["state"]) == about.state
        if asked["key"] != "state":
            assert str(listed["attributes"][asked["key"]]) == str(asked["value"])
        looked += 1
    assert looked > 50


def test_the_prompt_of_assist_lists_names_domains_and_areas_by_name_and_no_state(make_rows: Rows) -> None:
    areas = 0
    for row in rows_of(make_rows, "assist", "english"):
        listed = yaml.safe_load("- names:" + messages(row)[0][1].partition("- names:")[2])
        expected = [
            {"names": entity.name, "domain": entity.domain, **({"areas": entity.area} if entity.area else {})}
            for entity in sorted(entities(row), key=lambda entity: entity.name)
        ]
        assert listed == expected
        areas += any("areas" in device for device in listed)
    assert areas > 200


@pytest.mark.parametrize("client", ["assist", "home-llm"])
def test_a_request_for_a_whole_area_is_one_call_and_for_named_devices_one_each(make_rows: Rows, client: str) -> None:
    whole = named = 0
    for row in rows_of(make_rows, client, "english", homes=1024):
        for calls in trained_calls(row):
            if row["kind"] == "implied" and "name" not in calls[0].arguments:
                understood = CLIENTS[client].understand(calls[0], entities(row))
                assert len(calls) == 1 and len(understood.calls) > 1
                whole += 1
            elif row["kind"] == "several":
                assert all("name" in call.arguments for call in calls)
                named += len(calls)
    assert whole > 10 and named > 30


@pytest.mark.parametrize("client", ["assist", "home-llm"])
def test_tools_are_those_of_the_homes_domains(make_rows: Rows, client: str) -> None:
    for row in rows_of(make_rows, client, "german"):
        offered = [tool["function"]["name"] for tool in row["tools"]]
        domains = {entity.domain for entity in entities(row)}
        assert ("HassLightSet" in offered) == ("light" in domains)
        assert ("HassListAddItem" in offered) == ("todo" in domains)
        assert ("HassStartTimer" in offered) == ("The user is in the area" in messages(row)[0][1])
        assert {call.service for calls in trained_calls(row) for call in calls} <= set(offered)
        assert "GetLiveContext" in offered


def test_home_llm_shows_earlier_calls_without_words_and_trains_one_message(make_rows: Rows, language_name: str) -> None:
    kinds = Counter()
    for row in rows_of(make_rows, "home-llm", language_name, homes=512):
        *shown, last = messages(row)
        assert last[0] == "assistant" and last[3]
        for role, said, calls, trained in shown:
            assert not (role == "assistant" and trained)
            assert role != "assistant" or (calls and said)
        kinds["calls" if last[2] else "words"] += 1
    assert kinds["calls"] > 100 and kinds["words"] > 100


def test_home_llm_legacy_shows_earlier_answers_without_their_calls(make_rows: Rows, language_name: str) -> None:
    later = 0
    for row in rows_of(make_rows, "home-llm-legacy", language_name, homes=1024):
        *shown, last = messages(row)
        assert last[3]
        for role, _, calls, trained in shown:
            assert not (role == "assistant" and (calls or trained))
        later += len(shown) > 2
    assert later > 20


def test_home_llm_writes_a_fence_for_each_call(make_rows: Rows) -> None:
    several = 0
    for row in rows_of(make_rows, "home-llm-legacy", "english", homes=512):
        for turn in row["conversations"]:
            if turn["from"] == "gpt":
                assert turn["value"].count("```homeassistant\n{") == len(FENCE.findall(turn["value"]))
                assert turn["value"].count("```") == 2 * len(FENCE.findall(turn["value"]))
                several += len(FENCE.findall(turn["value"])) > 1
    assert several > 20


def test_the_prompt_of_a_second_request_shows_what_the_first_has_changed(make_rows: Rows) -> None:
    switched = 0
    for row in rows_of(make_rows, "home-llm", "english", homes=2500):
        if row["kind"] != "followup":
            continue
        home, prompt = entities(row), messages(row)[0][1]
        first = next(calls for role, _, calls, _ in messages(row) if role == "assistant" and calls)
        for call in CLIENTS["home-llm"].understand(first[0], home).calls:
            if call.service in ("light.turn_on", "light.turn_off"):
                entity = next(entity for entity in home if entity.entity_id == call.arguments["entity_id"])
                assert entity.state == call.service.rpartition("_")[2]
                assert f"\n{entity.entity_id} '{entity.name}' = {entity.state}" in prompt
                switched += 1
    assert switched > 5


def test_home_llm_groups_devices_by_area_after_those_without_one(make_rows: Rows, language_name: str) -> None:
    label = {"en": "Area", "de": "Bereich", "fr": "Zone", "es": "Área", "pl": "Obszar"}
    code = load_language(find_language(language_name)).code
    grouped = 0
    for row in rows_of(make_rows, "home-llm", language_name):
        prompt = messages(row)[0][1]
        area, found = None, {}
        for line in prompt.splitlines():
            if line.startswith("## "):
                area = line.removeprefix(f"## {label[code]}: ")
            elif "' = " in line:
                found[line.partition(" '")[0]] = area
        assert found == {entity.entity_id: entity.area for entity in entities(row)}
        areas = [line for line in prompt.splitlines() if line.startswith("## ")]
        assert areas == sorted(areas, key=str.lower)
        grouped += bool(areas)
    assert grouped > 200


def test_dpo_pairs_of_tool_clients_are_messages_that_training_reads(make_rows: Rows, tmp_path: Any) -> None:
    for client in ("assist", "home-llm"):
        rows = rows_of(make_rows, client, "english", "dpo")
        for row in rows:
            assert [message["role"] for message in row["prompt"]][:2] == ["system", "user"]
            assert row["chosen"] != row["rejected"]
            assert [message["role"] for message in row["chosen"] + row["rejected"]] == ["assistant", "assistant"]
        called = [row for row in rows if "tool_calls" in row["chosen"][0]]
        assert len(called) > len(rows) / 2
