"""What an answer does and what a prompt lists are read by shape, in any language."""

import pytest

from hatrain.home.calls.answer import read_answer, read_message
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
