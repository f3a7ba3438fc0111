"""What Home Assistant offers through a voice satellite: timers, broadcasts, and where the user is."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from hatrain.home.calls.compare import Call
from hatrain.home.clients import CLIENTS
from hatrain.home.clients.assist import NO_TIMERS
from hatrain.home.clients.assist_tools import schemas
from hatrain.home.clients.prompt_file import PromptFile
from hatrain.home.clients.satellite_tools import SATELLITE_TOOLS
from hatrain.home.homes.scene import Satellite, SatelliteTimer, Scene
from tests.home.clients.homes import HOME

ASSIST = CLIENTS["assist"]
DOMAINS = frozenset({"light"})
KITCHEN = Satellite("Kitchen", "Ground Floor", (SatelliteTimer(600, 275, "Pizza"), SatelliteTimer(5400, 3100)))
SCENE = Scene("Be kind.", datetime(2024, 3, 15), (), "en", {"devices": "Devices:"}, lambda moment: "March")


def happens(tool: str, **arguments: Any) -> str:
    understood = ASSIST.understand(Call(tool, arguments), HOME)
    assert understood.problem is None, understood.problem
    assert understood.calls == ()
    (event,) = understood.events
    return str(event)


def test_timers_and_broadcasts_are_offered_through_a_satellite_alone() -> None:
    without = [tool["function"]["name"] for tool in schemas(DOMAINS)]
    through = [tool["function"]["name"] for tool in schemas(DOMAINS, True)]
    assert set(through) - set(without) == set(SATELLITE_TOOLS)
    assert {"HassStartTimer", "HassTimerStatus", "HassCancelAllTimers", "HassBroadcast"} <= set(through)
    for client in ("assist", "home-llm"):
        assert len(CLIENTS[client].tools(DOMAINS, True)) - len(CLIENTS[client].tools(DOMAINS)) == 9
    for client in ("guide", "home-llm-legacy"):
        assert CLIENTS[client].tools(DOMAINS, True) == CLIENTS[client].tools(DOMAINS)


def test_only_clients_of_the_assist_api_write_calls_without_a_device() -> None:
    for name, client in CLIENTS.items():
        assert client.offers("HassStartTimer", ("minutes",)) is (name == "assist")
        assert client.offers("HassBroadcast", ("message",)) is (name == "assist")
        assert client.states_for("HassStartTimer", ("minutes",)) == frozenset()


def test_a_timers_schema_asks_for_one_unit_of_time_and_accepts_all() -> None:
    by_name = {tool["function"]["name"]: tool["function"]["parameters"] for tool in schemas(DOMAINS, True)}
    start = by_name["HassStartTimer"]
    assert list(start["properties"]) == ["hours", "minutes", "seconds", "name", "conversation_command"]
    assert start["anyOf"] == [{"required": ["hours"]}, {"required": ["minutes"]}, {"required": ["seconds"]}]
    assert by_name["HassBroadcast"]["required"] == ["message"]
    finding = {"start_hours", "start_minutes", "start_seconds", "name", "area"}
    assert set(by_name["HassTimerStatus"]["properties"]) == finding
    assert set(by_name["HassIncreaseTimer"]["properties"]) == {"hours", "minutes", "seconds", *finding}
    assert list(by_name["HassCancelAllTimers"]["properties"]) == ["area"]


@pytest.mark.parametrize(
    ("tool", "arguments", "expected"),
    [
        ("HassStartTimer", {"minutes": 5}, "start timer (duration 300)"),
        ("HassStartTimer", {"hours": "1", "minutes": 30, "name": "Roast"}, "start timer (duration 5400, name roast)"),
        ("HassStartTimer", {"seconds": 20, "name": " "}, "start timer (duration 20)"),
        ("HassIncreaseTimer", {"minutes": 2, "name": "Tea"}, "increase timer (duration 120, name tea)"),
        ("HassDecreaseTimer", {"seconds": 90, "start_minutes": 10}, "decrease timer (duration 90, started with 600)"),
        ("HassCancelTimer", {}, "cancel timer"),
        ("HassPauseTimer", {"area": "Kitchen"}, "pause timer (area kitchen)"),
        ("HassUnpauseTimer", {"start_hours": 1}, "unpause timer (started with 3600)"),
        ("HassCancelAllTimers", {}, "cancel all timers"),
        ("HassBroadcast", {"message": "Dinner is ready!"}, "broadcast (message dinner is ready)"),
    ],
)
def test_a_call_means_what_happens_in_the_house(tool: str, arguments: Any, expected: str) -> None:
    assert happens(tool, **arguments) == expected


@pytest.mark.parametrize(
    ("tool", "arguments", "expected"),
    [
        ("HassStartTimer", {"name": "tea"}, "hours: missing; HassStartTimer needs one of hours, minutes, seconds"),
        ("HassDecreaseTimer", {}, "needs one of hours, minutes, seconds"),
        ("HassStartTimer", {"minutes": -1}, "minutes: found -1, which HassStartTimer refuses"),
        ("HassStartTimer", {"minutes": "five"}, "minutes: found 'five'"),
        ("HassStartTimer", {"minutes": True}, "minutes: found True"),
        ("HassStartTimer", {"duration": "00:05:00"}, "duration: not an argument of HassStartTimer; accepted: hours"),
        ("HassCancelAllTimers", {"name": "tea"}, "name: not an argument of HassCancelAllTimers; accepted: area"),
        ("HassBroadcast", {}, "message: missing; HassBroadcast needs it"),
        ("HassBroadcast", {"message": " "}, "message: found ' '"),
        ("HassStratTimer", {"minutes": 5}, "no tool of Home Assistant; did you mean HassStartTimer?"),
    ],
)
def test_what_a_timer_cannot_take_is_refused_in_one_line(tool: str, arguments: Any, expected: str) -> None:
    understood = ASSIST.understand(Call(tool, arguments), HOME)
    assert understood.events == understood.read == ()
    assert expected in str(understood.problem) and "\n" not in str(understood.problem)


def test_asking_how_much_time_is_left_changes_nothing() -> None:
    understood = ASSIST.understand(Call("HassTimerStatus", {"name": "Pizza"}), HOME)
    assert (understood.calls, understood.events, understood.problem) == ((), (), None)
    assert understood.read == ("timers (name pizza)",)


@pytest.mark.parametrize("client", ["assist"])
def test_a_drawn_call_without_a_device_is_written_as_it_is(client: str) -> None:
    drawn = [
        {"service": "HassStartTimer", "minutes": 5, "name": "tea"},
        {"service": "light.turn_off", "target_device": "light.bedroom"},
    ]
    assert CLIENTS[client].tool_calls(drawn, HOME, True) == [
        Call("HassStartTimer", {"minutes": 5, "name": "tea"}),
        Call("HassTurnOff", {"name": "Bedroom Lamp", "domain": ["light"]}),
    ]


def test_a_timer_that_starts_is_answered_as_done_with_no_target() -> None:
    result = ASSIST.result(Call("HassStartTimer", {"minutes": 5}), HOME, "", KITCHEN)
    assert result == {
        "speech": {},
        "response_type": "action_done",
        "data": {"targets": [], "success": [], "failed": []},
    }
    error = ASSIST.result(Call("HassCancelTimer", {"name": "tea"}), HOME, "No such timer.", KITCHEN)
    assert error == {"error": "TimerNotFoundError", "error_text": "Timer not found"}


def left(**arguments: Any) -> list[tuple[str, int]]:
    result = ASSIST.result(Call("HassTimerStatus", arguments), HOME, "", KITCHEN)
    return [(timer["name"], timer["total_seconds_left"]) for timer in result["speech_slots"]["timers"]]


def test_the_status_of_timers_is_that_of_those_asked_about() -> None:
    assert left() == [("Pizza", 275), ("", 3100)]
    assert left(name="pizza") == left(start_minutes=10) == left(start_seconds=600) == [("Pizza", 275)]
    assert left(start_hours=1, start_minutes=30) == [("", 3100)]
    assert left(name="tea") == left(area="Bedroom") == []
    assert len(left(area="kitchen")) == 2


def test_a_status_has_the_time_in_units_and_rounded() -> None:
    result = ASSIST.result(Call("HassTimerStatus", {"name": "Pizza"}), HOME, "", KITCHEN)
    (timer,) = result["speech_slots"]["timers"]
    assert (timer["start_hours"], timer["start_minutes"], timer["start_seconds"]) == (0, 10, 0)
    assert (timer["hours_left"], timer["minutes_left"], timer["seconds_left"]) == (0, 4, 35)
    assert (timer["rounded_minutes_left"], timer["rounded_seconds_left"]) == (4, 30)
    assert timer["is_active"] is True


@pytest.mark.parametrize(
    ("seconds", "rounded"),
    [(9, (0, 0, 9)), (38, (0, 0, 30)), (55, (0, 1, 0)), (110, (0, 2, 0)), (64, (0, 1, 0)), (6900, (2, 0, 0)),
     (5000, (1, 30, 0)), (4000, (1, 0, 0))],
)  # fmt: skip
def test_the_time_that_is_left_is_rounded_as_it_is_told(seconds: int, rounded: tuple[int, int, int]) -> None:
    satellite = Satellite("Den", timers=(SatelliteTimer(7200, seconds),))
    result = ASSIST.result(Call("HassTimerStatus", {}), HOME, "", satellite)
    (timer,) = result["speech_slots"]["timers"]
    assert tuple(timer[f"rounded_{unit}_left"] for unit in ("hours", "minutes", "seconds")) == rounded


def test_cancelling_all_timers_says_how_many_there_were() -> None:
    result = ASSIST.result(Call("HassCancelAllTimers", {}), HOME, "", KITCHEN)
    assert result["speech_slots"] == {"canceled": 2}
    result = ASSIST.result(Call("HassCancelAllTimers", {"area": "Bedroom"}), HOME, "", KITCHEN)
    assert result["speech_slots"] == {"canceled": 0, "area": "Bedroom"}


@pytest.mark.parametrize("client", ["assist"])
def test_the_prompt_says_where_the_satellite_is(client: str) -> None:
    prompt = CLIENTS[client].prompt(replace(SCENE, satellite=KITCHEN))
    assert "The user is in the area Kitchen on the floor Ground Floor." in prompt
    assert "in the area Den. A command" in CLIENTS[client].prompt(replace(SCENE, satellite=Satellite("Den")))
    assert NO_TIMERS not in prompt


def test_the_instructions_of_a_user_are_followed_by_where_the_satellite_is(tmp_path: Path) -> None:
    path = tmp_path / "prompt.jinja"
    path.write_text("Be brief.", encoding="utf-8")
    prompt = PromptFile.read(path, ASSIST).write(replace(SCENE, satellite=KITCHEN))
    assert prompt.startswith("Be brief.\n") and "The user is in the area Kitchen" in prompt


def test_without_a_satellite_the_prompt_says_that_there_are_no_timers() -> None:
    assert NO_TIMERS in ASSIST.prompt(SCENE)
    for client in CLIENTS.values():
        if client.name != "guide":
            assert "The user is in" not in client.prompt(SCENE)
