"""Ollama's template of a model: it has to put out what the model's chat template does."""

import pytest

from hatrain.data.replies import ReplyFinder
from hatrain.data.rows import Message
from hatrain.data.template import TemplateRefusal
from hatrain.errors import BadInput
from hatrain.export import modelfile
from hatrain.export.go_template import go_template
from tests.data.published import published
from tests.export.go_templates import render
from tests.families import build_tokenizer
from tests.require import need

SYSTEM = Message("system", "You control a house.")
USER, REPLY, NEXT = Message("user", "Turn it on."), Message("assistant", "It is on."), Message("user", "And off again.")
TOOLS = tuple(
    {
        # Keys in the order in which Go writes them.
        "function": {
            "description": f"Does {name}.",
            "name": name,
            "parameters": {"properties": {"area": {"type": "string"}}, "type": "object"},
        },
        "type": "function",
    }
    for name in ("HassTurnOn", "HassTurnOff", "GetLiveContext")
)
CALLS = tuple(
    {"type": "function", "id": f"call0000{number}", "function": {"name": name, "arguments": {"area": "kitchen"}}}
    for number, name in enumerate(("HassTurnOn", "HassTurnOff"))
)
RESULTS = tuple(
    Message("tool", text, extra={"name": call["function"]["name"], "tool_call_id": call["id"]})
    for call, text in zip(CALLS, ("done one", "done two"), strict=True)
)
CONVERSATIONS = {
    "a request": ([SYSTEM, USER], ()),
    "no system text": ([USER], ()),
    "two rounds": ([SYSTEM, USER, REPLY, NEXT], ()),
    "tools": ([SYSTEM, USER], TOOLS),
    "one tool": ([SYSTEM, USER], TOOLS[:1]),
    "after a call": ([SYSTEM, USER, Message("assistant", "", tool_calls=CALLS[:1]), RESULTS[0]], TOOLS),
    "after two calls": ([SYSTEM, USER, Message("assistant", "", tool_calls=CALLS), *RESULTS], TOOLS),
    "a round after a call": (
        [SYSTEM, USER, Message("assistant", "", tool_calls=CALLS[:1]), RESULTS[0], REPLY, NEXT],
        TOOLS,
    ),
}
PLAIN = ("zephyr", "llama2", "phi3", "chatml", "gemma")
WITH_TOOLS = ("qwen2_5", "qwen3", "qwen3_instruct_2507")


def tokenizer_of(name):
    return published(name) if name in WITH_TOOLS or name == "llama3_1" else build_tokenizer(name)


def data(messages, tools):
    """What Ollama gives to a template."""
    return {
        "Messages": [
            {
                "Role": message.role,
                "Content": message.content,
                "ToolCalls": [
                    {"Function": {"Name": call["function"]["name"], "Arguments": call["function"]["arguments"]}}
                    for call in message.tool_calls
                ],
            }
            for message in messages
        ],
        "Tools": list(tools),
    }


def rendered_by(finder, messages, tools):
    try:
        return finder.template.render(messages, tools, prompt=True)
    except TemplateRefusal:  # without a system role the data has the home at the start of the user's text
        system, user, *others = messages
        joined = Message("user", f"{system.content}\n{user.content}")
        return finder.template.render([joined, *others], tools, prompt=True)


@pytest.mark.parametrize("name", WITH_TOOLS)
def test_a_template_with_tools_has_them_in_ollamas(name):
    text, with_tools = go_template(ReplyFinder(published(name)), None)
    assert with_tools
    assert "$.Tools" in text and "$call.Function.Arguments" in text
    # Ollama takes what follows the first plain text of the calls for a call.
    assert (
        text.partition("{{ if .ToolCalls }}")[2]
        .partition("{{ range")[2]
        .partition("}}")[2]
        .lstrip()
        .startswith(("<tool_call>", "{{ if $index }}"))
    )


@pytest.mark.parametrize("name", PLAIN)
def test_a_template_without_tools_has_none_in_ollamas(name):
    text, with_tools = go_template(ReplyFinder(build_tokenizer(name)), None)
    assert not with_tools
    assert "Tools" not in text and "ToolCalls" not in text


def test_the_bos_token_that_ollama_adds_is_left_out():
    finder = ReplyFinder(build_tokenizer("llama3"))
    assert "<|begin_of_text|>" in go_template(finder, None)[0]
    assert "<|begin_of_text|>" not in go_template(finder, "<|begin_of_text|>")[0]


def test_a_modelfile_has_template_stops_temperature_and_context():
    text = modelfile.write(
        "lamp.q8_0.gguf", ReplyFinder(build_tokenizer("chatml")), None, ["<|im_end|>", "<eos>"], 2048
    )
    first, *rest = text.splitlines()
    assert first == "FROM ./lamp.q8_0.gguf"
    assert rest[0].startswith('TEMPLATE """')
    assert text.count('"""') == 2
    assert rest[-4:] == [
        'PARAMETER stop "<|im_end|>"',
        'PARAMETER stop "<eos>"',
        "PARAMETER temperature 0",
        "PARAMETER num_ctx 2048",
    ]


def test_a_template_that_mixes_turns_is_one_line():
    tokenizer = build_tokenizer("chatml")
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }}{{ message.content }}{% endfor %}"
    with pytest.raises((BadInput, TemplateRefusal)) as caught:
        modelfile.write("lamp.gguf", ReplyFinder(tokenizer), None, [], 2048)
    assert "it leaves out or repeats a turn" in str(caught.value)


@pytest.mark.long
def test_go_puts_out_what_the_chat_template_does(tmp_path):
    need("go")
    cases, expected = [], []
    for name in (*PLAIN, "llama3", *WITH_TOOLS):
        finder = ReplyFinder(tokenizer_of(name))
        template, with_tools = go_template(finder, None)
        for what, (messages, tools) in CONVERSATIONS.items():
            if tools and not with_tools:
                continue
            cases.append({"Template": template, "Data": data(messages, tools)})
            expected.append((name, what, rendered_by(finder, messages, tools)))
    rendered = render(cases, tmp_path)
    pairs = zip(expected, rendered, strict=True)
    wrong = [(name, what, text, found) for (name, what, text), found in pairs if text != found]
    assert wrong == []
    assert len(cases) > 30
