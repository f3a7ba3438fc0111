"""bench/client.py, as far as it runs without a clone of the integration."""

from datetime import datetime
from types import SimpleNamespace

import pytest

from bench import client
from hatrain.home.clients.satellite_tools import SATELLITE_TOOLS
from hatrain.home.devices.entity import Entity


def test_drawn_calls_of_assist_fit_their_tools_and_reach_their_devices_also_through_a_satellite():
    rows = list(client.drawn(client.Recipe(("english",), "assist"), 60))
    named = {
        call["function"]["name"]
        for _, row in rows
        for message in row["messages"]
        for call in message.get("tool_calls", ())
    }
    assert named & set(SATELLITE_TOOLS), "60 rows without a timer or a broadcast show nothing of them"
    no_integration: client.Integration = SimpleNamespace()  # type: ignore[assignment]
    tally = client.tool_turns(no_integration, "assist", "english", 60)
    assert tally.of > 30
    assert tally.right == tally.of, tally.examples


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"domain": ["cover"], "floor": "Upstairs"}, ["cover.attic"]),
        ({"domain": ["cover"], "device_class": ["garage"]}, ["cover.garage"]),
        ({"domain": ["cover"]}, ["cover.attic", "cover.garage"]),
        ({"name": "attic blind", "area": "Attic"}, ["cover.attic"]),
    ],
)
def test_arguments_choose_entities_as_home_assistant_does(arguments, found):
    blind = Entity("cover.attic", "Attic blind", "open", {"device_class": "blind"}, area="Attic", floor="Upstairs")
    door = Entity("cover.garage", "Door", "closed", {"device_class": "garage"}, area="Garage", floor="Downstairs")
    assert client._matched(client.Hass([blind, door], datetime(2026, 1, 1)), arguments) == found


TIMER = {
    "type": "object",
    "properties": {"hours": {"type": "integer", "minimum": 1}, "name": {"type": "string"}},
    "required": ["name"],
    "anyOf": [{"required": ["hours"]}, {"required": ["minutes"]}],
}


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"name": "tea", "hours": 1}, []),
        ({"name": "tea"}, ["arguments: {'name': 'tea'}"]),
        ({"hours": 1}, ["arguments: name is missing"]),
        ({"name": "tea", "hours": 0}, ["hours: 0"]),
    ],
)
def test_one_of_several_arguments_may_be_required_beside_a_type(arguments, found):
    assert client.misfits(TIMER, arguments) == found
