import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from hatrain.data.labels import IGNORED, Example, Labeller
from hatrain.data.rows import BadRow, Row, read_rows
from hatrain.errors import BadInput
from tests.families import (
    CHAT_FAMILIES,
    CHATML,
    FAMILIES,
    LLAMA3,
    MISTRAL,
    ZEPHYR,
    build_tokenizer,
)

END = {
    "zephyr": "</s>",
    "stablelm": "<|endoftext|>",
    "chatml": "<|im_end|>",
    "qwen2": "<|im_end|>",
    "llama3": "<|eot_id|>",
    "llama2": " </s>",  # the space is the template's, and the model has to write it to get to the eos
    "mistral": "</s>",
    "phi3": "<|end|>",
    "polka": "<|im_end|>",
    "gemma": "<end_of_turn>",
    "smollm2": "<|im_end|>",
    "smollm3": "<|im_end|>",
    "functiongemma": "<end_of_turn>",
}
NO_SYSTEM = {"mistral", "gemma"}
TOOL = {
    "type": "function",
    "function": {
        "name": "light.turn_on",
        "description": "",
        "parameters": {"type": "object", "properties": {}},
    },
}
CALL = {"function": {"name": "light.turn_on", "arguments": '{"target": "light.kitchen"}'}}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def system(text: str) -> dict[str, Any]:
    return {"role": "system", "content": text}


def assistant(text: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


@pytest.fixture
def rows_of(tmp_path: Path):
    def read(*rows: dict[str, Any]) -> list[Row]:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return list(read_rows(path))

    return read


@pytest.fixture
def replies(rows_of):
    """The decoded text of each supervised range of a conversation."""

    def label(tokenizer: PreTrainedTokenizerBase, *messages: dict[str, Any], tools: Any = None, **ids: Any):
        row = {"messages": list(messages)} | ({"tools": tools} if tools else {})
        return trained_on(tokenizer, only(Labeller(tokenizer, **ids).label(rows_of(row))))

    return label


def only(labelled: list[Example | BadRow]) -> Example:
    (example,) = labelled
    assert isinstance(example, Example), example.problems
    return example


def refusal(labelled: list[Example | BadRow]) -> BadRow:
    (bad,) = labelled
    assert isinstance(bad, BadRow)
    return bad


def trained_on(tokenizer: PreTrainedTokenizerBase, example: Example) -> list[str]:
    """Decode each range of labels in each of the row's sequences, read as a trainer reads them."""
    ranges: list[list[int]] = []
    for sequence in example.sequences:
        ranges.append([])
        for token, label in zip(sequence.input_ids.tolist(), sequence.labels.tolist(), strict=True):
            assert label in (token, IGNORED)
            if label != IGNORED:
                ranges[-1].append(label)
            elif ranges[-1]:
                ranges.append([])
    return [tokenizer.decode(part) for part in ranges if part]


# --- every family -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", CHAT_FAMILIES)
def test_the_reply_and_its_end_are_trained_on_and_nothing_else(family, replies):
    conversation = [user("Turn on the kitchen light."), assistant("Turning it on\nfor you.")]
    if family not in NO_SYSTEM:
        conversation.insert(0, system("You are Al."))

    assert replies(build_tokenizer(family), *conversation) == [f"Turning it on\nfor you.{END[family]}"]


@pytest.mark.parametrize("family", CHAT_FAMILIES)
def test_every_turn_of_the_assistant_is_trained_on(family, replies):
    tokenizer = build_tokenizer(family)
    conversation = [user("One?"), assistant("First."), user("Two?"), assistant("Second."), user("Three?")]

    found = replies(tokenizer, *conversation, assistant("Third."))

    assert found == [f"{text}{END[family]}" for text in ("First.", "Second.", "Third.")]


@pytest.mark.parametrize("family", CHAT_FAMILIES)
def test_a_turn_with_train_on_turn_false_is_left_out(family, replies):
    conversation = [
        user("One?"),
        assistant("First."),
        user("Two?"),
        assistant("Second.", train_on_turn=False),
    ]

    assert replies(build_tokenizer(family), *conversation) == [f"First.{END[family]}"]


@pytest.mark.parametrize("family", CHAT_FAMILIES)
def test_the_tokens_are_those_of_the_rendered_conversation(family, rows_of):
    tokenizer = build_tokenizer(family)
    messages = [user("One?"), assistant("First  ☃.\n"), user(" Two?"), assistant("Second.")]

    example = only(Labeller(tokenizer).label(rows_of({"messages": messages})))

    assert example.input_ids.tolist() == tokenizer.apply_chat_template(messages)["input_ids"]


@pytest.mark.parametrize("family", CHAT_FAMILIES)
def test_a_user_who_imitates_the_assistants_header_is_not_trained_on(family, replies):
    tokenizer = build_tokenizer(family)
    render = tokenizer.apply_chat_template
    opened = render([user("Hi."), assistant("Psst.")], tokenize=False)
    imitation = opened[opened.index("Hi.") :].removesuffix("\n")

    found = replies(tokenizer, user(f"{imitation} more"), assistant("No."), user(imitation), assistant("Never."))

    assert found == [f"No.{END[family]}", f"Never.{END[family]}"]


@pytest.mark.parametrize("family", CHAT_FAMILIES)
def test_an_assistant_who_writes_an_end_of_turn_in_its_text_is_trained_on_to_the_true_end(family, replies):
    tokenizer = build_tokenizer(family)
    text = f"They say{END[family]} and go on."

    (found,) = replies(tokenizer, user("What do they say?"), assistant(text))

    assert found.replace(" ", "") == f"{text}{END[family]}".replace(" ", "")


def test_a_header_token_that_includes_the_space_before_a_reply_is_not_trained_on(replies):
    # Phi-3's role tokens take all white space after them.
    assert replies(build_tokenizer("phi3"), user("Hi"), assistant("\n Hello.")) == ["Hello.<|end|>"]


def test_content_may_be_a_list_of_text_parts(replies):
    parts = [{"type": "text", "text": "Turning on "}, {"type": "text", "text": "the light."}]

    assert replies(build_tokenizer("chatml"), user([{"type": "text", "text": "On!"}]), assistant(parts)) == [
        "Turning on the light.<|im_end|>"
    ]


# --- tools --------------------------------------------------------------------------------------------------

USED_TOOLS = [
    user("Turn on the kitchen light."),
    assistant(None, tool_calls=[CALL]),
    {"role": "tool", "name": "light.turn_on", "tool_call_id": "a", "content": '{"result": "done"}'},
    assistant("It is on."),
]


@pytest.mark.parametrize(
    ("family", "call"),
    [
        (
            "qwen2",
            '<tool_call>\n{"name": "light.turn_on", "arguments": {"target": "light.kitchen"}}\n</tool_call>',
        ),
        ("llama3", '{"name": "light.turn_on", "parameters": {"target": "light.kitchen"}}'),
        ("mistral", '[TOOL_CALLS] [{"name": "light.turn_on", "arguments": {"target": "light.kitchen"}}]'),
    ],
)
def test_a_call_is_trained_on_as_the_template_writes_it_and_its_result_is_not(family, call, replies):
    found = replies(build_tokenizer(family), *USED_TOOLS, tools=[TOOL])

    assert found == [f"{call}{END[family]}", f"It is on.{END[family]}"]


def test_calls_are_found_where_a_template_moves_the_tools_as_the_conversation_goes_on(replies):
    turns = [*USED_TOOLS, user("Again."), *USED_TOOLS[1:]]

    found = replies(build_tokenizer("mistral"), *turns, tools=[TOOL])

    assert [text.startswith("[TOOL_CALLS] [{") for text in found] == [True, False, True, False]
    assert all(text.endswith("</s>") for text in found)


@pytest.mark.parametrize("words", ["", "At once."])
def test_a_template_that_writes_no_calls_is_refused(words, rows_of):
    turns = [user("On!"), assistant(words, tool_calls=[CALL]), *USED_TOOLS[2:]]

    (problem,) = refusal(Labeller(build_tokenizer("chatml")).label(rows_of({"messages": turns}))).problems

    assert "leaves out that the assistant calls light.turn_on in turn 1" in problem
    assert "chat_template" in problem


def test_a_call_with_text_before_it_is_one_reply(replies):
    turns = [user("On!"), assistant("At once.", tool_calls=[CALL, CALL])]

    (found,) = replies(build_tokenizer("qwen2"), *turns, tools=[TOOL])

    assert found.startswith("At once.\n<tool_call>\n")
    assert found.count("light.kitchen") == 2
    assert found.endswith("</tool_call><|im_end|>")


def test_a_call_that_was_made_to_fail_is_not_trained_on(replies):
    failing, *rest = USED_TOOLS[1:]
    turns = [USED_TOOLS[0], failing | {"train_on_turn": False}, *rest]

    assert replies(build_tokenizer("qwen2"), *turns, tools=[TOOL]) == ["It is on.<|im_end|>"]


def test_a_call_may_end_with_a_token_of_its_own(replies):
    tokenizer = build_tokenizer("llama3")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|eom_id|>"]})
    tokenizer.chat_template = LLAMA3.replace(
        "{{ '<|eot_id|>' }}", "{{ '<|eom_id|>' if message['tool_calls'] else '<|eot_id|>' }}"
    )

    call, answer = replies(tokenizer, *USED_TOOLS, tools=[TOOL])

    assert call.endswith('"light.kitchen"}}<|eom_id|>')
    assert answer == "It is on.<|eot_id|>"


# --- templates with ways of their own -----------------------------------------------------------------------

PLAIN = (
    "{% for message in messages %}{{ message['role'] | capitalize + ': ' + message['content'] }}"
    "{% if not loop.last %}{{ '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\nAssistant: ' }}{% endif %}"
)
SEPARATED = PLAIN.replace("{{ '\n' }}", "{{ eos_token }}").replace("'\nAssistant: '", "eos_token + 'Assistant: '")
THINKING = (
    "{% set asked = namespace(last=0) %}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{% set asked.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for message in messages %}{% set content = message['content'] %}{% set thought = '' %}"
    "{% if '</think>' in content %}{% set thought = content.split('</think>')[0].split('<think>')[-1] | trim %}"
    "{% set content = content.split('</think>')[-1].lstrip() %}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' and loop.index0 > asked.last %}"
    "{{ '<think>\n' + thought + '\n</think>\n\n' }}{% endif %}{{ content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def with_template(family: str, template: str) -> PreTrainedTokenizerBase:
    tokenizer = build_tokenizer(family)
    tokenizer.chat_template = template
    return tokenizer


TWO_ROUNDS = [user("One?"), assistant("First."), user("Two?"), assistant("Second.")]


def test_where_nothing_ends_the_last_turn_the_eos_is_appended_and_trained_on(rows_of):
    tokenizer = with_template("chatml", PLAIN)

    example = only(Labeller(tokenizer).label(rows_of({"messages": TWO_ROUNDS})))

    # In this vocabulary a space joins the word after it, but the generation prompt ends with the space.
    assert trained_on(tokenizer, example) == ["First.<|im_end|>", "Second.<|im_end|>"]
    assert example.input_ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(example.input_ids[:-1]) == tokenizer.apply_chat_template(TWO_ROUNDS, tokenize=False)


def test_the_eos_comes_directly_after_the_text_if_only_a_line_break_followed(replies):
    tokenizer = with_template("chatml", PLAIN.replace("{% if not loop.last %}", "{% if true %}"))

    assert replies(tokenizer, *TWO_ROUNDS)[-1] == "Second.<|im_end|>"


def test_a_separator_between_turns_ends_them_and_the_last_turn_gets_the_eos(replies):
    assert replies(with_template("zephyr", SEPARATED), *TWO_ROUNDS) == ["First.</s>", "Second.</s>"]


def test_nothing_after_the_last_supervised_reply_is_in_the_sequence(rows_of):
    tokenizer = with_template("chatml", PLAIN)
    turns = [*TWO_ROUNDS[:3], assistant("Second.", train_on_turn=False)]

    example = only(Labeller(tokenizer).label(rows_of({"messages": turns})))

    assert trained_on(tokenizer, example) == ["First.<|im_end|>"]
    assert tokenizer.decode(example.input_ids) == "User: One?\nAssistant: First.<|im_end|>"


def test_where_only_the_next_header_ends_a_reply_every_reply_learns_to_end_with_it(replies):
    tokenizer = build_tokenizer("phi3")
    tokenizer.chat_template = (
        "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
    )

    assert replies(tokenizer, *TWO_ROUNDS) == ["First.<|user|>", "Second.<|user|>"]


@pytest.mark.parametrize("family", ["gemma", "mistral"])
def test_a_template_that_refuses_a_system_role_is_quoted_and_the_row_named(family, rows_of):
    rows = rows_of({"messages": [system("You are Al."), *TWO_ROUNDS]})

    (problem,) = refusal(Labeller(build_tokenizer(family)).label(rows)).problems

    assert problem.startswith(f"{rows[0].path}:1: row 0: the chat template refuses this conversation")
    assert "upported" in problem
    assert "into the first user's turn" in problem


def test_no_remedy_about_the_system_turn_if_the_template_refuses_without_it_too(rows_of):
    rows = rows_of({"messages": [system("You are Al."), user("One?"), user("Two?"), assistant("Both.")]})

    (problem,) = refusal(Labeller(build_tokenizer("llama2")).label(rows)).problems

    assert "must alternate" in problem
    assert "no-system-role" not in problem


def test_a_template_that_adds_a_system_turn_of_its_own_trains_on_none_of_it(replies):
    assert replies(build_tokenizer("qwen2"), *TWO_ROUNDS) == ["First.<|im_end|>", "Second.<|im_end|>"]


def test_a_thought_that_a_template_drops_from_history_is_still_trained_on(replies):
    turns = [
        user("One?"),
        assistant("<think>\nHm.\n</think>\n\nFirst."),
        user("Two?"),
        assistant("<think>\nAha.\n</think>\n\nSecond."),
    ]

    assert replies(with_template("chatml", THINKING), *turns) == [
        "<think>\nHm.\n</think>\n\nFirst.<|im_end|>",
        "<think>\nAha.\n</think>\n\nSecond.<|im_end|>",
    ]


def test_an_empty_thought_that_the_generation_prompt_does_not_write_is_trained_on(replies):
    assert replies(with_template("chatml", THINKING), *TWO_ROUNDS) == [
        "<think>\n\n</think>\n\nFirst.<|im_end|>",
        "<think>\n\n</think>\n\nSecond.<|im_end|>",
    ]


def test_a_reply_after_a_prompt_that_opens_a_thought_closes_it_first(replies):
    tokenizer = with_template("chatml", CHATML.replace("assistant\n' }}{% endif", "assistant\n<think>\n' }}{% endif"))

    assert replies(tokenizer, *TWO_ROUNDS) == ["\n</think>\n\nFirst.<|im_end|>", "\n</think>\n\nSecond.<|im_end|>"]


def test_text_that_a_template_rewrites_is_trained_on_as_rendered(replies):
    tokenizer = with_template(
        "chatml", CHATML.replace("message['content'] +", "message['content'] | replace('light', 'lamp') +")
    )

    assert replies(tokenizer, user("Light?"), assistant("The light is on.")) == ["The lamp is on.<|im_end|>"]


def test_a_reply_that_a_template_leaves_out_is_refused_with_the_remedy(rows_of):
    tokenizer = with_template(
        "chatml",
        CHATML.replace("message['content'] +", "(message['content'] if 'secret' not in message['content'] else '') +"),
    )
    rows = rows_of({"messages": [user("One?"), assistant("It is secret."), user("Two?"), assistant("Second.")]})

    (problem,) = refusal(Labeller(tokenizer).label(rows)).problems

    assert "leaves out the assistant's text in turn 1" in problem
    assert "train_on_turn: false" in problem


def test_a_reply_that_the_generation_prompt_begins_itself_is_refused(rows_of):
    answers_itself = "{% if messages[-1]['role'] == 'user' %}{{ '<|im_start|>assistant\nOkay' }}{% endif %}"
    tokenizer = with_template("chatml", CHATML + answers_itself)
    rows = rows_of({"messages": [user("Light?"), assistant("Okay, it is on.")]})

    (problem,) = refusal(Labeller(tokenizer).label(rows)).problems

    assert "leaves out the assistant's text in turn 1" in problem


def test_a_template_that_renders_no_conversation_is_refused_before_any_row():
    with pytest.raises(BadInput, match=r"renders no plain conversation.*never"):
        Labeller(with_template("chatml", "{{ raise_exception('never') }}"))


@pytest.mark.parametrize("variable", ["strftime_now('%d %b %Y')", "strftime_now('%d ' + '%b %Y')"])
def test_a_template_that_asks_for_the_date_gets_the_date_of_the_run(variable, rows_of):
    today = "{{ '<|im_start|>system\nToday is ' + " + variable + " + '.<|im_end|>\n' }}"
    tokenizer = with_template("chatml", today + CHATML)
    rows = rows_of({"messages": TWO_ROUNDS})

    example = only(Labeller(tokenizer, today=date(2026, 7, 1)).label(rows))

    assert "Today is 01 Jul 2026." in tokenizer.decode(example.input_ids)
    assert date.today().strftime("%d %b %Y") in tokenizer.apply_chat_template(TWO_ROUNDS, tokenize=False)


# --- generation tags ----------------------------------------------------------------------------------------

TAG, END_TAG = "{% generation %}", "{% endgeneration %}"


@pytest.mark.parametrize(
    "inside",
    [
        "{{ header }}" + TAG + "{{ message['content'] + '<|im_end|>' }}" + END_TAG + "{{ '\n' }}",
        "{{ header }}" + TAG + "{{ message['content'] }}" + END_TAG + "{{ '<|im_end|>\n' }}",
        "{{ header }}" + TAG + "{{ message['content'] + '<|im_end|>\n' }}" + END_TAG,
        TAG + "{{ header + message['content'] + '<|im_end|>\n' }}" + END_TAG,
    ],
    ids=["text and end", "text alone", "with the line break", "with the header"],
)
def test_generation_tags_are_followed_to_the_text_and_its_end(inside, replies):
    template = (
        "{% for message in messages %}{% set header = '<|im_start|>' + message['role'] + '\n' %}"
        "{% if message['role'] == 'assistant' %}" + inside + "{% else %}"
        "{{ header + message['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )

    found = replies(with_template("chatml", template), *TWO_ROUNDS[:3], assistant("Second.", train_on_turn=False))

    assert found == ["First.<|im_end|>"]


# --- raw text -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", CHAT_FAMILIES)
def test_raw_text_is_searched_for_the_models_own_markers(family, rows_of):
    tokenizer = build_tokenizer(family)
    text = tokenizer.apply_chat_template(TWO_ROUNDS, tokenize=False)

    example = only(Labeller(tokenizer).label(rows_of({"text": text})))

    assert trained_on(tokenizer, example) == [f"First.{END[family]}", f"Second.{END[family]}"]
    assert example.input_ids.tolist() == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_a_raw_text_whose_reply_is_not_closed_gets_the_eos(rows_of):
    tokenizer = build_tokenizer("zephyr")

    example = only(Labeller(tokenizer).label(rows_of({"text": "<|user|>\nHi</s>\n<|assistant|>\nHello.\n"})))

    assert trained_on(tokenizer, example) == ["Hello.</s>"]


def test_a_header_that_nothing_follows_is_no_reply(rows_of):
    tokenizer = build_tokenizer("zephyr")
    text = "<|assistant|>\n</s>\n<|user|>\nHi</s>\n<|assistant|>\nHello.</s>\n<|user|>\nBye</s>\n<|assistant|>\n"

    example = only(Labeller(tokenizer).label(rows_of({"text": text})))

    assert trained_on(tokenizer, example) == ["Hello.</s>"]
    assert tokenizer.decode(example.input_ids).rstrip().endswith("<|assistant|>")


def test_a_raw_text_without_the_header_is_refused_as_text_and_tokens(rows_of):
    rows = rows_of({"text": "USER: Hi\nBOT: Hello"})

    bad = refusal(Labeller(build_tokenizer("zephyr")).label(rows))

    (problem,) = bad.problems
    assert problem.startswith(
        f"{rows[0].path}:1: row 0: no token to train on: looked for a reply after '<|assistant|>'"
    )
    assert "find-split" in problem
    assert "USER: Hi\\nBOT: Hello" in bad.detail
    assert ":'H'" in bad.detail or "Hello" in bad.detail


# --- ids ----------------------------------------------------------------------------------------------------


def ids_of(tokenizer: PreTrainedTokenizerBase, *tokens: str) -> list[int]:
    return tokenizer.convert_tokens_to_ids(list(tokens))


def test_with_ids_a_reply_ends_with_the_suffixs_first_id_whatever_follows(replies):
    tokenizer = build_tokenizer("chatml")
    prefix = tokenizer("<|im_start|>assistant\n")["input_ids"]
    suffix = [*ids_of(tokenizer, "<|im_end|>"), *prefix]

    found = replies(tokenizer, *TWO_ROUNDS, prefix_ids=prefix, suffix_ids=suffix)

    assert found == ["First.<|im_end|>", "Second.<|im_end|>"]


def test_with_ids_the_choice_of_turns_still_holds(replies):
    tokenizer = build_tokenizer("chatml")
    ids = {
        "prefix_ids": tokenizer("<|im_start|>assistant\n")["input_ids"],
        "suffix_ids": ids_of(tokenizer, "<|im_end|>"),
    }
    turns = [user("One?"), assistant("First.", train_on_turn=False), user("Two?"), assistant("Second.")]

    assert replies(tokenizer, *turns, **ids) == ["Second.<|im_end|>"]


def test_with_ids_a_user_who_imitates_the_prefix_is_not_trained_on(replies):
    tokenizer = build_tokenizer("chatml")
    ids = {
        "prefix_ids": tokenizer("<|im_start|>assistant\n")["input_ids"],
        "suffix_ids": ids_of(tokenizer, "<|im_end|>"),
    }

    found = replies(tokenizer, user("<|im_start|>assistant\nPsst."), assistant("No."), **ids)

    assert found == ["No.<|im_end|>"]


def test_ids_that_are_not_found_are_reported_as_numbers_and_text(rows_of):
    tokenizer = build_tokenizer("chatml")
    prefix = tokenizer("Nobody:")["input_ids"]
    rows = rows_of({"messages": TWO_ROUNDS})

    bad = refusal(Labeller(tokenizer, prefix, ids_of(tokenizer, "<|im_end|>")).label(rows))

    (problem,) = bad.problems
    assert f"looked for prefix_ids {','.join(map(str, prefix))} ('Nobody:')" in problem
    assert "find-split" in problem
    assert "First." in bad.detail


def test_ids_find_replies_in_raw_text_too(rows_of):
    tokenizer = build_tokenizer("chatml")
    prefix, end = tokenizer("BOT:")["input_ids"], ids_of(tokenizer, "<|im_end|>")
    rows = rows_of({"text": "USER: Hi<|im_end|>BOT: Hello<|im_end|>USER: Bye<|im_end|>BOT: Bye"})

    example = only(Labeller(tokenizer, prefix, end).label(rows))

    assert trained_on(tokenizer, example) == [" Hello<|im_end|>", " Bye<|im_end|>"]


def test_with_ids_a_header_that_nothing_follows_is_no_reply(rows_of):
    tokenizer = build_tokenizer("chatml")
    prefix, end = tokenizer("BOT:")["input_ids"], ids_of(tokenizer, "<|im_end|>")
    rows = rows_of({"text": "BOT:<|im_end|>BOT: Hello<|im_end|>USER: Bye<|im_end|>BOT:"})

    example = only(Labeller(tokenizer, prefix, end).label(rows))

    assert trained_on(tokenizer, example) == [" Hello<|im_end|>"]


def test_one_list_of_ids_alone_is_refused():
    with pytest.raises(BadInput, match="both, or neither"):
        Labeller(build_tokenizer("chatml"), prefix_ids=[1])


# --- rows that teach nothing --------------------------------------------------------------------------------


def test_a_row_without_an_answer_is_refused_by_name(rows_of):
    rows = rows_of({"messages": [user("Anybody there?")]})

    bad = refusal(Labeller(build_tokenizer("chatml")).label(rows))

    (problem,) = bad.problems
    assert problem.startswith(f"{rows[0].path}:1: row 0: no token to train on")
    assert "a turn of the assistant" in problem
    assert "find-split" in problem
    assert "Anybody there?" in bad.detail
    assert "'<|im_start|>'" in bad.detail


def test_a_row_that_trains_on_no_turn_is_refused_with_the_reason(rows_of):
    rows = rows_of({"messages": [user("Hi."), assistant("Hello.", train_on_turn=False)]})

    (problem,) = refusal(Labeller(build_tokenizer("chatml")).label(rows)).problems

    assert "train_on_turn: false" in problem


def test_rows_are_labelled_in_order_also_after_bad_ones(rows_of):
    good, bad = {"messages": TWO_ROUNDS}, {"messages": [user("Hi.")]}

    labelled = Labeller(build_tokenizer("chatml")).label(rows_of(bad, good, bad, good))

    assert [type(item) for item in labelled] == [BadRow, Example, BadRow, Example]
    assert [item.row for item in labelled if isinstance(item, Example)] == [1, 3]


def test_padding_left_on_in_a_saved_tokenizer_changes_nothing(rows_of):
    tokenizer = build_tokenizer("chatml")
    rows = rows_of({"messages": TWO_ROUNDS}, {"messages": TWO_ROUNDS * 3})
    plain = [example.length for example in Labeller(tokenizer).label(rows)]

    tokenizer.backend_tokenizer.enable_padding(length=512)
    tokenizer.backend_tokenizer.enable_truncation(8)

    assert [example.length for example in Labeller(tokenizer).label(rows)] == plain


def test_the_families_have_the_tokens_of_their_models():
    assert set(END) == set(CHAT_FAMILIES) == set(FAMILIES) - {"phi"}
    assert build_tokenizer("zephyr").chat_template == ZEPHYR
    assert build_tokenizer("mistral").chat_template == MISTRAL
