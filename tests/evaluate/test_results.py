"""Rates come with their counts and an honest interval; groups add up; failures are told in full."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatrain.evaluate.requests import Request
from hatrain.evaluate.results import Evaluation, Outcome, wilson_interval
from hatrain.home.calls.answer import KNOWN_FORMS, read_answer
from hatrain.home.calls.prompt import PromptContents
from hatrain.home.devices.entity import Entity
from hatrain.home.judge.asked import Asked
from hatrain.home.judge.judge import AFTER_A_CALL, Case, judge

ON = '```homeassistant\n{"service": "light.turn_on", "target_device": "light.kitchen"}\n```'
KNOWN = PromptContents((Entity("light.kitchen", "Kitchen", "off"),), frozenset({"light.turn_on"}))

# Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17 (1998), table I,
# method 3 (the score method without continuity correction).
PUBLISHED = [
    (81, 263, 0.2553, 0.3662),
    (15, 148, 0.0624, 0.1605),
    (0, 20, 0.0000, 0.1611),
    (1, 29, 0.0061, 0.1718),
]


@pytest.mark.parametrize(("hits", "total", "low", "high"), PUBLISHED)
def test_intervals_are_the_published_ones(hits, total, low, high):
    assert wilson_interval(hits, total) == pytest.approx((low, high), abs=5e-5)


def test_the_interval_of_a_total_of_zero_is_everything():
    assert wilson_interval(0, 0) == (0.0, 1.0)


@given(st.integers(1, 10_000), st.data())
def test_an_interval_contains_its_share_and_is_symmetric(total, data):
    hits = data.draw(st.integers(0, total))
    low, high = wilson_interval(hits, total)
    assert 0 <= low <= hits / total <= high <= 1
    assert low < high
    mirrored = wilson_interval(total - hits, total)
    assert math.isclose(low, 1 - mirrored[1], abs_tol=1e-12)


def outcome(
    expected: str, said: str, *, language="english", kind="action", devices=("light",), ended=True, asked=(), **more
) -> Outcome:
    request = Request(
        where="rows.jsonl:1",
        turn=1,
        user_text="Turn it on.",
        prompt="…",
        reply=expected,
        case=Case(read_answer(expected), KNOWN, None, language, kind, asked),
        forms=KNOWN_FORMS,
        device_types=devices,
        **more,
    )
    answer = read_answer(said, ended=ended)
    return Outcome(request, said, answer, 10, judge(request.case, answer))


EVALUATION = Evaluation(
    (
        outcome(ON, ON),
        outcome(ON, "Sure.", language="german", devices=("light", "fan")),
        outcome("No.", "Sorry, no.", kind="refusal", devices=("fan",)),
        outcome("No.", ON, kind="refusal", language="german"),
        outcome(ON, ON.replace("kitchen", "hall")),
    ),
    requests=5,
    seconds=2.0,
)


def test_figures_are_shares_of_the_judged_requests():
    figures = EVALUATION.to_dict()
    assert figures["requests"] == 5
    assert figures["strict_accuracy"] == EVALUATION.strict_accuracy == 2 / 5
    assert figures["strict_interval"] == list(wilson_interval(2, 5))
    assert figures["compatible_accuracy"] == 2 / 5
    assert figures["valid_json_rate"] == 1
    assert figures["known_entity_rate"] == 2 / 3
    assert figures["known_service_rate"] == 1
    assert figures["refusal_accuracy"] == 1 / 2
    assert figures["generated_tokens_per_second"] == 25
    assert figures["complete"] is True


def test_a_rate_over_no_cases_is_null_not_zero():
    silent = Evaluation((outcome("No.", "No."),), requests=1, seconds=1.0).to_dict()
    assert silent["valid_json_rate"] is silent["known_entity_rate"] is silent["known_service_rate"] is None
    assert silent["refusal_accuracy"] == 1


def test_questions_calls_and_refusals_are_reported_beside_strict():
    asked = (Asked("light.kitchen", "state", "off"),)
    figures = Evaluation(
        (
            outcome("It is off.", "The light is off.", kind="status", asked=asked),
            outcome("It is off.", "The light is on.", kind="status", asked=asked),
            outcome("There is no such lamp.", "Done, I turned it on.", kind="missing"),
            outcome(ON, ON),
            outcome(ON, ON.replace("kitchen", "hall")),
        ),
        requests=5,
        seconds=1.0,
    ).to_dict()
    assert figures["answered_accuracy"] == 1 / 2
    assert figures["executed_rate"] == 1 / 2
    assert figures["refusal_accuracy"] == 0
    assert figures["strict_accuracy"] == 2 / 5
    assert figures["same_calls_accuracy"] == 4 / 5
    assert (figures["counts"]["questions"], figures["counts"]["refusals_due"]) == (2, 1)


def test_requests_that_generated_data_covers_are_reported_apart():
    rows = Evaluation((outcome(ON, ON, covered=True), outcome(ON, "Sure.", covered=False)), requests=2, seconds=1.0)
    told = rows.to_dict()["by_coverage"]
    assert [(name, score["strict_accuracy"]) for name, score in told.items()] == [
        ("covered by generated data", 1),
        ("not covered", 0),
    ]
    assert EVALUATION.by_coverage() == {}


def test_groups_have_their_own_figures_and_a_request_counts_for_each_of_its_device_types():
    assert {name: score.requests for name, score in EVALUATION.by_language().items()} == {
        "english": 3,
        "german": 2,
    }
    assert {name: score.strict_accuracy for name, score in EVALUATION.by_kind().items()} == {
        "action": 1 / 3,
        "refusal": 1 / 2,
    }
    assert {name: score.requests for name, score in EVALUATION.by_device_type().items()} == {
        "fan": 2,
        "light": 4,
    }
    told = EVALUATION.to_dict()["by_language"]["german"]
    assert (told["strict_accuracy"], told["strict_interval"]) == (0, list(wilson_interval(0, 2)))


def test_a_turn_after_a_tool_result_is_in_no_figure_but_its_kind():
    word = outcome("It is on now.", "Done!", kind=AFTER_A_CALL)
    with_word = Evaluation((*EVALUATION.outcomes, word), requests=6, seconds=1.0)
    assert with_word.score == EVALUATION.score
    assert with_word.by_language() == EVALUATION.by_language()
    assert with_word.by_kind()[AFTER_A_CALL].strict_accuracy == 1
    assert with_word.complete


def test_a_status_question_is_no_refusal():
    asked = Evaluation((outcome("It is on.", "Yes.", kind="status"),), requests=1, seconds=1.0)
    assert asked.to_dict()["refusal_accuracy"] is None


def test_a_stopped_evaluation_is_not_complete():
    part = Evaluation(EVALUATION.outcomes[:2], requests=5, seconds=1.0)
    assert not part.complete
    assert part.to_dict()["complete"] is False
    assert Evaluation((), requests=5, seconds=0.0).to_dict()["strict_accuracy"] is None


def test_failures_are_written_in_full():
    failures = EVALUATION.failures()
    assert [failure["problems"][0] for failure in failures] == [
        "light.kitchen: state is off, should be on",
        "light.kitchen: state is on, should be off",
        'cannot be carried out: {"service": "light.turn_on", "target_device": "light.hall"}: '
        "light.hall: not in this home; did you mean light.kitchen?",
    ]
    first = failures[0]
    assert (first["expected"], first["answer"], first["request"]) == (ON, "Sure.", "Turn it on.")
    assert first["where"] == "rows.jsonl:1"
    assert json.loads(json.dumps(failures)) == failures


def test_everything_can_be_written_as_json():
    assert json.loads(json.dumps(EVALUATION.to_dict())) == EVALUATION.to_dict()
