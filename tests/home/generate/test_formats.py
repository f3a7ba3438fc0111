"""Every format holds the same conversations, and training can read it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hatrain.data.rows import read_rows
from hatrain.home.devices.services import SERVICES
from hatrain.home.generate.dataset import FILES, Chunks, Recipe
from hatrain.home.generate.formats import tools_for

Rows = Callable[..., list[dict[str, Any]]]


@pytest.mark.parametrize("row_format", ["sharegpt", "messages", "raw"])
def test_training_can_read_every_row(tmp_path: Path, row_format: Any) -> None:
    text, count = Chunks(Recipe(format=row_format), "test").chunk(0)
    path = tmp_path / FILES["test"]
    path.write_text(text)
    rows = list(read_rows(path))
    assert len(rows) == count == 256
    for row in rows:
        assert {"language", "kind", "device_types"} <= set(row.meta)
        if row_format == "raw":
            assert row.text and row.text.startswith("<|im_start|>system\n")
            assert row.text.count("<|im_start|>") == row.text.count("<|im_end|>\n") >= 3
        else:
            assert [message.role for message in row.messages][:2] == ["system", "user"]


def test_raw_text_holds_the_messages_of_sharegpt(make_rows: Rows) -> None:
    for raw, row in zip(make_rows(Recipe(format="raw"), "test", 256), make_rows(Recipe(), "test", 256), strict=True):
        texts = [turn["value"] for turn in row["conversations"]]
        assert all(text in raw["text"] for text in texts)


def tool_messages(row: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return each call with its result."""
    calls = [call for message in row["messages"] for call in message.get("tool_calls", [])]
    results = {message["tool_call_id"]: message for message in row["messages"] if message["role"] == "tool"}
    assert len(results) == len(calls)
    return [(call, results[call["id"]]) for call in calls]


@pytest.mark.parametrize("tools", ["service", "hass"])
def test_each_tool_call_fits_the_schema_of_an_offered_tool(make_rows: Rows, tools: Any) -> None:
    calls = 0
    for row in make_rows(Recipe(format="messages", tools=tools), "train", 2048):
        offered = {tool["function"]["name"]: tool["function"]["parameters"] for tool in row["tools"]}
        assert list(offered) == sorted(offered)
        for call, result in tool_messages(row):
            function = call["function"]
            assert isinstance(function["arguments"], str)
            arguments = json.loads(function["arguments"])
            schema = offered[function["name"]]
            assert set(schema["required"]) <= set(arguments) <= set(schema["properties"]), call
            for name, value in arguments.items():
                assert fits(schema["properties"][name], value), (name, value)
            assert result["name"] == function["name"]
            calls += 1
    assert calls > 1000


def fits(schema: dict[str, Any], value: Any) -> bool:
    kinds = {"string": str, "integer": int, "number": (int, float), "boolean": bool}
    if not isinstance(value, kinds[schema["type"]]) or ("enum" in schema and value not in schema["enum"]):
        return False
    return schema["type"] == "string" or schema.get("minimum", value) <= value <= schema.get("maximum", value)


def test_hass_tools_are_intents_and_name_devices_by_friendly_name(make_rows: Rows) -> None:
    seen = set()
    for row in make_rows(Recipe(format="messages", tools="hass"), "train", 2048):
        prompt = row["messages"][0]["content"][0]["text"]
        for call, result in tool_messages(row):
            seen.add(call["function"]["name"])
            name = json.loads(call["function"]["arguments"])["name"]
            failed = "error" in json.loads(result["content"][0]["text"])
            assert (f" '{name}' = " in prompt) != failed
    assert {"HassTurnOn", "HassTurnOff", "HassLightSet", "HassSetVolume", "HassStartTimer"} <= seen
    assert all(name.startswith("Hass") for name in seen)


def test_a_failing_call_is_not_trained_on_and_is_made_again(make_rows: Rows) -> None:
    failures = [row for row in make_rows(Recipe(format="messages"), "train", 2048) if row["kind"] == "failure"]
    assert len(failures) > 20
    for row in failures:
        (wrong, error), (right, result) = tool_messages(row)
        untrained = [message for message in row["messages"] if message.get("train_on_turn") is False]
        assert [message["tool_calls"][0]["id"] for message in untrained] == [wrong["id"]]
        assert "error" in json.loads(error["content"][0]["text"])
        assert json.loads(result["content"][0]["text"]) == {"result": "ok"}
        first, second = (json.loads(call["function"]["arguments"]) for call in (wrong, right))
        prompt = row["messages"][0]["content"][0]["text"]
        assert f"\n{first['entity_id']} '" not in prompt
        assert f"\n{second['entity_id']} '" in prompt
        assert {**first, "entity_id": ""} == {**second, "entity_id": ""}


def test_messages_are_text_parts_and_end_with_the_assistant(make_rows: Rows) -> None:
    most_devices = 0
    for row in make_rows(Recipe(format="messages"), "train", 2048):
        for message in row["messages"]:
            assert all(set(part) == {"type", "text"} and part["text"] for part in message["content"])
            assert message["content"] or message.get("tool_calls")
        assert row["messages"][-1]["role"] == "assistant" and row["messages"][-1]["content"]
        most_devices = max(most_devices, row["messages"][0]["content"][0]["text"].count("' = "))
    assert 32 < most_devices <= 128


def test_every_service_is_a_tool_of_its_domain() -> None:
    every = frozenset(name.partition(".")[0] for name in SERVICES)
    assert [tool["function"]["name"] for tool in tools_for(every, "service")] == sorted(SERVICES)
