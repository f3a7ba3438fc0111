import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hatrain.data.dataset import tokenize_dataset
from hatrain.data.labels import Example
from hatrain.data.pairs import TokenizedPairs, tokenize_pairs
from hatrain.errors import BadInput
from tests.families import CHAT_FAMILIES, build_tokenizer

TURNED = "Turning on the kitchen light."
SORRY = "Sorry, there is no such device."
PAIR = {"question": "Turn on the kitchen light.", "chosen": TURNED, "rejected": SORRY}
CALL = {"function": {"name": "light.turn_on", "arguments": {"target": "light.kitchen"}}}
TOOL = {"type": "function", "function": {"name": "light.turn_on", "parameters": {"type": "object"}}}
ENDS = {
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


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def as_turns(pair: dict[str, Any]) -> dict[str, Any]:
    system = [{"role": "system", "content": pair["system"]}] if "system" in pair else []
    return {
        "prompt": [*system, user(pair["question"])],
        "chosen": [assistant(pair["chosen"])],
        "rejected": [assistant(pair["rejected"])],
    }


@pytest.fixture
def tokenized(tmp_path: Path):
    """Tokenize some rows of a file, by default in the ChatML format."""

    def tokenize(*rows: Any, family: str = "chatml", ctx_size: int = 512, **options: Any) -> TokenizedPairs:
        path = tmp_path / "pairs.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return tokenize_pairs(path, build_tokenizer(family), ctx_size=ctx_size, **options)

    return tokenize


def completion(example: Example, family: str = "chatml") -> list[str]:
    tokenizer = build_tokenizer(family)
    return [tokenizer.decode(example.input_ids[start:end]) for start, end in example.replies]


def same(one: TokenizedPairs, other: TokenizedPairs) -> bool:
    def sides(pairs: TokenizedPairs) -> list[tuple[list[int], Any]]:
        return [(side.input_ids.tolist(), side.replies) for side in (*pairs.chosen, *pairs.rejected)]

    return sides(one) == sides(other)


# --- what is accepted ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", CHAT_FAMILIES)
def test_exactly_an_answer_and_its_end_of_turn_are_trained_on(tokenized, family):
    pairs = tokenized(PAIR, family=family)
    (chosen,), (rejected,) = pairs.chosen, pairs.rejected
    # Where a template puts a space before an answer, it is part of both answers or of none.
    answers = ["".join(completion(side, family)).removeprefix(" ") for side in (chosen, rejected)]
    assert answers == [TURNED + ENDS[family], SORRY + ENDS[family]]
    starts = {side.replies[0][0] for side in (chosen, rejected)}
    assert len(starts) == 1, "the prompt must be as long on both sides"
    start = starts.pop()
    assert chosen.input_ids[:start].tolist() == rejected.input_ids[:start].tolist()


@pytest.mark.parametrize("family", ["zephyr", "qwen2", "llama3", "llama2", "phi3"])
def test_a_question_and_a_list_of_turns_give_the_same_pair(tokenized, family):
    pair = {"system": "You are Al.", **PAIR}
    written = as_turns(pair)
    shared = {side: [*written["prompt"], *written[side]] for side in ("chosen", "rejected")}
    texts, turns, implicit = (tokenized(row, family=family) for row in (pair, written, shared))
    assert same(texts, turns)
    assert same(texts, implicit)


def test_an_answer_is_labelled_as_in_supervised_training(tokenized, tmp_path):
    turns = as_turns({"system": "You are Al.", **PAIR})
    pairs = tokenized(turns)
    for side, example in (("chosen", pairs.chosen[0]), ("rejected", pairs.rejected[0])):
        path = tmp_path / "rows.jsonl"
        path.write_text(json.dumps({"messages": [*turns["prompt"], *turns[side]]}))
        (row,) = tokenize_dataset(path, build_tokenizer("chatml"), ctx_size=512).examples
        assert example.input_ids.tolist() == row.input_ids.tolist()
        assert example.labels.tolist() == row.labels.tolist()


def test_earlier_answers_belong_to_the_prompt(tokenized):
    history = [user("hello"), assistant("yes"), user("Is the front door locked?")]
    row = {
        "prompt": history,
        "chosen": [assistant("The front door is locked.")],
        "rejected": [assistant("no")],
    }
    pairs = tokenized(row)
    assert completion(pairs.chosen[0]) == ["The front door is locked.<|im_end|>"]
    assert completion(pairs.rejected[0]) == ["no<|im_end|>"]


def test_without_a_prompt_the_shared_turns_are_the_prompt(tokenized):
    opening = [user("hello"), assistant("yes"), user("Is the front door locked?")]
    row = {
        "chosen": [*opening, assistant("The front door is locked.")],
        "rejected": [*opening, assistant("no")],
    }
    assert completion(tokenized(row).chosen[0]) == ["The front door is locked.<|im_end|>"]


def test_a_prompt_that_is_null_is_no_prompt(tokenized):
    turns = as_turns(PAIR)
    row = {side: [*turns["prompt"], *turns[side]] for side in ("chosen", "rejected")}
    assert same(tokenized({"prompt": None, **row}), tokenized(PAIR))


def test_an_answer_may_call_tools_and_go_on(tokenized):
    row = {
        "prompt": [user("Turn on the kitchen light.")],
        "chosen": [
            assistant("", tool_calls=[CALL]),
            {"role": "tool", "content": "on"},
            assistant(TURNED),
        ],
        "rejected": [assistant(SORRY)],
        "tools": [TOOL],
    }
    pairs = tokenized(row, family="qwen2")
    call = '<tool_call>\n{"name": "light.turn_on", "arguments": {"target": "light.kitchen"}}\n</tool_call>'
    assert completion(pairs.chosen[0], "qwen2") == [call + "<|im_end|>", TURNED + "<|im_end|>"]
    assert completion(pairs.rejected[0], "qwen2") == [SORRY + "<|im_end|>"]
    text = build_tokenizer("qwen2").decode(pairs.chosen[0].input_ids)
    assert "# Tools" in text
    assert "<tool_response>\non\n</tool_response>" in text


def test_a_turn_of_an_answer_may_be_left_out_of_training(tokenized):
    row = {
        "prompt": [user("hello")],
        "chosen": [assistant("one", train_on_turn=False), assistant("two")],
        "rejected": [assistant("no")],
    }
    assert completion(tokenized(row).chosen[0]) == ["two<|im_end|>"]


@pytest.mark.parametrize("system", [None, "", " "])
def test_an_empty_system_is_none(tokenized, system):
    assert same(tokenized({"system": system, **PAIR}), tokenized(PAIR))


def test_pairs_are_read_from_a_list_and_through_gzip(tokenized, tmp_path):
    expected = tokenized(PAIR, PAIR)
    as_list, zipped = tmp_path / "pairs.json", tmp_path / "pairs.jsonl.gz"
    as_list.write_text(json.dumps([PAIR, PAIR], indent=1))
    zipped.write_bytes(gzip.compress((json.dumps(PAIR) + "\n").encode() * 2))
    for path in (as_list, zipped):
        assert same(tokenize_pairs(path, build_tokenizer("chatml"), ctx_size=512), expected)


@pytest.mark.parametrize("family", ["chatml", "llama3"])
def test_given_ids_find_only_the_answer_of_the_last_turn(tokenized, family):
    tokenizer = build_tokenizer(family)
    prefix = {
        "chatml": "<|im_start|>assistant\n",
        "llama3": "<|start_header_id|>assistant<|end_header_id|>\n\n",
    }
    ids = {
        "prefix_ids": tokenizer(prefix[family], add_special_tokens=False)["input_ids"],
        "suffix_ids": [tokenizer.eos_token_id],
    }
    history = [user("hello"), assistant("yes"), user("Is the front door locked?")]
    row = {
        "prompt": history,
        "chosen": [assistant("The front door is locked.")],
        "rejected": [assistant("no")],
    }
    assert same(tokenized(row, family=family, **ids), tokenized(row, family=family))


def test_a_turn_left_out_on_one_side_stays_out(tokenized):
    row = {
        "prompt": [user("hello")],
        "chosen": [assistant("one", train_on_turn=False), assistant("two")],
        "rejected": [assistant("no")],
    }
    pairs = tokenized(row)
    assert pairs.chosen[0].replies[0][0] > pairs.rejected[0].replies[0][0]


def test_other_keys_are_kept_apart(tokenized):
    assert same(tokenized({**PAIR, "language": "en", "score_chosen": 9}), tokenized(PAIR))


def test_counts_are_of_both_sides(tokenized):
    pairs = tokenized(PAIR, {**PAIR, "rejected": "no"})
    assert len(pairs) == 2
    assert pairs.lengths.dtype == pairs.supervised.dtype == np.int64
    for i, (chosen, rejected) in enumerate(zip(pairs.chosen, pairs.rejected, strict=True)):
        assert pairs.lengths[i] == len(chosen.input_ids) + len(rejected.input_ids)
        assert pairs.supervised[i] == (chosen.labels != -100).sum() + (rejected.labels != -100).sum()


def test_files_are_joined_in_their_order(tokenized):
    one, other = (
        tokenized(PAIR, {**PAIR, "chosen": "yes " * 90}, ctx_size=64),
        tokenized({**PAIR, "rejected": "no"}),
    )
    joined = TokenizedPairs.joined([one, other])
    assert joined.chosen == one.chosen + other.chosen
    assert joined.rejected == one.rejected + other.rejected
    assert joined.lengths.tolist() == [*one.lengths, *other.lengths]
    assert joined.dropped == one.dropped
    assert len(joined.dropped) == 1


def test_the_same_file_gives_the_same_pairs_in_its_order(tokenized):
    rows = [{**PAIR, "chosen": f"{TURNED} {number}"} for number in range(150)]
    pairs = tokenized(*rows)
    assert [example.row for example in pairs.chosen] == list(range(150))
    assert [example.row for example in pairs.rejected] == list(range(150))
    assert completion(pairs.chosen[149]) == [f"{TURNED} 149<|im_end|>"]


# --- refusals ----------------------------------------------------------------------------------------

SHARED = "accepted: the assistant's answer and its tools' results (the two sides share one prompt)"
REFUSED = {
    "not an object": (3, "found the number 3; accepted: an object"),
    "no chosen": (
        {"question": "a", "choosen": "b", "rejected": "c"},
        "no chosen; found question, choosen, rejected; did you mean chosen?",
    ),
    "no question": ({"chosen": "b", "rejected": "c"}, "no question; found chosen, rejected; accepted: "),
    "the same answer": ({**PAIR, "rejected": TURNED}, "chosen and rejected are the same"),
    "the same turns": (
        {"prompt": [user("a")], "chosen": [assistant("b")], "rejected": [assistant("b")]},
        "chosen and rejected are the same",
    ),
    "an empty chosen": ({**PAIR, "chosen": " \n"}, "chosen: found no text"),
    "an empty rejected": ({**PAIR, "rejected": ""}, "rejected: found no text"),
    "two empty sides": ({**PAIR, "chosen": "", "rejected": ""}, "chosen, rejected: found no text"),
    "an empty question": ({**PAIR, "question": ""}, "question: found no text"),
    "a null side": ({**PAIR, "rejected": None}, "rejected: found null; accepted: text"),
    "no turns": (
        {"prompt": [user("a")], "chosen": [assistant("b")], "rejected": []},
        "rejected: found an empty list; accepted: a list of turns",
    ),
    "an empty turn": (
        {"prompt": [user("a")], "chosen": [assistant("b")], "rejected": [assistant("")]},
        "rejected[0]: found an empty turn of the assistant",
    ),
    "text for turns": (
        {"prompt": [user("a")], "chosen": "b", "rejected": [assistant("c")]},
        "chosen: found text; accepted: a list of turns",
    ),
    "a prompt as text": (
        {"prompt": "a", "chosen": "b", "rejected": "c"},
        "prompt: found text; accepted: a list of turns; write text as question",
    ),
    "both spellings": (
        {**PAIR, "prompt": [user("a")]},
        "found a question beside lists of turns",
    ),
    "other questions": (
        {"chosen": [user("a"), assistant("b")], "rejected": [user("c"), assistant("d")]},
        "chosen and rejected begin differently, and there is no prompt",
    ),
    "other questions after the same start": (
        {
            "chosen": [user("a"), assistant("b"), user("c"), assistant("d")],
            "rejected": [user("a"), assistant("b"), user("e"), assistant("f")],
        },
        f"chosen[2]: found a turn of role 'user' after the prompt; {SHARED}",
    ),
    "the prompt twice": (
        {
            "prompt": [user("a")],
            "chosen": [user("a"), assistant("b")],
            "rejected": [user("a"), assistant("c")],
        },
        f"chosen[0]: found a turn of role 'user' after the prompt; {SHARED}",
    ),
    "a side that only begins": (
        {"chosen": [user("a"), assistant("b")], "rejected": [user("a")]},
        "rejected: found no answer: it ends where the other side goes on",
    ),
    "an end that is no answer": (
        {
            "prompt": [user("a")],
            "chosen": [assistant("b")],
            "rejected": [assistant("c"), {"role": "tool", "content": "d"}],
        },
        "rejected[1]: ends with a turn of role 'tool'",
    ),
    "nothing to train on": (
        {
            "prompt": [user("a")],
            "chosen": [assistant("b", train_on_turn=False)],
            "rejected": [assistant("c")],
        },
        "chosen: every turn of its answer has train_on_turn: false",
    ),
    "an unknown role": (
        {
            "prompt": [{"role": "usr", "content": "a"}],
            "chosen": [assistant("b")],
            "rejected": [assistant("c")],
        },
        "prompt[0].role: found 'usr'; accepted: system, developer, user, assistant, tool; did you mean user?",
    ),
    "a row of supervised training": (
        {"messages": [user("a"), assistant("b")]},
        "messages: found a row for supervised training; accepted: ",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_pair_is_refused_by_file_line_and_reason(tokenized, tmp_path, name):
    row, reason = REFUSED[name]
    with pytest.raises(BadInput) as refused:
        tokenized(PAIR, row)
    (problem,) = refused.value.problems
    assert problem.startswith(f"{tmp_path / 'pairs.jsonl'}:2: {reason}")


def test_all_bad_pairs_of_a_file_are_reported_at_once(tokenized):
    with pytest.raises(BadInput) as refused:
        tokenized(*[row for row, _ in REFUSED.values()][:12], PAIR)
    assert [problem.split(":")[1] for problem in refused.value.problems] == [str(line) for line in range(1, 13)]


def test_sides_that_the_template_renders_alike_are_refused(tokenized):
    with pytest.raises(BadInput, match="are the same once the chat template has rendered them"):
        tokenized({**PAIR, "rejected": TURNED + "\n"}, family="llama3")
    assert len(tokenized({**PAIR, "rejected": TURNED + "\n"}, family="chatml")) == 1


def test_a_refusal_by_the_template_on_both_sides_is_reported_once(tokenized, tmp_path):
    with pytest.raises(BadInput) as refused:
        tokenized({"system": "You are Al.", **PAIR}, family="gemma")
    (problem,) = refused.value.problems
    assert problem.startswith(f"{tmp_path / 'pairs.jsonl'}:1: row 0: the chat template refuses this conversation")


def test_a_refusal_by_the_template_on_one_side_names_the_side(tokenized):
    row = {
        "prompt": [user("hello")],
        "chosen": [assistant("yes")],
        "rejected": [assistant("no"), assistant("one")],
    }
    with pytest.raises(BadInput, match=r"row 0: rejected: the chat template refuses .* must alternate"):
        tokenized(row, family="llama2")


def test_a_pair_in_supervised_training_is_refused(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(PAIR))
    with pytest.raises(BadInput, match="found a pair for preference training"):
        tokenize_dataset(path, build_tokenizer("chatml"), ctx_size=512)


# --- overlong pairs --------------------------------------------------------------------------------------

LONG_ANSWER = {**PAIR, "rejected": "yes no " * 60}
LONG_PROMPT = {**PAIR, "question": "one two " * 60}


def test_pairs_that_do_not_fit_are_dropped_and_counted(tokenized):
    pairs = tokenized(PAIR, LONG_ANSWER, PAIR, LONG_PROMPT, ctx_size=64)
    assert [example.row for example in pairs.chosen] == [0, 2]
    assert [(pair.row, pair.line) for pair in pairs.dropped] == [(1, 2), (3, 4)]
    whole = tokenized(LONG_ANSWER)
    assert pairs.dropped[0].length == whole.rejected[0].length > whole.chosen[0].length


def test_a_pair_that_just_fits_is_kept(tokenized):
    whole = tokenized(PAIR)
    longest = max(whole.chosen[0].length, whole.rejected[0].length)
    assert len(tokenized(PAIR, ctx_size=longest)) == 1
    with pytest.raises(BadInput, match=f"no pair fits into ctx_size {longest - 1}"):
        tokenized(PAIR, ctx_size=longest - 1)


def test_pairs_that_do_not_fit_are_refused_by_name_if_asked(tokenized, tmp_path):
    with pytest.raises(BadInput) as refused:
        tokenized(PAIR, LONG_ANSWER, LONG_PROMPT, ctx_size=64, on_overlong="error")
    answer, prompt = refused.value.problems
    path = tmp_path / "pairs.jsonl"
    assert answer.startswith(f"{path}:2: row 1: ")
    assert "tokens of its longer side do not fit into ctx_size 64" in answer
    assert prompt.startswith(f"{path}:3: row 2: its prompt has ")
    assert "leaves no room for an answer in ctx_size 64" in prompt
    assert all("on_overlong: drop" in problem for problem in (answer, prompt))
