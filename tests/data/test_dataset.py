import json
from pathlib import Path
from typing import Any

import pytest

from hatrain.data.dataset import ROWS, TokenizedDataset, raw_note, tokenize_dataset
from hatrain.data.labels import IGNORED, Labeller
from hatrain.data.prepare import prepare
from hatrain.errors import BadInput
from tests.families import build_tokenizer


def row(answer: str = "It is on.") -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "Light?"}, {"role": "assistant", "content": answer}]}


def written(folder: Path, *rows: dict[str, Any], name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


NO_ANSWER = {"messages": [{"role": "user", "content": "Anybody?"}]}


def test_rows_become_ids_and_labels_of_the_same_length(tmp_path):
    tokenizer = build_tokenizer("chatml")
    data = tokenize_dataset(written(tmp_path, row("Yes."), row("No, no.")), tokenizer, ctx_size=2048)

    assert len(data) == 2
    for ids, labels, length, supervised in zip(data.input_ids, data.labels, data.lengths, data.supervised, strict=True):
        assert len(ids) == len(labels) == length
        assert (labels != IGNORED).sum() == supervised > 0
        assert (labels[labels != IGNORED] == ids[labels != IGNORED]).all()


def test_a_long_row_is_dropped_whole_and_counted(tmp_path):
    path = written(tmp_path, row(), row("word " * 300), row())

    data = tokenize_dataset(path, build_tokenizer("chatml"), ctx_size=100)

    assert [example.row for example in data.examples] == [0, 2]
    (dropped,) = data.dropped
    assert (dropped.row, dropped.line) == (1, 2)
    assert dropped.length > 100


def test_a_row_of_exactly_ctx_size_is_kept(tmp_path):
    path, tokenizer = written(tmp_path, row()), build_tokenizer("chatml")
    length = int(tokenize_dataset(path, tokenizer, ctx_size=2048).lengths[0])

    assert len(tokenize_dataset(path, tokenizer, ctx_size=length)) == 1
    with pytest.raises(BadInput, match=f"no row fits into ctx_size {length - 1}"):
        tokenize_dataset(path, tokenizer, ctx_size=length - 1)


def test_a_long_row_is_refused_by_name_with_on_overlong_error(tmp_path):
    path = written(tmp_path, row(), row("word " * 300))

    with pytest.raises(BadInput, match=r"rows\.jsonl:2: row 1: \d+ tokens do not fit into ctx_size 100"):
        tokenize_dataset(path, build_tokenizer("chatml"), ctx_size=100, on_overlong="error")


def test_all_bad_rows_are_reported_at_once_and_the_first_are_shown(tmp_path):
    path = written(tmp_path, NO_ANSWER, row(), {"text": 1}, *[NO_ANSWER] * 2)

    with pytest.raises(BadInput) as caught:
        tokenize_dataset(path, build_tokenizer("chatml"), ctx_size=2048)

    first, *more, second = caught.value.problems
    assert first.startswith(f"{path}:1: row 0: no token to train on")
    assert "as text: '<|im_start|>user\\nAnybody?" in first
    assert "as tokens: " in first
    assert second == f"{path}:3: text: found the number 1; accepted: text"
    assert [problem.split(": no token")[0] for problem in more] == [f"{path}:{line}: row {line - 1}" for line in (4, 5)]
    assert ["as text" in problem for problem in more] == [True, True]


def test_bad_rows_of_one_kind_are_one_line_with_their_number_and_three_examples(tmp_path):
    path = written(tmp_path, *[NO_ANSWER] * 2100)

    with pytest.raises(BadInput) as caught:
        tokenize_dataset(path, build_tokenizer("chatml"), ctx_size=2048)

    (problem,) = caught.value.problems
    assert problem.startswith(f"{path}:1: row 0: no token to train on")
    assert f"(and 2,099 more rows like this, such as {path}:2, {path}:3)" in problem


def test_worker_processes_give_the_results_of_one_process(tmp_path):
    rows = [row(f"Answer {number}.") if number % 50 else NO_ANSWER for number in range(300)]
    path, labeller = written(tmp_path, *rows), Labeller(build_tokenizer("llama3"))

    def found(workers: int) -> list[Any]:
        prepared = prepare(path, labeller, ROWS, workers=workers)
        examples = prepared.examples(range(len(prepared)))
        labels = [(example.row, example.labels.tolist()) for (example,) in examples]
        return [*labels, *[(row.index, row.problems) for row in prepared.bad]]

    assert found(3) == found(1)
    assert sorted(index for index, _ in found(1)) == list(range(300))


def test_given_ids_are_used(tmp_path):
    tokenizer = build_tokenizer("chatml")
    path = written(tmp_path, {"text": "USER: Hi<|im_end|>BOT: Hello<|im_end|>"})
    prefix, suffix = tokenizer("BOT:")["input_ids"], tokenizer("<|im_end|>")["input_ids"]

    data = tokenize_dataset(path, tokenizer, ctx_size=64, prefix_ids=prefix, suffix_ids=suffix)

    labels = data.labels[0]
    assert tokenizer.decode(labels[labels != IGNORED]) == " Hello<|im_end|>"


def test_raw_text_is_counted_for_a_warning(tmp_path):
    text = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"

    data = tokenize_dataset(written(tmp_path, {"text": text}, row()), build_tokenizer("chatml"), ctx_size=64)

    assert data.raw_rows == 1
    assert "looks like a real one" in raw_note(data.raw_rows)


def test_several_files_are_joined_in_their_order(tmp_path):
    tokenizer = build_tokenizer("chatml")
    one = tokenize_dataset(written(tmp_path, row("One."), name="1.jsonl"), tokenizer, ctx_size=64)
    two = tokenize_dataset(written(tmp_path, row("Two."), row("Three."), name="2.jsonl"), tokenizer, ctx_size=64)

    joined = TokenizedDataset.joined([one, two])

    assert len(joined) == 3
    assert [ids.tolist() for ids in joined.input_ids] == [ids.tolist() for ids in [*one.input_ids, *two.input_ids]]
