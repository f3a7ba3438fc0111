"""What holds for every generated row, in every language, on both sides of the split."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hatrain.home.devices.actions import ACTIONS
from hatrain.home.devices.services import DOMAINS, SERVICES, call_problems
from hatrain.home.generate.conversations import KIND_SHARES
from hatrain.home.generate.dataset import Recipe
from hatrain.home.language.load import find_language, load_language

Rows = Callable[..., list[dict[str, Any]]]
DEVICE = re.compile(r"^([a-z_]+\.\w+) '(.*?)' = (.*)$", re.MULTILINE)
FENCE = re.compile(r"\n```homeassistant\n(.*)\n```\Z", re.DOTALL)
NO_CALLS = {"status", "groups", "talk", "missing", "already"}


def calls_in(answer: str) -> list[dict[str, Any]]:
    fence = FENCE.search(answer)
    return [json.loads(line) for line in fence[1].splitlines()] if fence else []


def turns(row: dict[str, Any], role: str) -> list[str]:
    return [turn["value"] for turn in row["conversations"] if turn["from"] == role]


def both_sides(make_rows: Rows, language: str) -> Iterator[dict[str, Any]]:
    recipe = Recipe((language,))
    yield from make_rows(recipe, "train", 2048)
    yield from make_rows(recipe, "test", 2500)


def test_every_placeholder_is_filled(make_rows: Rows, language_name: str) -> None:
    for row in both_sides(make_rows, language_name):
        for turn in row["conversations"]:
            text = FENCE.sub("", turn["value"])
            assert not re.search(r"[{}<>]|\[\w+\]|  | [.,?!]|^\s|\s$|None", text), text


def test_every_call_can_be_executed_in_its_home(make_rows: Rows, language_name: str) -> None:
    for row in both_sides(make_rows, language_name):
        entity_ids = [entity_id for entity_id, _, _ in DEVICE.findall(turns(row, "system")[0])]
        for answer in turns(row, "gpt"):
            for call in calls_in(answer):
                assert not call_problems(call, entity_ids), (call, entity_ids)


def test_requests_have_calls_and_questions_and_refusals_have_none(make_rows: Rows, language_name: str) -> None:
    for row in both_sides(make_rows, language_name):
        calls = [calls_in(answer) for answer in turns(row, "gpt")]
        if row["kind"] in NO_CALLS:
            assert calls == [[]], row
        elif row["kind"] != "later":  # which may ask for what nobody can do, or what is not so
            assert all(calls), row


def test_every_kind_of_request_and_every_action_occurs(make_rows: Rows, language_name: str) -> None:
    rows = list(both_sides(make_rows, language_name))
    kinds = Counter(row["kind"] for row in rows)
    assert set(kinds) == set(KIND_SHARES) - {"timers"}, "the guide knows no satellite"
    assert all(count > len(rows) / 200 for count in kinds.values()), kinds
    services = {call["service"] for row in rows for answer in turns(row, "gpt") for call in calls_in(answer)}
    assert services == {action.service for action in ACTIONS.values()}
    assert {*DOMAINS, "none"} == {domain for row in rows for domain in row["device_types"]}


def test_a_home_has_2_to_32_devices_with_different_names(make_rows: Rows, language_name: str) -> None:
    sizes = set()
    for row in both_sides(make_rows, language_name):
        devices = DEVICE.findall(turns(row, "system")[0])
        sizes.add(len(devices))
        assert len({entity_id for entity_id, _, _ in devices}) == len(devices)
        assert len({name.casefold() for _, name, _ in devices}) == len(devices)
    assert min(sizes) == 2 and max(sizes) == 32


def test_no_two_devices_of_a_room_are_alike(make_rows: Rows, language_name: str) -> None:
    language = load_language(find_language(language_name))
    rooms = {name.entity_id: name.room.base if name.room else None for name in language.names}
    nouns = {name.entity_id: name.noun.base for name in language.names if name.noun}
    for row in make_rows(Recipe((language_name,)), "train", 2048)[:1500]:
        devices = [entity_id for entity_id, _, _ in DEVICE.findall(turns(row, "system")[0])]
        placed: dict[str | None, list[str]] = {}
        for entity_id in devices:
            placed.setdefault(rooms[entity_id], []).append(nouns[entity_id])
        placed.pop(None, None)
        for found in placed.values():
            for index, noun in enumerate(found):
                assert language.alike[noun].isdisjoint(found[:index] + found[index + 1 :]), (row, found)


def test_the_prompt_lists_the_services_of_its_devices_sorted(make_rows: Rows, language_name: str) -> None:
    label = load_language(find_language(language_name)).labels["services"]
    for row in make_rows(Recipe((language_name,)), "test", 2500)[:500]:
        prompt = turns(row, "system")[0]
        line = next(line for line in prompt.splitlines() if line.startswith(f"{label} "))
        listed = re.findall(r"([a-z_]+\.[a-z_]+)\(", line)
        domains = {entity_id.partition(".")[0] for entity_id, _, _ in DEVICE.findall(prompt)}
        assert listed == sorted(name for name in SERVICES if name.partition(".")[0] in domains)


def test_a_request_that_is_carried_out_changes_a_state(make_rows: Rows) -> None:
    opposite = {
        "light.turn_on": "off",
        "light.turn_off": "on",
        "lock.lock": "unlocked",
        "lock.unlock": "locked",
    }
    seen = Counter()
    for row in both_sides(make_rows, "english"):
        states = {entity_id: state.split(";")[0] for entity_id, _, state in DEVICE.findall(turns(row, "system")[0])}
        if row["kind"] != "action":
            continue
        (call,) = calls_in(turns(row, "gpt")[0])
        if call["service"] in opposite:
            seen[call["service"]] += 1
            assert states[call["target_device"]] == opposite[call["service"]], row
    assert len(seen) == len(opposite)


def test_a_device_that_is_called_missing_is_not_in_the_home(make_rows: Rows) -> None:
    language = load_language(find_language("english"))
    known = sorted((name.friendly.lower() for name in language.names), key=len, reverse=True)
    for row in both_sides(make_rows, "english"):
        if row["kind"] == "missing":
            answer = turns(row, "gpt")[0].lower()
            named = next((name for name in known if name in answer), None)
            names = [name.lower() for _, name, _ in DEVICE.findall(turns(row, "system")[0])]
            assert named not in names, row


def test_names_and_prompts_are_those_of_the_rows_language(make_rows: Rows, language_name: str) -> None:
    language = load_language(find_language(language_name))
    names = {name.friendly for name in language.names}
    openings = tuple(text for texts in language.prompts.values() for text in texts)
    for row in both_sides(make_rows, language_name):
        assert row["language"] == language.code
        prompt = turns(row, "system")[0]
        assert prompt.startswith(openings)
        assert f"\n{language.labels['devices']}\n" in prompt
        assert {name for _, name, _ in DEVICE.findall(prompt)} <= names


def test_several_languages_are_shuffled_together(make_rows: Rows) -> None:
    from tests.home.conftest import LANGUAGES

    recipe = Recipe(tuple(LANGUAGES))
    rows = make_rows(recipe, "test", 512)
    codes = Counter(row["language"] for row in rows)
    assert set(codes) == {load_language(find_language(name)).code for name in LANGUAGES}
    even = len(rows) / len(LANGUAGES)
    assert all(0.6 * even < count < 1.4 * even for count in codes.values()), codes


def test_rows_of_one_home_stand_together_and_share_its_prompt_and_name(make_rows: Rows) -> None:
    rows = make_rows(Recipe(requests_per_home=7), "test", 512)
    homes = [row["home"] for row in rows]
    runs = [home for index, home in enumerate(homes) if index == 0 or homes[index - 1] != home]
    assert len(runs) == len(set(runs)) > 100
    prompts: dict[str, set[str]] = {}
    for row in rows:
        prompts.setdefault(row["home"], set()).add(turns(row, "system")[0])
    assert all(len(found) == 1 for found in prompts.values())
    assert len({found.pop() for found in prompts.values()}) == len(prompts)
    assert len(rows) == 2500
    assert len({(row["home"], turns(row, "human")[0]) for row in rows}) > 2300


@pytest.mark.parametrize("role", ["none", "merged"])
def test_without_a_system_role_the_prompt_comes_before_the_request(make_rows: Rows, role: Any) -> None:
    usual = make_rows(Recipe(), "test", 256)
    rows = make_rows(Recipe(system_role=role), "test", 256)
    for row, plain in zip(rows, usual, strict=True):
        prompt = turns(plain, "system")[0] + "\nUser instruction:"
        if role == "none":
            assert turns(row, "system") == []
            assert turns(row, "human")[0] == f"{prompt}\n{turns(plain, 'human')[0]}"
        else:
            assert turns(row, "system") == [prompt]
            assert turns(row, "human") == turns(plain, "human")
        assert turns(row, "gpt") == turns(plain, "gpt")


@pytest.mark.long
def test_complete_files_hold_valid_calls_and_no_placeholder(make_rows: Rows, language_name: str) -> None:
    rows = make_rows(Recipe((language_name,), size="xl"), "train", 55_000)
    assert len(rows) == 55_000
    for row in rows:
        entity_ids = [entity_id for entity_id, _, _ in DEVICE.findall(turns(row, "system")[0])]
        for answer in turns(row, "gpt"):
            assert not re.search(r"[{}<>]|\[\w+\]|  ", FENCE.sub("", answer)), answer
            assert not [problem for call in calls_in(answer) for problem in call_problems(call, entity_ids)]
