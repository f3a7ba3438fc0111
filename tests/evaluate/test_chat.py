"""A chat keeps the home's state between requests, shows the model that state, and says what changed."""

import json

import pytest

from hatrain.data.rows import Message
from hatrain.data.template import TemplateRefusal
from hatrain.evaluate.asking import Question
from hatrain.evaluate.chat import REQUEST, ROUNDS, Chat, with_states
from hatrain.home.calls.answer import read_answer
from hatrain.home.clients import CLIENTS
from hatrain.home.devices.entity import Entity

PROMPT = (
    "Services: light.turn_off(), light.turn_on(brightness_pct)\nDevices:\n"
    "light.flur 'Flurlicht' = off\nlock.door 'Back Door' = locked"
)
ON = '```homeassistant\n{"service": "light.turn_on", "target_device": "light.flur", "brightness_pct": 40}\n```'
OFF = '```homeassistant\n{"service": "light.turn_off", "target_device": "light.flur"}\n```'
WRONG = '```homeassistant\n{"service": "light.turn_on", "target_device": "light.keller"}\n```'


class Model:
    """Answers with the texts that it is given, in order, and keeps the questions."""

    def __init__(self, *texts: str):
        self.texts, self.questions = list(texts), []

    def __call__(self, question: Question):
        self.questions.append(question)
        return read_answer(self.texts.pop(0))


def a_chat(*texts: str, prompt: str = PROMPT, **changes) -> Chat:
    messages = (Message("system", prompt), Message("user", REQUEST))
    return Chat(Question(messages, (), "here", **changes), Model(*texts))


def test_the_next_request_finds_the_home_as_the_last_one_left_it():
    chat = a_chat(f"Ja. {ON}", f"Gut. {OFF}", "Es ist aus.")
    assert chat.ask("Licht an auf 40").changes == ("Flurlicht (light.flur): off → on, brightness not set → 40%",)
    assert chat.ask("Licht aus").changes == ("Flurlicht (light.flur): on → off, brightness 40% → not set",)
    assert chat.ask("Ist es an?").changes == ()
    prompts = [question.messages[0].content for question in chat._answer.questions]
    assert prompts == [
        PROMPT,
        PROMPT.replace("light.flur 'Flurlicht' = off", "light.flur 'Flurlicht' = on;40%"),
        PROMPT,
    ]
    assert [question.messages[1].content for question in chat._answer.questions] == [
        "Licht an auf 40",
        "Licht aus",
        "Ist es an?",
    ]


def test_a_call_that_cannot_be_carried_out_changes_nothing():
    chat = a_chat(WRONG)
    reply = chat.ask("Kellerlicht an")
    assert reply.changes == () and chat.home == chat._start
    assert reply.rounds[0].effects.failed[0][1].startswith("light.keller: not in this home")


def test_the_home_can_be_put_back():
    chat = a_chat(ON, "Aus.")
    chat.ask("Licht an")
    chat.reset()
    chat.ask("Ist es an?")
    assert chat._answer.questions[-1].messages[0].content == PROMPT


def test_what_happens_and_no_state_shows_is_told():
    prompt = "Devices:\nbutton.bell 'Bell' = unknown"
    press = '```homeassistant\n{"service": "button.press", "target_device": "button.bell"}\n```'
    assert a_chat(press, prompt=prompt).ask("Ring").changes == ("button.bell press",)


def test_a_row_without_a_home_can_be_asked():
    chat = a_chat(f"Ja. {ON}", prompt="You are kind.")
    reply = chat.ask("Licht an")
    assert reply.changes == () and reply.rounds[0].answer.calls and chat.home == ()


# --- clients whose model asks tools -------------------------------------------------------------------------

LIGHT = Entity("light.flur", "Flurlicht", "off", {"supported_color_modes": ["rgb"]})
TOOLS = ({"type": "function", "function": {"name": "HassTurnOn"}},)


def tool(called: str, **arguments: object) -> str:
    return f"<tool_call>{json.dumps({'name': called, 'arguments': arguments})}</tool_call>"


@pytest.mark.parametrize("client", ["assist", "home-llm"])
def test_a_model_that_calls_a_tool_is_asked_again_with_the_result(client):
    chat = Chat(
        Question((Message("user", REQUEST),), TOOLS, "here", client, (LIGHT,)),
        Model(tool("GetLiveContext", name="Flurlicht"), tool("HassTurnOn", name="Flurlicht"), "It is on now."),
    )
    reply = chat.ask("Turn on the light if it is off")
    assert [one.answer.text for one in reply.rounds] == ["", "", "It is on now."]
    assert reply.changes == ("Flurlicht (light.flur): off → on",)
    last = chat._answer.questions[-1].messages
    assert [message.role for message in last] == ["user", "assistant", "tool", "assistant", "tool"]
    assert "state: 'off'" in json.loads(last[2].content)["result"]
    assert json.loads(last[4].content)["data"]["success"][0]["id"] == "light.flur"
    assert last[1].tool_calls[0]["id"] == last[2].extra["tool_call_id"] != last[4].extra["tool_call_id"]


def test_a_failed_call_comes_back_as_an_error():
    chat = Chat(
        Question((Message("user", REQUEST),), TOOLS, "here", "assist", (LIGHT,)),
        Model(tool("HassTurnOn", name="Keller"), "I cannot find it."),
    )
    assert chat.ask("Turn on the cellar").changes == ()
    assert json.loads(chat._answer.questions[-1].messages[2].content)["error"] == "MatchFailedError"


def test_a_template_that_cannot_write_results_ends_the_answer(monkeypatch):
    def answer(question):
        if len(question.messages) > 1:
            raise TemplateRefusal("only user and assistant roles")
        return read_answer(tool("HassTurnOn", name="Flurlicht"))

    chat = Chat(Question((Message("user", REQUEST),), TOOLS, "here", "assist", (LIGHT,)), answer)
    reply = chat.ask("Turn on")
    assert len(reply.rounds) == 1 and reply.changes == ("Flurlicht (light.flur): off → on",)


def test_a_model_that_calls_for_ever_is_stopped():
    chat = Chat(
        Question((Message("user", REQUEST),), TOOLS, "here", "assist", (LIGHT,)),
        Model(*[tool("GetLiveContext")] * 9),
    )
    assert len(chat.ask("Hm").rounds) == ROUNDS


def test_lines_in_an_area_end_as_home_llm_ends_them():
    prompt = "Devices:\n\nlight.a 'A' = off\n\n## Area: Hall\n\nlight.b 'B' = on;30%\n\nlight.b 'Lamp' = on;30%\n"
    off = {"light.b": Entity("light.b", "B", "off")}
    assert with_states(prompt, CLIENTS["home-llm"], off) == prompt.replace("on;30%", "off;")
