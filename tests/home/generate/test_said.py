"""What people really say comes to what it means: places, delays, timers, questions about many things, mistakes."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache

import pytest

from hatrain.home.clients import CLIENTS
from hatrain.home.generate.conversation import Conversation
from hatrain.home.generate.dataset import Recipe, RowSource
from hatrain.home.generate.mistakes import mistaken
from hatrain.home.language.load import find_language, load_language

ENGLISH = load_language(find_language("english"))


@cache
def everything(client: str) -> list[tuple[Conversation, dict]]:
    source = RowSource(Recipe(("english",), client, CLIENTS[client].row_format), "train", ENGLISH)
    return [pair for index in range(3000) for pair in source.drawn(index)]


def drawn(client: str, kind: str) -> Iterator[tuple[Conversation, dict]]:
    """Yield the conversations of a kind, with their rows."""
    yield from ((conversation, row) for conversation, row in everything(client) if conversation.kind == kind)


def calls_of(conversation: Conversation) -> list[dict]:
    return [dict(call) for turn in conversation.turns for step in turn.steps for call in step.calls]


def slots_of(conversation: Conversation) -> frozenset[str]:
    return conversation.shape.slots if conversation.shape else frozenset()


def test_a_place_means_the_devices_there_and_no_others() -> None:
    seen: Counter[str] = Counter()
    for conversation, _ in drawn("assist", "implied"):
        targets = {call["target_device"] for call in calls_of(conversation)}
        home, domain = conversation.home, conversation.device_types[0]
        meant = [device for device in home.devices if device.name.entity_id in targets]
        others = [device for device in home.by_domain[domain] if device.name.entity_id not in targets]
        said = slots_of(conversation)
        if "floor" in said:
            (floor,) = {device.floor for device in meant}
            assert floor and not [other for other in others if other.floor == floor and alike(other, meant)]
            seen["floor"] += 1
        elif "here" in said:
            assert home.scene.satellite is not None
            assert {device.area for device in meant} == {home.scene.satellite.area}
            seen["here"] += 1
        elif "area" in said:
            assert len({device.name.room.base for device in meant if device.name.room}) == 1
            seen["area"] += 1
    assert min(seen[kind] for kind in ("floor", "here", "area")) > 10, seen


def alike(other, meant) -> bool:
    """Whether a request about these may mean another: its text may name a kind of them."""
    nouns = {device.name.noun.kind for device in meant}
    return other.name.noun.kind in nouns and len(nouns) == 1 and other.state["state"] == meant[0].state["state"]


def test_an_area_and_a_floor_are_one_call_of_assist() -> None:
    places: Counter[str] = Counter()
    for _, row in drawn("assist", "implied"):
        calls = [call["function"] for message in row["messages"] for call in message.get("tool_calls", ())]
        for call in calls:
            arguments = json.loads(call["arguments"])
            if "name" not in arguments:
                assert len(calls) == 1 and "domain" in arguments
                places.update(arguments.keys() & {"area", "floor", "device_class"})
    assert places["area"] > 30 and places["floor"] > 3 and places["device_class"] > 1, places


def test_everything_but_something_spares_it() -> None:
    spared: Counter[str] = Counter()
    for conversation, _ in drawn("guide", "implied"):
        _, *exception = re.split(r"\b(?:except|but not|just not)\b", conversation.turns[0].user.casefold())
        if not exception:
            continue
        targets = {call["target_device"] for call in calls_of(conversation)}
        devices = conversation.home.by_domain[conversation.device_types[0]]
        left = [device for device in devices if device.name.entity_id not in targets]
        assert left and targets
        if all(word in exception[0] for word in left[0].name.friendly.casefold().split()):
            assert len(left) == 1, (exception, left)
            spared["device"] += 1
        else:
            (room,) = {device.name.room.base for device in left if device.name.room}
            assert room.casefold() in exception[0]
            assert not [device for device in devices if device not in left and room_of(device) == room]
            spared["room"] += 1
    assert min(spared["device"], spared["room"]) > 5, spared


def room_of(device) -> str | None:
    return device.name.room.base if device.name.room else None


def test_without_a_satellite_nobody_is_here_and_no_timer_runs() -> None:
    for client in ("home-llm", "guide"):
        assert not list(drawn(client, "timers"))
    for conversation, _ in drawn("assist", "timers"):
        assert conversation.home.scene.satellite is not None


def test_a_timer_that_is_named_is_the_only_one_that_it_can_be() -> None:
    named: Counter[str] = Counter()
    for conversation, row in drawn("assist", "timers"):
        (call,) = calls_of(conversation)
        satellite = conversation.home.scene.satellite
        assert satellite is not None
        service = call.pop("service")
        if service in ("HassStartTimer", "HassCancelAllTimers"):
            continue
        fitting = list(satellite.timers)
        if "name" in call:
            fitting = [timer for timer in fitting if timer.name == call["name"]]
        if start := {key: value for key, value in call.items() if key.startswith("start_")}:
            seconds = sum(value * {"hours": 3600, "minutes": 60, "seconds": 1}[key[6:]] for key, value in start.items())
            fitting = [timer for timer in fitting if timer.seconds == seconds]
        assert len(fitting) == 1, (call, satellite)
        if service == "HassTimerStatus":
            result = next(message for message in row["messages"] if message["role"] == "tool")
            (timer,) = json.loads(result["content"][0]["text"])["speech_slots"]["timers"]
            assert timer["total_seconds_left"] == fitting[0].left
        named["start" if start else "name" if "name" in call else "any"] += 1
    assert len(named) == 3, named


def test_the_clock_is_read_where_the_prompt_does_not_say_the_time() -> None:
    for conversation, row in drawn("assist", "talk"):
        if conversation.asked:
            moment = conversation.home.scene.moment
            assert [call["service"] for call in calls_of(conversation)] == ["GetDateTime"]
            told = json.loads(next(m for m in row["messages"] if m["role"] == "tool")["content"][0]["text"])["result"]
            assert told["time"] == f"{moment:%H:%M:%S}" and told["date"] == f"{moment:%Y-%m-%d}"
            assert conversation.asked[0].value == conversation.turns[0].steps[-1].text
    for conversation, _ in drawn("guide", "talk"):
        assert calls_of(conversation) == []


def test_a_delay_is_a_timer_with_the_command_and_a_condition_is_checked() -> None:
    delayed = conditional = refused = 0
    for conversation, _ in drawn("assist", "later"):
        calls = calls_of(conversation)
        if calls and calls[0]["service"] == "HassStartTimer":
            assert calls[0]["conversation_command"].casefold() in conversation.turns[0].user.casefold()
            delayed += 1
        elif calls:
            assert calls[0]["service"] == "read"
            conditional += 1
            device = next(d for d in conversation.home.devices if d.name.entity_id == calls[0]["target_device"])
            assert (len(calls) == 2) is holds(conversation.turns[0].user, measured(device)), conversation
        else:
            refused += 1
    assert min(delayed, conditional, refused) > 3, (delayed, conditional, refused)


def measured(device) -> float:
    return device.state["value" if device.name.domain == "sensor" else "temperature"]


def holds(user: str, temperature: float) -> bool:
    """Whether what a request depends on is so: "if it's above 21 degrees"."""
    (said, limit) = re.findall(r"\b(above|over|warmer|hotter|below|under|colder|cooler)\b\D*?(\d+(?:\.\d+)?)", user)[0]
    return temperature > float(limit) if said in ("above", "over", "warmer", "hotter") else temperature < float(limit)


def test_a_question_about_many_things_names_those_that_are_so() -> None:
    named = 0
    for conversation, _ in drawn("assist", "groups"):
        (asked,) = conversation.asked
        (call, *_), answer = calls_of(conversation), conversation.turns[0].steps[-1].text
        assert call["service"] == "GetLiveContext" and call["domain"] == asked.about
        names = [device.name.friendly for device in conversation.home.devices if device.name.friendly in answer]
        said = [name for name in names if not any(name in other for other in names if other != name)]
        states = {
            device.state["state"]
            for device in conversation.home.by_domain[asked.about]
            if device.name.friendly in said and not answer.startswith("No")
        }
        assert len(states) <= 1, (conversation.turns[0].user, answer)
        named += bool(names)
        assert asked.value == answer
    assert named > 30


def test_mistakes_spare_placeholders_and_short_words() -> None:
    text = "turn on {device[the]} at {brightness[base]}s please"
    said = {
        mistaken(numbers(a / 10, b / 10, c / 10), text, {"turn": "term"})
        for a in range(10)
        for b in range(10)
        for c in range(10)
    }
    assert len(said) > 5 and text not in said
    for one in said:
        assert "{device[the]} at {brightness[base]}s" in one
        assert one.startswith(("turn on ", "term on ")) and " on " in one
    assert mistaken(numbers(0.5), "go on", {}) == "go on"


def numbers(*values: float):
    """Return a source of these numbers, over and over."""
    state = iter(values * 50)
    return lambda: next(state)


@pytest.mark.parametrize("value", [0, 21, 50, 100])
def test_numbers_are_said_in_digits_and_in_words(language_name: str, value: int) -> None:
    language = load_language(find_language(language_name))
    said = {forms["base"] for forms in language.values.wordings("percentage", value, "C")}
    assert any(str(value) in text for text in said) and any(not any(map(str.isdigit, text)) for text in said), said
