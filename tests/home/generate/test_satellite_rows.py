"""A conversation through a voice satellite becomes a row with its tools, its calls and their results."""

import json
from datetime import datetime
from typing import Any

import pytest

from hatrain.home.clients import CLIENTS
from hatrain.home.generate.conversations import Conversation, Step, Turn
from hatrain.home.generate.formats import Layout, dump, messages_row
from hatrain.home.homes.home import Home
from hatrain.home.homes.scene import Device, Satellite, SatelliteTimer, Scene
from hatrain.home.language.grammar import Name


def row(client: str, satellite: Satellite | None, *calls: dict[str, Any]) -> dict[str, Any]:
    lamp = Name("light", None, None, "Den Lamp", "light.den", "sg", ())
    devices = [Device(lamp, {"state": "off", "attributes": {}, "text": "off"}, "Den")]
    labels = {"devices": "Devices:"}
    scene = Scene("Hello.", datetime(2026, 3, 4), devices, "en", labels, lambda moment: "now", satellite)
    home = Home({"light": devices}, "C", "neutral", scene, CLIENTS[client].prompt)
    turn = Turn("What of the tea?", (Step("", calls), Step("Five minutes.")), home)
    layout = Layout(CLIENTS[client], "english", "system", "Request:")
    written = messages_row(lambda: 0.99, Conversation(home, "timer", (), (turn,)), layout, None)
    return dict(json.loads(dump(written, CLIENTS[client])))


@pytest.mark.parametrize("client", ["assist"])
def test_a_row_through_a_satellite_has_its_tools_and_what_they_answer(client: str) -> None:
    satellite = Satellite("Den", timers=(SatelliteTimer(600, 300, "tea"),))
    written = row(client, satellite, {"service": "HassTimerStatus", "name": "tea"})
    assert "HassTimerStatus" in [tool["function"]["name"] for tool in written["tools"]]
    system, _, called, result, answer = written["messages"]
    assert "The user is in the area Den." in system["content"][0]["text"]
    function = called["tool_calls"][0]["function"]
    assert (function["name"], json.loads(function["arguments"])) == ("HassTimerStatus", {"name": "tea"})
    (timer,) = json.loads(result["content"][0]["text"])["speech_slots"]["timers"]
    assert (timer["name"], timer["minutes_left"]) == ("tea", 5)
    assert answer["content"][0]["text"] == "Five minutes."


def test_a_row_without_a_satellite_has_no_timers() -> None:
    written = row("assist", None, {"service": "light.turn_on", "target_device": "light.den"})
    names = {tool["function"]["name"] for tool in written["tools"]}
    assert "HassTurnOn" in names and not any("Timer" in name for name in names)
