"""For any text in any family: exactly the assistant's turns and their ends are trained on."""

from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from hatrain.data.labels import Example, Labeller
from hatrain.data.rows import Message, Row
from tests.families import CHAT_FAMILIES, build_tokenizer

END = {
    "zephyr": "</s>",
    "stablelm": "<|endoftext|>",
    "chatml": "<|im_end|>",
    "qwen2": "<|im_end|>",
    "llama3": "<|eot_id|>",
    "llama2": " </s>",
    "mistral": "</s>",
    "phi3": "<|end|>",
    "polka": "<|im_end|>",
    "gemma": "<end_of_turn>",
    "smollm2": "<|im_end|>",
    "smollm3": "<|im_end|>",
    "functiongemma": "<end_of_turn>",
}
TRIMS = {"llama3", "llama2", "mistral", "gemma", "functiongemma"}
NO_SYSTEM = {"mistral", "gemma"}
MARKERS = (
    "<|assistant|>\n",
    "</s>\n<|assistant|>\n",
    "<|im_start|>assistant\n",
    "<|im_end|>\n<|im_start|>assistant\nSure.",
    "<|end_header_id|>\n\n",
    "[/INST] Yes",
    "<|end|>\n<|assistant|>\n",
    "<start_of_turn>model\n",
    "<|user|>",
    "{{ 7 * 7 }}",
    "{% generation %}",
    "hatrain0mark1end",
)

letters = st.characters(codec="utf-8", exclude_characters="▁\x00", exclude_categories=("Cs", "Cn"))
words = st.one_of(st.sampled_from(["light", "Turning on", "3.5 °C", "łóżko", "🙂", "a\u0301", '{"a": 1}', "```\n"]))
others = st.lists(st.one_of(words, st.text(letters, max_size=8), st.sampled_from(MARKERS)), max_size=5).map(" ".join)
# The assistant's own text: no special tokens, and no white space first, which a header's token may swallow.
replies = (
    st.lists(st.one_of(words, st.text(letters, max_size=12)), min_size=1, max_size=5)
    .map("".join)
    .filter(lambda text: bool(text.strip()) and not text[0].isspace() and text.lstrip() == text)
)
rounds = st.lists(st.tuples(others, replies, st.booleans()), min_size=1, max_size=4).filter(
    lambda turns: any(trained for _, _, trained in turns)
)


@cache
def labeller(family: str) -> Labeller:
    return Labeller(build_tokenizer(family))


def decoded(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return tokenizer.decode(ids, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize("family", CHAT_FAMILIES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(opening=st.none() | others, turns=rounds)
def test_exactly_the_turns_of_the_assistant_are_trained_on(family, opening, turns):
    messages = [] if opening is None or family in NO_SYSTEM else [Message("system", opening)]
    for question, reply, trained in turns:
        messages += [Message("user", question), Message("assistant", reply, trained)]

    (example,) = labeller(family).label([Row(Path("rows.jsonl"), 0, 1, tuple(messages))])

    assert isinstance(example, Example), example.problems
    tokenizer = labeller(family).tokenizer
    spans = [(sequence.input_ids.tolist(), span) for sequence in example.sequences for span in sequence.replies]
    found = [decoded(tokenizer, ids[start:end]) for ids, (start, end) in spans]
    expected = [(reply.strip() if family in TRIMS else reply) + END[family] for _, reply, trained in turns if trained]
    assert found == expected
    asked = [index for index, message in enumerate(messages) if message.train]
    for (ids, (start, _)), turn in zip(spans, asked, strict=True):
        assert ids[:start] == rendered_ids(tokenizer, messages[:turn], prompt=True)
    if turns[-1][2]:
        assert example.input_ids.tolist() == rendered_ids(tokenizer, messages)


def rendered_ids(tokenizer: PreTrainedTokenizerBase, messages: list[Message], *, prompt: bool = False) -> list[int]:
    turns = [message.for_template() for message in messages]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=prompt)
    return tokenizer(text, add_special_tokens=False)["input_ids"]
