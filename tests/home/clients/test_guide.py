"""What is understood of the guide's rows: services with targets of every kind, and its intents."""

from typing import Any

import pytest

from hatrain.errors import BadInput
from hatrain.home.calls.compare import Call
from hatrain.home.clients import CLIENTS, find_client
from tests.home.clients.homes import HOME


def targets(service: str, **arguments: Any) -> list[str]:
    understood = CLIENTS["guide"].understand(Call(service, arguments), HOME)
    assert understood.problem is None, understood.problem
    return [call.arguments["entity_id"] for call in understood.calls]


@pytest.mark.parametrize(
    "arguments",
    [
        {"target_device": "light.kitchen"},
        {"entity_id": ["light.kitchen"]},
        {"target": {"entity_id": "light.kitchen"}},
        {"entity_id": " LIGHT.kitchen "},
    ],
)
def test_a_target_is_found_wherever_it_stands(arguments: dict[str, Any]) -> None:
    assert targets("light.turn_off", **arguments) == ["light.kitchen"]


def test_an_area_means_the_services_domain_in_it() -> None:
    assert targets("light.turn_off", target={"area_id": "kitchen"}) == ["light.kitchen", "light.counter"]
    assert targets("light.turn_off", floor_id="upstairs") == ["light.bedroom"]


def test_the_guides_intents_set_timer_entities() -> None:
    understood = CLIENTS["guide"].understand(Call("HassStartTimer", {"name": "Egg Timer", "minutes": 5}), HOME)
    assert understood.calls == (Call("timer.start", {"entity_id": "timer.egg", "duration": "00:05:00"}),)


@pytest.mark.parametrize(
    ("service", "arguments", "expected"),
    [
        ("light.turn_onn", {"entity_id": "light.kitchen"}, "did you mean light.turn_on?"),
        ("light.turn_on", {"entity_id": "light.attic"}, "light.attic: not in this home"),
        ("light.turn_on", {}, "light.turn_on: names no entity of this home"),
        ("fan.set_percentage", {"entity_id": "fan.ceiling"}, "percentage: missing; fan.set_percentage needs it"),
        ("HassStartTimer", {"name": "Egg Timer", "minutes": "five"}, "accepted: whole numbers"),
    ],
)
def test_what_cannot_be_carried_out_is_refused_in_one_line(service: str, arguments: Any, expected: str) -> None:
    understood = CLIENTS["guide"].understand(Call(service, arguments), HOME)
    assert understood.calls == () and expected in str(understood.problem)


def test_an_unknown_client_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(BadInput, match=r"--client: found home-lm; accepted: assist, .*; did you mean home-llm\?"):
        find_client("home-lm")
