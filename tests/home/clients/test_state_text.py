"""A line written from an entity's attributes is the line that the generator writes of the same state."""

import pytest

from hatrain.home.calls.compare import Call
from hatrain.home.clients import CLIENTS
from hatrain.home.clients.state_text import state_text
from hatrain.home.devices.entity import Entity
from hatrain.home.devices.states import state_pool
from hatrain.home.simulation.house import House

DOMAINS = (
    "light", "fan", "cover", "media_player", "climate", "vacuum", "timer", "lock", "todo", "valve", "humidifier",
    "switch", "lawn_mower", "water_heater",
)  # fmt: skip


@pytest.mark.parametrize("name", [name for name, client in CLIENTS.items() if client.states_in_prompt])
@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("unit", ["C", "F"])
def test_every_state_of_the_generator_is_written_as_it_writes_it(name, domain, unit):
    client = CLIENTS[name]
    for state in state_pool(domain, unit, ("Blue", "News"), client.device_text):
        entity = Entity(f"{domain}.one", "One", state["state"], state["attributes"])
        assert state_text(client, entity, unit) == state["text"]


@pytest.mark.parametrize(
    ("entity", "call", "text"),
    [
        (
            Entity("light.a", "A", "off"),
            Call("light.turn_on", {"entity_id": "light.a", "brightness_pct": 40}),
            "on;40%",
        ),
        (
            Entity("light.a", "A", "on", {"brightness": 102, "rgb_color": (255, 0, 0)}),
            Call("light.turn_off", {"entity_id": "light.a"}),
            "off",
        ),
        (
            Entity("timer.a", "A", "idle"),
            Call("timer.start", {"entity_id": "timer.a", "duration": "00:05:00"}),
            "active;remaining=00:05:00",
        ),
        (Entity("lock.a", "A", "locked"), Call("lock.unlock", {"entity_id": "lock.a"}), "unlocked"),
    ],
)
def test_a_state_after_a_call_is_written_as_the_guide_does(entity, call, text):
    house = House([entity])
    assert house.apply(call) == []
    assert state_text(CLIENTS["guide"], house.entities()[0], "C") == text
