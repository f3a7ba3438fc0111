import json
from pathlib import Path

import pytest

from hatrain.contract import hub
from hatrain.data.labels import Example, Labeller
from hatrain.data.rows import Message, Row
from hatrain.errors import BadInput
from hatrain.model.tokenizer import load_tokenizer
from tests.families import build_tokenizer


@pytest.fixture
def saved(tmp_path):
    def save(family: str) -> str:
        build_tokenizer(family).save_pretrained(tmp_path / family)
        return str(tmp_path / family)

    return save


def test_a_folder_is_loaded_with_its_chat_template(saved):
    tokenizer = load_tokenizer(saved("zephyr"))

    assert tokenizer.chat_template == build_tokenizer("zephyr").chat_template
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("</s>", "</s>")


def test_a_tokenizer_without_a_pad_token_pads_with_its_eos(saved):
    tokenizer = load_tokenizer(saved("llama3"))

    assert tokenizer.pad_token == tokenizer.eos_token == "<|eot_id|>"
    assert len(tokenizer) == len(build_tokenizer("llama3"))


def test_a_base_without_a_chat_template_is_refused_with_both_remedies(saved):
    with pytest.raises(BadInput, match=r"add_chatml_tokens: true .* chat_template"):
        load_tokenizer(saved("phi"))


def test_a_template_file_replaces_all_other_templates(saved, tmp_path):
    template = tmp_path / "mine.jinja"
    template.write_text("{{ messages[0]['content'] }}")

    tokenizer = load_tokenizer(saved("zephyr"), chat_template=template, add_chatml_tokens=True)

    assert tokenizer.chat_template == template.read_text()


def test_a_missing_template_file_is_refused(saved, tmp_path):
    with pytest.raises(BadInput, match=r"chat_template: .*nowhere\.jinja: cannot be read"):
        load_tokenizer(saved("zephyr"), chat_template=tmp_path / "nowhere.jinja")


def test_a_missing_model_is_refused():
    with pytest.raises(BadInput, match=r"no/such/model"):
        load_tokenizer("no/such/model")


def test_a_pad_token_of_its_own_is_new_and_is_not_the_eos(saved):
    plain = build_tokenizer("llama3")

    tokenizer = load_tokenizer(saved("llama3"), add_pad_token=True)

    assert tokenizer.pad_token == "<|pad|>"
    assert tokenizer.pad_token_id == len(plain)
    assert tokenizer.eos_token == plain.eos_token


def test_a_tokenizer_with_a_pad_token_gets_no_other(saved):
    tokenizer = load_tokenizer(saved("qwen2"), add_pad_token=True)

    assert tokenizer.pad_token == "<|endoftext|>"
    assert len(tokenizer) == len(build_tokenizer("qwen2"))


def test_chatml_tokens_are_single_special_and_the_second_ends_a_reply(saved):
    tokenizer = load_tokenizer(saved("phi"), add_chatml_tokens=True, add_pad_token=True)

    size = len(build_tokenizer("phi"))
    ids = tokenizer("<|im_start|>user\nHi<|im_end|>")["input_ids"]
    assert (ids[0], ids[-1]) == (size, size + 1)
    assert tokenizer.eos_token_id == size + 1
    assert tokenizer.bos_token == "<|endoftext|>"
    assert tokenizer.pad_token_id == size + 2
    assert tokenizer.decode(ids, skip_special_tokens=True) == "user\nHi"


def test_existing_tokens_keep_their_ids(saved):
    tokenizer = load_tokenizer(saved("qwen2"), add_chatml_tokens=True)

    assert len(tokenizer) == len(build_tokenizer("qwen2"))
    assert tokenizer.eos_token == "<|im_end|>"


def test_additions_are_saved(saved, tmp_path):
    first = load_tokenizer(saved("phi"), add_chatml_tokens=True, add_pad_token=True)
    first.save_pretrained(tmp_path / "again")

    second = load_tokenizer(str(tmp_path / "again"))

    assert second.get_vocab() == first.get_vocab()
    assert second.chat_template == first.chat_template
    assert (second.eos_token_id, second.pad_token_id) == (first.eos_token_id, first.pad_token_id)


# --- the ChatML format --------------------------------------------------------------------------------------

CALL = {"type": "function", "function": {"name": "light.turn_on", "arguments": {"target": "light.kitchen"}}}
TOOL = {"type": "function", "function": {"name": "light.turn_on", "description": "Lights a lamp."}}


def test_chatml_is_rendered_in_its_usual_form(saved):
    tokenizer = load_tokenizer(saved("phi"), add_chatml_tokens=True)
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": " Hi\n"},
        {"role": "assistant", "content": "Hello."},
    ]

    assert tokenizer.apply_chat_template(messages, tokenize=False) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi\n<|im_end|>\n"
        "<|im_start|>assistant\nHello.<|im_end|>\n"
    )
    assert tokenizer.apply_chat_template(messages[1:2], tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>user\n Hi\n<|im_end|>\n<|im_start|>assistant\n"
    )


def test_chatml_renders_tools_calls_and_results(saved):
    tokenizer = load_tokenizer(saved("phi"), add_chatml_tokens=True)
    messages = (
        Message("system", "Be brief."),
        Message("user", "Light!"),
        Message("assistant", "", train=True, tool_calls=(CALL, CALL)),
        Message("tool", '{"result": "done"}'),
        Message("tool", '{"result": "also done"}'),
        Message("assistant", "It is on.", train=True),
    )

    (example,) = Labeller(tokenizer).label([Row(Path("rows"), 0, 1, messages, tools=(TOOL,))])

    assert isinstance(example, Example), example.problems
    text = tokenizer.decode(example.input_ids)
    assert text.startswith("<|im_start|>system\nBe brief.\n\n")
    assert json.dumps(TOOL) in text
    results = '<tool_response>\n{"result": "done"}\n</tool_response>\n<tool_response>\n{"result": "also done"}'
    assert f"<|im_start|>user\n{results}\n</tool_response><|im_end|>\n" in text
    call = '<tool_call>\n{"name": "light.turn_on", "arguments": {"target": "light.kitchen"}}\n</tool_call>'
    assert [tokenizer.decode(example.input_ids[start:end]) for start, end in example.replies] == [
        f"{call}\n{call}<|im_end|>",
        "It is on.<|im_end|>",
    ]


LOOPS = "{% for a in range(9999) %}" * 3 + "{% endfor %}" * 3


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (LOOPS, "has not rendered one short message after 2 s: it loops"),
        ("{{ 1 / 0 }}", "its chat template fails: ZeroDivisionError"),
        ("{% for a in range(1000000000) %}{% endfor %}", "its chat template fails: OverflowError"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "its chat template fails: RecursionError"),
    ],
    ids=["loops", "zero", "range", "recursion"],
)
def test_a_template_that_cannot_render_is_one_line_within_seconds(tmp_path, template, words):
    build_tokenizer("qwen2").save_pretrained(tmp_path)
    path = tmp_path / "own.jinja"
    path.write_text(template)
    with pytest.raises(BadInput) as caught:
        load_tokenizer(str(tmp_path), chat_template=path)
    (line,) = caught.value.problems
    assert line.startswith(f"{path}: ") and words in line


def test_a_hub_that_does_not_answer_is_said_before_its_client_retries(monkeypatch):
    monkeypatch.setattr(hub, "unavailable", lambda base, revision: f"{base}: not in the model cache")
    with pytest.raises(BadInput) as raised:
        load_tokenizer("some/base")
    assert raised.value.problems == ("model.base: some/base: not in the model cache",)
