"""Rates come with their counts and an honest interval; groups add up; failures are told in full."""

import json

import pytest

from hatrain.evaluate.interval import wilson_interval
from hatrain.evaluate.requests import Request
from hatrain.evaluate.results import Evaluation, Outcome, in_words
from hatrain.home.calls.answer import KNOWN_FORMS, read_answer
from hatrain.home.calls.prompt import PromptContents
from hatrain.home.devices.entity import Entity
from hatrain.home.judge.asked import Asked
from hatrain.home.judge.judge import AFTER_A_CALL, Case, judge

ON = '```homeassistant\n{"service": "light.turn_on", "target_device": "light.kitchen"}\n```'
KNOWN = PromptContents((Entity("light.kitchen", "Kitchen", "off"),), frozenset({"light.turn_on"}))
ALREADY_ON = PromptContents((Entity("light.kitchen", "Kitchen", "on"),), frozenset({"light.turn_on"}))


def outcome(
    expected: str,
    said: str,
    *,
    text="Turn it on.",
    known=KNOWN,
    language="english",
    kind="action",
    devices=("light",),
    ended=True,
    asked=(),
    **more,
) -> Outcome:
    request = Request(
        where="rows.jsonl:1",
        turn=1,
        user_text=text,
        prompt="…",
        reply=expected,
        case=Case(read_answer(expected), known, None, language, kind, asked),
        forms=KNOWN_FORMS,
        device_types=devices,
        **more,
    )
    answer = read_answer(said, ended=ended)
    return Outcome(request, said, answer, 10, judge(request.case, answer))


def outcome_of(other: Outcome, said: str) -> Outcome:
    """Another answer to a request."""
    answer = read_answer(said)
    return Outcome(other.request, said, answer, 10, judge(other.request.case, answer))


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
    # The same words in the same home come three times with a call and twice without: (3 + 2)² / (9 + 4) requests.
    assert figures["strict_interval"] == list(wilson_interval(2 / 5 * 25 / 13, 25 / 13))
    assert figures["compatible_accuracy"] == 2 / 5
    assert figures["valid_json_rate"] == 1
    assert figures["known_entity_rate"] == 2 / 3
    assert figures["known_service_rate"] == 1
    assert figures["refusal_accuracy"] == 1 / 2
    assert figures["generated_tokens_per_second"] == 25
    assert figures["complete"] is True


def test_the_headline_is_over_the_requests_that_need_a_call():
    figures = EVALUATION.to_dict()
    assert (figures["call_requests"], figures["different_call_requests"]) == (3, 1)
    assert figures["call_accuracy"] == EVALUATION.call_accuracy == 1 / 3
    assert figures["call_interval"] == list(wilson_interval(1 / 3, 1))
    assert figures["counts"]["with_a_call"] == {"right": 1, "total": 3, "different": 1, "effective": 1.0}
    assert in_words(EVALUATION.score) == (
        "accuracy 0.333 on 3 requests that need a call (1 different, 95% 0.025-0.906); "
        "strict accuracy 0.400 on all 5, at most 0.400 without a call"
    )


def test_a_model_that_never_calls_has_at_most_the_share_of_requests_that_need_none():
    requests = [*EVALUATION.outcomes, outcome(ON, ON, known=ALREADY_ON)]
    silent = Evaluation(tuple(outcome_of(each, "No.") for each in requests), requests=6, seconds=1.0)
    figures = silent.to_dict()
    # The lamp of the last one is on already: its expected call changes nothing, so none is needed.
    assert (figures["call_requests"], figures["call_accuracy"]) == (3, 0)
    assert figures["strict_accuracy"] == figures["no_call_share"] == 3 / 6


def test_a_dataset_that_needs_no_call_has_no_headline():
    silent = Evaluation((outcome("No.", "No."),), requests=1, seconds=1.0)
    figures = silent.to_dict()
    assert (figures["call_accuracy"], figures["call_interval"], figures["no_call_share"]) == (None, [0.0, 1.0], 1)
    assert in_words(silent.score) == "no request needs a call; strict accuracy 1.000 on 1"
    assert Evaluation((), requests=0, seconds=0.0).to_dict()["no_call_share"] is None


def test_a_request_that_comes_again_does_not_narrow_the_interval():
    once = (outcome(ON, ON), outcome(ON, "Sure.", text="Light!"))
    thrice = Evaluation(once * 3, requests=6, seconds=1.0)
    assert thrice.call_accuracy == 1 / 2
    assert thrice.score.with_a_call.interval == Evaluation(once, requests=2, seconds=1.0).score.with_a_call.interval


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (outcome(ON, ON, text="turn  it ON."), True),
        (outcome(ON, ON, text="The devices: …\nTurn it on."), True),
        (outcome(ON, ON, known=ALREADY_ON), True),
        (outcome(ON, ON, text="Light, please."), False),
        (outcome(ON.replace("turn_on", "toggle"), ON), False),
        (outcome("It is off.", "No.", asked=(Asked("light.kitchen", "state", "off"),)), False),
    ],
)
def test_a_request_is_the_same_with_the_same_words_calls_and_answers(other, same):
    assert (outcome(ON, ON).request.same_as == other.request.same_as) is same


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
    assert (told["call_accuracy"], told["call_requests"]) == (0, 1)


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
