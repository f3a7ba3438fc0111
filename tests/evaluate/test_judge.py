"""The judge: strict by what would be done, compatible by the community's counting; zero for silence and noise."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatrain.home.calls.compare import Call
from hatrain.home.calls.judge import Answer, PromptContents, in_words, judge, knows_entities
from hatrain.home.calls.parse import read_answer
from hatrain.home.devices.services import SERVICES

KNOWN = PromptContents({"light.kitchen": "Kitchen Light", "fan.attic": "Attic Fan"}, frozenset({"light.turn_on"}))


def fence(*calls: dict | str, text: str = "Sure.") -> str:
    lines = [call if isinstance(call, str) else json.dumps(call) for call in calls]
    return "\n".join([text, "```homeassistant", *lines, "```"])


def on(target: str = "light.kitchen", **arguments: object) -> dict:
    return {"service": "light.turn_on", "target_device": target, **arguments}


def verdict(expected: str, said: str, *, ended: bool = True, known: PromptContents = KNOWN):
    return judge(read_answer(expected), read_answer(said, ended=ended), known)


RIGHT = {
    "the very answer": (fence(on()), fence(on())),
    "other words": (fence(on()), fence(on(), text="As you wish!")),
    "no words at all": (fence(on()), fence(on(), text="")),
    "another order of calls": (fence(on("light.a"), on("light.b")), fence(on("light.b"), on("light.a"))),
    "another order of keys": (
        fence(on(brightness_pct=5)),
        fence(dict(reversed(on(brightness_pct=5).items()))),
    ),
    "one call for two lamps": (fence(on("light.a"), on("light.b")), fence(on(["light.a", "light.b"]))),
    "two calls for a list": (fence(on("light.a, light.b")), fence(on("light.a"), on("light.b"))),
    "two fences": (fence(on("light.a"), on("light.b")), fence(on("light.a")) + "\n" + fence(on("light.b"))),
    "a colour by value": (fence(on(color_name="red")), fence(on(rgb_color=[255, 0, 0]))),
    "a tool call in place of a fence": (
        fence(on()),
        '<tool_call>{"name": "light.turn_on", "arguments": {"target_device": "light.kitchen"}}</tool_call>',
    ),
    "words where words are due": ("It is off already.", "That one is off."),
}

WRONG = {
    "another device": (fence(on()), fence(on("light.hall")), ["missing", "not expected"]),
    "another service": (
        fence(on()),
        fence({**on(), "service": "light.turn_off"}),
        ["missing", "not expected"],
    ),
    "another value": (fence(on(brightness_pct=5)), fence(on(brightness_pct=50)), ["missing", "not expected"]),
    "a value too many": (fence(on()), fence(on(brightness_pct=50)), ["missing", "not expected"]),
    "a value too few": (fence(on(brightness_pct=50)), fence(on()), ["missing", "not expected"]),
    "a call too many": (fence(on()), fence(on(), on("light.hall")), ["not expected"]),
    "a call too few": (fence(on(), on("light.hall")), fence(on()), ["missing"]),
    "the call twice": (fence(on()), fence(on(), on()), ["not expected"]),
    "words where a call is due": (fence(on()), "Sure.", ["missing"]),
    "a call where words are due": ("It is off already.", fence(on()), ["not expected"]),
    "nothing where words are due": ("It is off already.", " \n", ["is empty"]),
    "nothing where a call is due": (fence(on()), "", ["is empty", "missing"]),
    "an empty fence where words are due": ("No.", "```homeassistant\n```", ["has an empty block of calls"]),
    "an empty fence where a call is due": (
        fence(on()),
        "```homeassistant\n```",
        ["has an empty block of calls", "missing"],
    ),
    "an open fence": (fence(on()), fence(on()).removesuffix("```"), ["open", "missing"]),
    "an open fence alone": ("No.", "```homeassistant", ["open"]),
    "an open tool call": ("No.", '<tool_call>{"name": "x"}', ["open"]),
    "broken JSON": (
        fence(on()),
        fence("{'service': 'light.turn_on'}"),
        ["not a call in valid JSON", "missing"],
    ),
    "broken JSON beside the call": (fence(on()), fence(on(), "{"), ["not a call in valid JSON"]),
    "JSON that is no call": (
        fence(on()),
        fence('{"target_device": "light.kitchen"}'),
        ["not a call", "missing"],
    ),
    "NaN, which is no JSON": (
        fence(on(brightness_pct=5)),
        fence('{"service": "light.turn_on", "target_device": "light.kitchen", "brightness_pct": NaN}'),
        ["not a call in valid JSON", "missing"],
    ),
}


@pytest.mark.parametrize("case", RIGHT)
def test_what_does_what_was_due_is_right(case):
    judged = verdict(*RIGHT[case])
    assert judged.strict, judged.problems


@pytest.mark.parametrize("case", WRONG)
def test_what_does_anything_else_is_wrong_and_says_why(case):
    expected, said, reasons = WRONG[case]
    judged = verdict(expected, said)
    assert not judged.strict
    assert len(judged.problems) == len(reasons)
    for problem, reason in zip(judged.problems, reasons, strict=True):
        assert reason in problem


@pytest.mark.parametrize("expected", [fence(on()), "It is off already."])
@pytest.mark.parametrize("said", [fence(on()), "It is off already.", "la la la la", ""])
def test_an_answer_that_does_not_end_gets_its_zero(expected, said):
    assert "does not end" in verdict(expected, said, ended=False).problems


COMPATIBLE = [
    # expected, said, points, possible points, colour mismatches
    (fence(on()), fence(on()), 1, 1, 0),
    (fence(on(), on("light.hall")), fence(on("light.hall")), 1, 2, 0),
    (fence(on()), fence(on(), on("light.hall"), on("light.den")), 1, 1, 0),
    (fence(on()), fence("{", on()), 1, 1, 0),
    (fence(on()), "Sure.", 0, 1, 0),
    ("No.", "No, sorry.", 1, 1, 0),
    ("No.", fence(on()), 0, 1, 0),
    ("No.", "", 0, 1, 0),
    ("No.", "```homeassistant\n```", 0, 1, 0),
    (fence(on(rgb_color=[1, 2, 3])), fence(on(rgb_color=[9, 9, 9])), 1, 1, 1),
    (fence(on(color_name="red")), fence(on(color_name="blue")), 1, 1, 1),
    (fence(on(color_name="red", brightness_pct=5)), fence(on(color_name="red", brightness_pct=6)), 0, 1, 0),
    (fence(on(color_name="red")), fence(on()), 0, 1, 0),
    (fence(on(rgb_color=[1, 2, 3])), fence(on(rgb_color=[4, 4, 4]), on(rgb_color=[5, 5, 5])), 1, 1, 1),
    # Compared key by key, not by meaning: the published figures are made so.
    (fence(on(brightness_pct=40)), fence(on(brightness_pct=40.0)), 1, 1, 0),
    (fence(on(brightness_pct=40)), fence(on(brightness_pct="40")), 0, 1, 0),
    (fence(on("light.a"), on("light.b")), fence(on(["light.a", "light.b"])), 0, 2, 0),
]


@pytest.mark.parametrize(("expected", "said", "points", "possible", "mismatches"), COMPATIBLE)
def test_compatible_points_are_counted_as_published_figures_count_them(expected, said, points, possible, mismatches):
    judged = verdict(expected, said)
    assert (judged.points, judged.possible_points, judged.color_mismatches) == (points, possible, mismatches)


def test_endless_words_are_no_silence_but_a_call_among_them_keeps_its_point():
    assert verdict("No.", "no no no", ended=False).points == 0
    assert verdict(fence(on()), fence(on()) + " no no", ended=False).points == 1


def test_rates_count_lines_entities_and_services():
    judged = verdict(
        fence(on()),
        fence(on(), on("light.nowhere"), {"service": "light.explode", "target_device": "fan.attic"}, "{"),
    )
    assert (judged.lines, judged.valid_lines) == (4, 3)
    assert (judged.targeted_calls, judged.known_targets) == (3, 2)
    assert (judged.called_services, judged.known_services) == (3, 2)


def test_where_a_prompt_lists_nothing_nothing_counts_as_unknown():
    judged = verdict(fence(on()), fence(on()), known=PromptContents())
    assert (judged.targeted_calls, judged.called_services) == (0, 0)
    assert judged.strict


def test_a_tool_may_name_a_device_by_its_id_or_by_its_name_in_any_case():
    expected = Answer("", (Call("HassTurnOn", {"name": "Kitchen Light"}),), blocks=1)
    for name, right in {
        "light.kitchen": True,
        "kitchen light": True,
        "Attic Fan": False,
        "cellar": False,
    }.items():
        said = Answer("", (Call("HassTurnOn", {"name": name}),), blocks=1)
        assert judge(expected, said, KNOWN).strict is right
        assert knows_entities(said.calls[0], KNOWN) is (name != "cellar")


def test_a_call_reads_as_a_person_would_say_it():
    assert in_words(Call("light.turn_on", {"target_device": "light.kitchen", "brightness_pct": 40}), KNOWN) == (
        "turn on Kitchen Light (light.kitchen): brightness_pct 40"
    )
    assert in_words(Call("HassGetState", {}), KNOWN) == "HassGetState"


CALLS = st.builds(
    lambda service, target, value: {
        "service": service,
        "target_device": target,
        **({} if value is None else {"brightness_pct": value}),
    },
    st.sampled_from(sorted(SERVICES)),
    st.sampled_from(["light.a", "light.b", "fan.c"]),
    st.none() | st.integers(0, 100),
)


@given(st.lists(CALLS, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_order_never_matters(calls, random):
    shuffled = random.sample(calls, len(calls))
    judged = verdict(fence(*calls), fence(*shuffled))
    assert judged.strict
    assert judged.points == judged.possible_points == len(calls)


@given(st.lists(CALLS, min_size=1, max_size=4), st.data())
def test_one_call_more_or_less_is_never_right(calls, data):
    dropped = data.draw(st.integers(0, len(calls) - 1))
    fewer = [call for index, call in enumerate(calls) if index != dropped]
    assert not verdict(fence(*calls), fence(*fewer) if fewer else "Sure.").strict
    assert not verdict(fence(*fewer) if fewer else "Sure.", fence(*calls)).strict


@given(st.lists(CALLS, max_size=4), st.lists(CALLS, max_size=4))
def test_what_is_strictly_right_goes_both_ways_and_has_all_its_points(one, other):
    first, second = (fence(*calls) if calls else "Sure." for calls in (one, other))
    assert verdict(first, second).strict == verdict(second, first).strict
    judged = verdict(first, second)
    assert judged.points == judged.possible_points or not judged.strict


FRAGMENTS = [
    "```homeassistant\n",
    "```",
    "<tool_call>",
    "</tool_call>",
    "[TOOL_CALLS]",
    "{",
    "}",
    "\n",
    fence(on()),
]
NOISE = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=5)).map("".join)


@given(NOISE, st.booleans())
def test_whatever_a_model_says_is_judged_without_an_error(said, ended):
    for expected in (fence(on()), "No."):
        judged = verdict(expected, said, ended=ended)
        assert judged.strict == (not judged.problems)
        assert 0 <= judged.points <= judged.possible_points
        assert judged.valid_lines <= judged.lines


@pytest.mark.parametrize("noise", ["[" * 100_000, "{" * 50_000, '{"a":' * 5_000, "9" * 10_000])
def test_noise_of_any_depth_is_judged(noise):
    assert not verdict(fence(on()), fence(noise)).strict
    assert not verdict(fence(on()), f"<tool_call>{noise}</tool_call>").strict
