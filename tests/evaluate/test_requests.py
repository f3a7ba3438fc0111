"""A request's prompt is exactly what training puts before the reply, and its row gives the expected answer."""

import json
from pathlib import Path

import pytest

from hatrain.data.labels import Labeller
from hatrain.data.replies import ReplyFinder
from hatrain.data.rows import Row, read_rows
from hatrain.errors import BadInput
from hatrain.evaluate.requests import read_requests, sample
from hatrain.home.calls.compare import Call
from hatrain.home.judge.asked import Asked
from hatrain.home.judge.judge import AFTER_A_CALL
from tests.families import CHAT_FAMILIES, build_tokenizer

SYSTEM = (
    "Du bist Al.\nDienste: light.turn_off(), light.turn_on(brightness_pct)\nGeräte:\n"
    "light.kitchen 'Küchenlicht' = on;80%\nlight.hall 'Flurlicht' = off"
)


def fence(service: str, target: str) -> str:
    return f'```homeassistant\n{{"service": "{service}", "target_device": "{target}"}}\n```'


TURNS = [
    ("user", f"{SYSTEM}\nTurn off the kitchen light."),
    ("assistant", f"Turning it off.\n{fence('light.turn_off', 'light.kitchen')}"),
    ("user", "And the hall?"),
    ("assistant", "It is off already."),
]
TOOLS = [{"type": "function", "function": {"name": "HassTurnOff", "parameters": {"type": "object"}}}]


def tool_call(tool: str, **arguments: object) -> dict:
    return {"type": "function", "function": {"name": tool, "arguments": json.dumps(arguments)}}


MESSAGES = [
    {"role": "system", "content": [{"type": "text", "text": SYSTEM}]},
    {"role": "user", "content": "Turn off the kitchen light."},
    {
        "role": "assistant",
        "content": "Turning it off.",
        "tool_calls": [tool_call("HassTurnOff", name="Kitchen")],
        "train_on_turn": False,
    },
    {"role": "tool", "content": "no such device"},
    {"role": "assistant", "content": "", "tool_calls": [tool_call("HassTurnOff", name="Küchenlicht")]},
    {"role": "tool", "content": "done"},
    {"role": "assistant", "content": "It is off now."},
]


@pytest.fixture
def rows(tmp_path: Path):
    """Write rows to a file and read them back."""

    def write(*rows: dict) -> list[Row]:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return list(read_rows(path))

    return write


def sharegpt(turns=TURNS, **meta: object) -> dict:
    return {"conversations": [{"from": role, "value": text} for role, text in turns], **meta}


@pytest.mark.parametrize("family", CHAT_FAMILIES)
def test_a_prompt_has_the_tokens_that_training_puts_before_a_reply(family, rows):
    tokenizer = build_tokenizer(family)
    (row,) = rows(sharegpt())
    requests = read_requests([row], ReplyFinder(tokenizer))
    (example,) = Labeller(tokenizer).label([row])
    assert len(requests) == len(example.replies) == 2
    for request, (start, _) in zip(requests, example.replies, strict=True):
        asked = tokenizer(request.prompt, add_special_tokens=False)["input_ids"]
        before = example.input_ids[:start].tolist()
        # A blank that is a token of its own in a small vocabulary is the first of the answer in a large one.
        assert asked in (before, before[:-1])
        assert tokenizer.decode(before[len(asked) :]).strip() == ""


@pytest.mark.parametrize("family", CHAT_FAMILIES)
def test_raw_text_gives_the_requests_of_its_conversation(family, rows):
    tokenizer = build_tokenizer(family)
    finder = ReplyFinder(tokenizer)
    conversation, raw = rows(
        sharegpt(),
        {
            "text": tokenizer.apply_chat_template(
                [{"role": role, "content": text} for role, text in TURNS], tokenize=False
            )
        },
    )
    asked, from_raw = read_requests([conversation], finder), read_requests([raw], finder)
    assert [(one.prompt, one.reply, one.expected, one.known) for one in from_raw] == [
        (one.prompt, one.reply, one.expected, one.known) for one in asked
    ]


def test_every_turn_that_is_trained_on_is_a_request_with_its_history(rows):
    first, second = read_requests(rows(sharegpt(language="german", kind="templated")), _finder("chatml"))
    assert first.expected.calls == (Call("light.turn_off", {"target_device": "light.kitchen"}),)
    assert first.reply == TURNS[1][1]
    assert second.expected.calls == ()
    assert TURNS[1][1] in second.prompt and TURNS[3][1] not in second.prompt
    assert (first.turn, first.user_text, second.turn, second.user_text) == (1, TURNS[0][1], 3, TURNS[2][1])
    assert {request.language for request in (first, second)} == {"german"}
    assert {request.kind for request in (first, second)} == {"templated"}


def test_entities_and_services_are_read_under_labels_of_any_language(rows):
    first, _ = read_requests(rows(sharegpt()), _finder("zephyr"))
    assert first.known.entities == {"light.kitchen": "Küchenlicht", "light.hall": "Flurlicht"}
    assert first.known.services == {"light.turn_off", "light.turn_on"}


def test_a_failed_call_is_history_and_its_repetition_a_request(rows):
    row = {"messages": MESSAGES, "tools": TOOLS, "kind": "failure", "device_types": ["light"]}
    retry, word = read_requests(rows(row), _finder("qwen2"))
    assert retry.expected.calls == (Call("HassTurnOff", {"name": "Küchenlicht"}),)
    assert "no such device" in retry.prompt and "<tool_call>" in retry.prompt
    assert (retry.kind, word.kind) == ("failure", AFTER_A_CALL)
    assert word.expected.calls == ()
    assert "HassTurnOff" in retry.known.services
    assert retry.known.entity("küchenlicht") == "light.kitchen"
    assert retry.device_types == ("light",)


@pytest.mark.parametrize("family", ["qwen2", "llama3", "mistral"])
def test_the_tool_calls_that_a_template_writes_are_read_back(family, rows):
    messages = [{**MESSAGES[1]}, {**MESSAGES[4]}]
    (request,) = read_requests(rows({"messages": messages, "tools": TOOLS}), _finder(family))
    assert request.expected.calls == (Call("HassTurnOff", {"name": "Küchenlicht"}),)


@pytest.mark.parametrize("family", ["zephyr", "gemma"])
def test_a_template_that_drops_tool_calls_is_refused_by_row(family, rows):
    messages = [{**MESSAGES[1]}, {**MESSAGES[4], "content": "Turning it off."}]
    with pytest.raises(BadInput, match=r"rows\.jsonl:1: .*calls"):
        read_requests(rows({"messages": messages, "tools": TOOLS}), _finder(family))


def test_every_row_that_a_template_refuses_is_named(rows):
    with pytest.raises(BadInput) as refused:
        read_requests(rows(*[sharegpt([("system", SYSTEM), *TURNS])] * 2), _finder("gemma"))
    assert [problem.partition(": ")[0].rpartition(":")[2] for problem in refused.value.problems] == ["1", "2"]
    assert all("System role not supported" in problem for problem in refused.value.problems)


@pytest.mark.parametrize("reply", ["Sure.\n```homeassistant\n{'a'}\n```", "Sure.\n```homeassistant\n"])
def test_an_expected_answer_that_cannot_be_read_is_named(reply, rows):
    with pytest.raises(BadInput, match=r"rows\.jsonl:1: turn 1: the expected calls"):
        read_requests(rows(sharegpt([("user", "Go."), ("assistant", reply)])), _finder("chatml"))


def test_device_types_are_those_acted_on_else_those_the_row_names(rows):
    acted, asked, bare = rows(
        sharegpt(TURNS[:2], device_types=["fan"]),
        sharegpt([("user", "Is it on?"), ("assistant", "Yes.")], device_types=["fan", "lock"]),
        sharegpt([("user", "Is it on?"), ("assistant", "Yes.")]),
    )
    types = [request.device_types for request in read_requests([acted, asked, bare], _finder("chatml"))]
    assert types == [("light",), ("fan", "lock"), ("unnamed",)]


DEVICES = [
    {"entity_id": "light.kitchen", "name": "Küchenlicht", "state": "on", "attributes": {"brightness": 102}},
    {"entity_id": "light.hall", "name": "Flurlicht", "state": "off", "area": "Flur", "attributes": {"x": None}},
]
ASKED = [{"about": "light.hall", "key": "state", "value": "off"}]


def test_a_row_says_its_client_its_devices_and_what_is_asked(rows):
    turns = [("system", "Nothing here."), ("user", "Is the hall light on?"), ("assistant", "It is off.")]
    row = sharegpt(turns, client="home-llm-legacy", devices=DEVICES, asked=ASKED, kind="status", language="en")
    (request,) = read_requests(rows(row), _finder("chatml"))
    assert request.known.entities == {"light.kitchen": "Küchenlicht", "light.hall": "Flurlicht"}
    hall = request.known.devices[1]
    assert (hall.area, hall.attributes, request.known.devices[0].attributes) == ("Flur", {}, {"brightness": 102})
    assert request.case.client == "home-llm-legacy"
    assert request.case.asked == (Asked("light.hall", "state", "off"),)
    assert request.forms == {"single-fence", "unclosed"}


@pytest.mark.parametrize(
    ("meta", "problem"),
    [
        ({"client": "home-lm"}, "rows.jsonl:1: client: found home-lm; accepted: .*did you mean home-llm"),
        ({"devices": {}}, "rows.jsonl:1: devices: found dict; accepted: a list"),
        ({"devices": [{"entity_id": "a.b", "name": "A"}]}, "devices: entry 0: state: found None; accepted: some text"),
        ({"devices": [{"entity_id": "a.b", "name": "A", "state": "on", "aera": "x"}]}, "aera: not a key.*mean area"),
        ({"asked": [{"about": "a.b"}]}, "rows.jsonl:1: asked: entry 0: key: found None"),
    ],
)
def test_what_a_row_says_of_itself_in_another_form_is_named(meta, problem, rows):
    with pytest.raises(BadInput, match=problem):
        read_requests(rows(sharegpt(**meta)), _finder("chatml"))


def test_earlier_calls_of_a_conversation_have_changed_the_home(rows):
    turns = [*TURNS[:2], ("user", "And on again."), ("assistant", f"On.\n{fence('light.turn_on', 'light.kitchen')}")]
    first, second = read_requests(rows(sharegpt(turns)), _finder("chatml"))
    assert {device.entity_id: device.state for device in first.known.devices}["light.kitchen"] == "on"
    assert {device.entity_id: device.state for device in second.known.devices}["light.kitchen"] == "off"


def test_a_call_that_is_asked_for_again_had_no_effect(rows):
    again = f"Again.\n{fence('light.turn_off', 'light.kitchen')}"
    turns = [*TURNS[:2], ("user", "Nothing happened."), ("assistant", again)]
    _, second = read_requests(rows(sharegpt(turns)), _finder("chatml"))
    assert {device.entity_id: device.state for device in second.known.devices}["light.kitchen"] == "on"


def test_a_call_whose_result_is_an_error_has_changed_nothing(rows):
    results = [{"role": "tool", "content": json.dumps(content)} for content in ({"error": "no"}, {"result": "ok"})]
    for result, state in zip(results, ("on", "off"), strict=True):
        call = tool_call("HassTurnOff", name="Küchenlicht")
        messages = [
            *MESSAGES[:2],
            {"role": "assistant", "content": "", "tool_calls": [call]},
            result,
            {"role": "assistant", "content": "Well."},
        ]
        *_, word = read_requests(rows({"messages": messages, "tools": TOOLS}), _finder("qwen2"))
        assert {device.entity_id: device.state for device in word.known.devices}["light.kitchen"] == state


def test_a_client_that_writes_the_prompt_anew_shows_the_home_as_it_is_now(rows):
    turns = [*TURNS[:2], ("user", "And the hall?"), ("assistant", f"On.\n{fence('light.turn_on', 'light.hall')}")]
    row = sharegpt(turns, client="home-llm-legacy", devices=DEVICES)
    _, second = read_requests(rows(row), _finder("chatml"))
    assert {device.entity_id: device.state for device in second.known.devices} == {
        "light.kitchen": "on",
        "light.hall": "off",
    }


def test_the_forms_of_a_client_with_tools_are_those_of_the_chat_template(rows):
    messages = [{**MESSAGES[1]}, {**MESSAGES[4]}]
    for family, form in {"qwen2": "tool_call", "mistral": "tool-list"}.items():
        row = {"messages": messages, "tools": TOOLS, "client": "assist", "devices": DEVICES}
        (request,) = read_requests(rows(row), _finder(family))
        assert request.forms == {form}


def test_a_sample_is_the_same_for_the_same_seed_and_keeps_the_order(rows):
    drawn = rows(*[sharegpt()] * 20)
    assert [row.index for row in sample(drawn, 5, 1)] == [row.index for row in sample(drawn, 5, 1)]
    assert [row.index for row in sample(drawn, 5, 1)] != [row.index for row in sample(drawn, 5, 2)]
    assert sorted(row.index for row in sample(drawn, 5, 1)) == [row.index for row in sample(drawn, 5, 1)]
    assert len(sample(drawn, 50, 1)) == 20


def _finder(family: str) -> ReplyFinder:
    return ReplyFinder(build_tokenizer(family))
