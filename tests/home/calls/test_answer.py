"""What an answer does and what a prompt lists are read by shape, in any language."""

import pytest

from hatrain.home.calls.answer import (
    ALL_FORMS,
    FENCE,
    KNOWN_FORMS,
    OBJECT,
    SINGLE_FENCE,
    TOOL_CALL,
    UNCLOSED,
    read_answer,
    read_message,
)
from hatrain.home.calls.compare import Call
from hatrain.home.calls.prompt import read_prompt

CALL = Call("light.turn_on", {"target_device": "light.kitchen"})
JSON = '{"service": "light.turn_on", "target_device": "light.kitchen"}'
TOOL = '{"name": "light.turn_on", "arguments": {"target_device": "light.kitchen"}}'
TOOL_TEXT = '{"name": "light.turn_on", "arguments": "{\\"target_device\\": \\"light.kitchen\\"}"}'

FORMS = {
    "a fence": f"Sure.\n```homeassistant\n{JSON}\n```",
    "a fence with blanks": f"Sure.\n```homeassistant \n\n  {JSON}  \n\n```\n",
    "a fence in the middle of a line": f"Sure. ```homeassistant\n{JSON}```",
    "Hermes": f"Sure.\n<tool_call>\n{TOOL}\n</tool_call>",
    "Hermes, arguments as text": f"Sure.\n<tool_call>\n{TOOL_TEXT}\n</tool_call>",
    "Mistral": f"Sure. [TOOL_CALLS] [{TOOL}]",
    "Llama 3, with its tag": "Sure.<|python_tag|>" + TOOL.replace("arguments", "parameters"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_call_is_read(form):
    answer = read_answer(FORMS[form])
    assert answer.calls == (CALL,)
    assert answer.text == "Sure."
    assert (answer.blocks, answer.bad_lines, answer.unclosed) == (1, (), False)


def test_an_answer_that_is_one_json_object_is_a_call():
    assert read_answer(TOOL.replace("arguments", "parameters")).calls == (CALL,)


def test_several_calls_keep_their_order():
    other = JSON.replace("kitchen", "hall")
    answer = read_answer(f"```homeassistant\n{JSON}\n{other}\n```")
    assert [call.targets() for call in answer.calls] == [("light.kitchen",), ("light.hall",)]
    answer = read_answer(f"<tool_call>{TOOL}</tool_call>\n<tool_call>{TOOL.replace('kitchen', 'hall')}</tool_call>")
    assert [call.targets() for call in answer.calls] == [("light.kitchen",), ("light.hall",)]


@pytest.mark.parametrize(
    "text", ["", "Sure.", "Use ```python\nprint()\n``` for that.", "{not json}", "I have {two} lamps"]
)
def test_words_are_no_call(text):
    answer = read_answer(text)
    assert (answer.text, answer.calls, answer.blocks) == (text, (), 0)


def test_a_message_has_the_calls_of_its_text_and_its_tool_calls():
    answer = read_message(
        f"Sure.\n```homeassistant\n{JSON}\n```",
        [{"type": "function", "function": {"name": "HassTurnOff", "arguments": {"name": "Fan"}}}],
    )
    assert answer.calls == (CALL, Call("HassTurnOff", {"name": "Fan"}))
    assert answer.text == "Sure."


GEMMA = "<start_function_call>call:light.turn_on{target_device:<escape>light.kitchen<escape>}<end_function_call>"
SPREAD = '{\n  "service": "light.turn_on",\n  "target_device": "light.kitchen"\n}'

READ = {
    "lines that end with CRLF": f"Sure.\r\n```homeassistant\r\n{JSON}\r\n```",
    "JSON over several lines": f"Sure.\n```homeassistant\n{SPREAD}\n```",
    "a list": f"Sure.\n```homeassistant\n[{JSON}]\n```",
    "FunctionGemma": f"Sure.{GEMMA}",
    "an unclosed tool call": f"Sure.<tool_call>{TOOL}",
    "action for service": f"Sure.\n```homeassistant\n{JSON.replace('service', 'action')}\n```",
    "thinking first": f"<think>{JSON} or not?</think>Sure.\n```homeassistant\n{JSON}\n```",
    "thinking that the prompt opened": f"Hm, {JSON}?\n</think>\nSure.\n```homeassistant\n{JSON}\n```",
}


@pytest.mark.parametrize("case", READ)
def test_what_a_client_reads_is_read(case):
    answer = read_answer(READ[case], forms=KNOWN_FORMS)
    assert (answer.text, answer.calls) == ("Sure.", (CALL,))
    assert (answer.bad_lines, answer.unclosed, answer.foreign) == ((), False, ())


def test_gemmas_arguments_keep_their_types():
    said = (
        "call:HassX{name:<escape>A, {b}<escape>,n:21.5,k:3,on:true,list:[1,<escape>x<escape>],in:{a:<escape>b<escape>}}"
    )
    (call,) = read_answer(f"<start_function_call>{said}<end_function_call>").calls
    assert call.arguments == {"name": "A, {b}", "n": 21.5, "k": 3, "on": True, "list": [1, "x"], "in": {"a": "b"}}


@pytest.mark.parametrize(
    "broken", ["call:x{a:", "call:x{a:[1}", "call:x{,}", "x{a:1}", "call:x{a:1}}", "call:x" + "{a:" * 50]
)
def test_what_gemma_breaks_is_a_bad_line(broken):
    answer = read_answer(f"<start_function_call>{broken}<end_function_call>")
    assert (answer.calls, answer.bad_lines) == ((), (broken,))


FOREIGN = {
    "a fence of another kind": f"No.\n```json\n{JSON}\n```",
    "a fence without a kind": f"No.\n```\n{JSON}\n```",
    "a bare object": JSON,
    "a bare tool call": TOOL,
    "an object among words": f"No. {JSON} No.",
}


@pytest.mark.parametrize("case", FOREIGN)
def test_a_call_in_another_form_is_no_call_and_no_word_either(case):
    answer = read_answer(FOREIGN[case], forms=KNOWN_FORMS)
    assert answer.calls == ()
    assert len(answer.foreign) == 1 and answer.foreign[0].startswith("{")


@pytest.mark.parametrize("text", ['{"a": 1}', "Use ```python\nprint({})\n``` here.", 'Say {"name": 3}.'])
def test_other_json_and_code_are_words(text):
    answer = read_answer(text, forms=KNOWN_FORMS)
    assert (answer.text, answer.calls, answer.foreign) == (text, (), ())


TWO = f"```homeassistant\n{JSON}\n{JSON.replace('kitchen', 'hall')}\n```"


@pytest.mark.parametrize(
    ("forms", "text", "calls", "bad", "foreign"),
    [
        ({FENCE}, TWO, 2, 0, 0),
        ({SINGLE_FENCE}, TWO, 0, 1, 0),
        ({SINGLE_FENCE}, f"```homeassistant\n{JSON}\n```" * 2, 2, 0, 0),
        ({FENCE}, f"<tool_call>{TOOL}</tool_call>", 0, 0, 1),
        ({TOOL_CALL}, TWO, 0, 0, 1),
        ({TOOL_CALL, UNCLOSED}, f"<tool_call>{TOOL}", 1, 0, 0),
        ({SINGLE_FENCE, UNCLOSED}, f"```homeassistant\n{JSON}", 1, 0, 0),
        ({OBJECT}, TOOL, 1, 0, 0),
        (set(ALL_FORMS), TOOL, 1, 0, 0),
    ],
)
def test_only_the_given_forms_are_calls(forms, text, calls, bad, foreign):
    answer = read_answer(text, forms=frozenset(forms))
    assert (len(answer.calls), len(answer.bad_lines), len(answer.foreign)) == (calls, bad, foreign)


def test_a_call_that_was_cut_off_is_open_and_no_call():
    for forms in (KNOWN_FORMS, frozenset({FENCE, UNCLOSED})):
        answer = read_answer(f"```homeassistant\n{JSON[:-5]}", forms=forms)
        assert answer.unclosed and answer.calls == ()
    answer = read_answer(f"<tool_call>{TOOL}", ended=False, forms=KNOWN_FORMS)
    assert answer.unclosed and answer.calls == ()


def test_devices_are_read_in_their_states_areas_and_attributes():
    known = read_prompt(
        [
            "Devices:\nlight.a 'A' = on;crimson (220, 20, 60);30%\nlight.b 'B' = on;40%;red\n## Area: Den\n"
            "climate.c 'C' = heat;21.5°C;45%;target=22°C;fan=low\ncover.d 'D' = open;60%\n"
            "media_player.e 'E' = playing;Take Five;vol=40%\n## Bereich: Flur\nlock.f 'F' = locked"
        ]
    )
    found = {device.entity_id: device for device in known.devices}
    assert found["light.a"].attributes == {"rgb_color": (220, 20, 60), "brightness": pytest.approx(76.5)}
    assert found["light.b"].attributes == {"rgb_color": (255, 0, 0), "brightness": pytest.approx(102)}
    assert found["climate.c"].attributes == {
        "current_temperature": 21.5,
        "current_humidity": 45,
        "temperature": 22,
        "fan_mode": "low",
    }
    assert found["cover.d"].attributes == {"current_position": 60}
    assert found["media_player.e"].attributes == {"media_title": "Take Five", "volume_level": 0.4}
    assert [(device.state, device.area) for device in known.devices] == [
        ("on", None),
        ("on", None),
        ("heat", "Den"),
        ("open", "Den"),
        ("playing", "Den"),
        ("locked", "Flur"),
    ]


PROMPTS = {
    "english": ("Services: ", "Devices:"),
    "german": ("Dienste: ", "Geräte:"),
    "french": ("Services : ", "Appareils :"),
    "polish": ("Usługi: ", "Urządzenia:"),
    "labels on lines of their own": ("사용 가능한 서비스：\n", "장치："),
}


@pytest.mark.parametrize("language", PROMPTS)
def test_services_and_devices_are_found_whatever_their_labels_say(language):
    services, devices = PROMPTS[language]
    known = read_prompt(
        [
            "You are Al, who runs the house: be brief.\nMonday: 12.05.2031, 19:30\n"
            f"{services}light.toggle(), light.turn_on(brightness_pct,color_name), todo.add_item(item)\n{devices}\n"
            "light.kuche 'Küchenlampe' = on;40%\n"
            "media_player.den 'Bob's den' = playing;Don't 'stop' = me now\n"
            "todo.list 'Einkäufe' = 3"
        ]
    )
    assert known.services == {"light.toggle", "light.turn_on", "todo.add_item"}
    assert known.entities == {
        "light.kuche": "Küchenlampe",
        "media_player.den": "Bob's den",
        "todo.list": "Einkäufe",
    }


def test_services_without_brackets_are_found_after_their_label():
    assert read_prompt(["Services: light.turn_on, light.turn_off"]).services == {
        "light.turn_on",
        "light.turn_off",
    }


def test_tools_are_services_too():
    tools = [
        {"type": "function", "function": {"name": "HassTurnOn"}},
        {"name": "HassTurnOff"},
        {"strange": 1},
    ]
    assert read_prompt([], tools).services == {"HassTurnOn", "HassTurnOff"}


def test_a_prompt_that_lists_nothing_is_no_home():
    known = read_prompt(["Be brief. See e.g. example.com: it says 'hello' = world."])
    assert (known.entities, known.services) == ({}, frozenset())
