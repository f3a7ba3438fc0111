"""Preference pairs: the chosen answer is right; the rejected one has one error, and never does the same."""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from hatrain.home.calls.answer import Answer, read_answer, read_message
from hatrain.home.calls.prompt import PromptContents
from hatrain.home.generate.dataset import Recipe
from hatrain.home.judge.asked import read_asked
from hatrain.home.judge.devices import read_devices
from hatrain.home.judge.effects import effects
from hatrain.home.judge.judge import Case, judge
from hatrain.home.simulation.house import differences

Rows = Callable[..., list[dict[str, Any]]]

IN_WORDS = {"lie", "false_claim", "false_refusal", "wrong_language", "call_for_another", "call_for_nothing"}
IN_CALLS = {
    "wrong_device", "wrong_service", "wrong_value", "missing_call", "spurious_call", "hallucinated_name",
    "call_for_a_question", "undoing_call",
}  # fmt: skip
CLIENTS = ["guide", "assist", "home-llm", "home-llm-legacy"]
HOMES = 256


def answer_of(side: Any) -> Answer:
    if isinstance(side, str):
        return read_answer(side)
    (message,) = side
    calls = [
        {"function": {"name": call["function"]["name"], "arguments": json.loads(call["function"]["arguments"])}}
        for call in message.get("tool_calls", ())
    ]
    return read_message("".join(part["text"] for part in message["content"]), calls)


def case_of(row: dict[str, Any]) -> Case:
    return Case(
        answer_of(row["chosen"]),
        PromptContents(read_devices(row["devices"], "row") or ()),
        row["client"],
        row["language"],
        row["kind"],
        read_asked(row.get("asked"), "row"),
        tuple(row["device_types"]),
    )


@pytest.fixture(params=CLIENTS)
def rows(request: pytest.FixtureRequest, make_rows: Rows) -> list[dict[str, Any]]:
    return make_rows(Recipe(client=request.param), "dpo", HOMES)


def test_rejected_answers_have_every_error(make_rows: Rows) -> None:
    errors = Counter(row["error"] for row in make_rows(Recipe(), "dpo", 1024))
    assert errors.keys() == IN_WORDS | IN_CALLS
    assert min(errors.values()) >= 3, errors


def test_the_chosen_answer_is_right(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        judged = judge(case_of(row), answer_of(row["chosen"]))
        assert judged.strict, (row["chosen"], judged.problems)


def test_no_rejected_answer_does_the_same_as_the_chosen_one(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        case, rejected = case_of(row), answer_of(row["rejected"])
        due, found = (
            effects(answer.calls, case.known.devices, case.understand) for answer in (case.expected, rejected)
        )
        differs = bool(differences(due.end, found.end)) or bool(found.failed)
        assert differs or not (case.expected.calls or rejected.calls), (row["chosen"], row["rejected"])
        assert differs or case.expected.text != rejected.text


def test_the_words_differ_where_the_error_is_in_them(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        chosen, rejected = answer_of(row["chosen"]), answer_of(row["rejected"])
        # Where calls are messages of their own, the words come after them.
        if row["error"] in IN_WORDS and (rejected.text or isinstance(row["chosen"], str)):
            assert chosen.text != rejected.text
        elif row["error"] in IN_CALLS and isinstance(row["chosen"], str):
            assert chosen.text == rejected.text


def test_a_lie_about_what_is_asked_is_judged_wrong(rows: list[dict[str, Any]]) -> None:
    lies = [row for row in rows if row["error"] == "lie" and row.get("asked")]
    assert len(lies) >= 10
    assert all(judge(case_of(row), answer_of(row["rejected"])).questions for row in lies)
    assert not [row for row in lies if judge(case_of(row), answer_of(row["rejected"])).answered]


def test_what_cannot_be_done_is_not_said_to_be_done(rows: list[dict[str, Any]]) -> None:
    claims = [row for row in rows if row["error"] in ("false_claim", "call_for_another", "call_for_nothing")]
    assert len(claims) >= 10
    assert not [row for row in claims if judge(case_of(row), answer_of(row["rejected"])).strict]


def test_a_wrong_device_is_near_the_one_that_was_meant(make_rows: Rows) -> None:
    near = Counter()
    for row in make_rows(Recipe(), "dpo", 1024):
        if row["error"] != "wrong_device":
            continue
        chosen, rejected = answer_of(row["chosen"]), answer_of(row["rejected"])
        ((right, wrong),) = [pair for pair in zip(chosen.calls, rejected.calls, strict=True) if pair[0] != pair[1]]
        assert right.service == wrong.service
        assert right.targets()[0].partition(".")[0] == wrong.targets()[0].partition(".")[0]
        near[wrong.targets()[0] in {device["entity_id"] for device in row["devices"]}] += 1
    assert near[True] > 60 and not near[False]


def test_another_language_is_another_language(make_rows: Rows) -> None:
    rows = make_rows(Recipe(languages=("polish",)), "dpo", 512)
    # The device of a `missing` row is not among its devices, whose names are Polish.
    foreign = [row for row in rows if row["error"] == "wrong_language" and row["kind"] != "missing"]
    assert len(foreign) >= 10
    letters = set("ąćęłńóśźż")
    names = {row["rejected"]: " ".join(device["name"] for device in row["devices"]).casefold() for row in foreign}
    for text, known in names.items():
        words = [word for word in text.casefold().split() if word.strip(".,!?:'’") not in known]
        assert not letters & set("".join(words)), text
