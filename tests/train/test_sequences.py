"""Training with a template that renders earlier replies otherwise than it asks for them: a row of several replies is
several sequences and stays one row."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
import trl
from transformers import AutoModelForCausalLM, AutoTokenizer

from hatrain.contract.run import Exit, RunDirectory
from tests.train.conftest import house_rows, metrics, weights
from tests.train.test_sft import without_dropout

QWEN3 = Path(trl.__file__).parent / "chat_templates" / "qwen3.jinja"


@pytest.fixture
def plan(workplace):
    return lambda name="run", **changes: workplace.plan(name, model__chat_template=str(QWEN3), **changes)


def served_loss(model, tokenizer, rows) -> float:
    """The mean loss of each reply after what a server asks with, computed with nothing but transformers."""
    roles = {"system": "system", "human": "user", "gpt": "assistant"}
    total = count = 0
    for row in rows:
        messages = [{"role": roles[turn["from"]], "content": turn["value"]} for turn in row["conversations"]]
        for number, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            text = tokenizer.apply_chat_template(messages[:number], tokenize=False, add_generation_prompt=True)
            prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
            reply = tokenizer(message["content"] + "<|im_end|>", add_special_tokens=False)["input_ids"]
            with torch.no_grad():
                logits = model(torch.tensor([prompt + reply])).logits[0, len(prompt) - 1 : -1]
            total += F.cross_entropy(logits, torch.tensor(reply), reduction="sum").item()
            count += len(reply)
    return total / count


def test_every_reply_is_trained_as_a_server_asks_for_it(workplace, plan):
    tried = workplace.attempt(plan(method__epochs=4, evaluation__sample="all"))
    assert (tried.code, tried.reason) == (Exit.FINISHED, "trained")
    test_loss = {event["when"]: event["loss"] for event in tried.run.events() if event["event"] == "test loss"}
    assert test_loss["after"] < 0.5 * test_loss["before"]
    model, tokenizer = (kind.from_pretrained(tried.run.model) for kind in (AutoModelForCausalLM, AutoTokenizer))
    assert served_loss(model, tokenizer, house_rows(20, 2)) == pytest.approx(test_loss["after"], rel=1e-3)


def test_a_row_of_several_sequences_counts_once_for_steps_and_the_micro_batch_changes_no_result(workplace, plan):
    base = without_dropout(workplace)
    plans = [plan(f"micro-{micro}", model__base=base, method__micro_batch_size=micro) for micro in (1, 8)]
    runs = [workplace.attempt(plan).run for plan in plans]
    for run in runs:
        assert metrics(run)[-1]["steps"] == 8  # 60 rows, 8 a step
    first, second = (weights(run.model) for run in runs)
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-3, atol=1e-5)


def test_a_resumed_run_ends_with_the_same_weights_to_the_bit(workplace, plan):
    whole = workplace.attempt(plan("whole"))
    workplace.attempt(plan("stopped"), stop_at=5)
    resumed = workplace.attempt(plan("stopped"))
    assert resumed.code == Exit.FINISHED
    first, second = weights(whole.run.model), weights(resumed.run.model)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_template_that_writes_the_date_gets_that_of_the_first_attempt(workplace):
    from hatrain.model.tokenizer import tokenizer_of
    from hatrain.train.rows import load_rows

    template = workplace.folder / "dated.jinja"
    template.write_text(
        "{{ strftime_now('%d %b %Y') }}" + (workplace.inputs / "base" / "chat_template.jinja").read_text()
    )
    plan = workplace.plan(model__chat_template=str(template))
    run = RunDirectory(Path(plan.paths.run))
    run.record("attempt begun", attempt=1, date="2026-02-27")
    tokenizer = tokenizer_of(plan.job.model)
    rows = load_rows(plan, tokenizer, run)
    for dataset in (rows.train, rows.test):
        assert tokenizer.decode(dataset.input_ids[0]).startswith("27 Feb 2026")
