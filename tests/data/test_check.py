"""`hatrain check`, as a user runs it."""

import json
from pathlib import Path
from typing import Any

import pytest

from hatrain.cli import main
from tests.families import build_tokenizer


def row(question: str = "Light?", answer: str = "It is on.") -> dict[str, Any]:
    return {"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("models") / "zephyr"
    build_tokenizer("zephyr").save_pretrained(folder)
    return str(folder)


def written(folder: Path, *rows: dict[str, Any]) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_good_file_is_counted_and_passes(tmp_path, model, capsys):
    assert main(["check", written(tmp_path, row(), row()), "--model", model]) == 0

    output = capsys.readouterr()
    assert "2 rows" in output.out
    assert "kept        2" in output.out
    assert "in 2 replies" in output.out
    assert output.err == ""


def test_every_bad_row_is_printed_and_the_exit_code_is_bad_input(tmp_path, model, capsys):
    nobody = {"conversations": [{"from": "human", "value": "Anybody?"}]}
    path = written(tmp_path, row(), *[{"text": 1}] * 30, nobody)

    assert main(["check", path, "--model", model]) == 2

    output = capsys.readouterr()
    assert "bad         31" in output.out
    assert output.err.count("text: found the number 1") == 1
    assert f"{path}:2: text: found the number 1; accepted: text (and 29 more rows like this" in output.err
    assert f"such as {path}:3, {path}:4)" in output.err
    assert f"{path}:32: row 31: no token to train on" in output.err
    assert "as tokens: " in output.err


def test_rows_that_training_would_drop_are_listed(tmp_path, model, capsys):
    path = written(tmp_path, row(), row(answer="so " * 200))

    assert main(["check", path, "--model", model, "--ctx-size", "100"]) == 0

    output = capsys.readouterr().out
    assert "too long    1, of more than 100 tokens" in output
    assert f"{path}:2: " in output


def test_shown_rows_have_the_supervised_part_marked(tmp_path, model, capsys):
    main(["check", written(tmp_path, row(), row("Fan?"), row("Lock?")), "--model", model, "--show", "2"])

    output = capsys.readouterr().out
    assert output.count("⟦It is on.</s>⟧") == 2
    assert "Fan?" in output
    assert "Lock?" not in output


def test_labels_are_written_unshifted_one_line_per_kept_row(tmp_path, model):
    out = tmp_path / "labels.jsonl"
    path = written(tmp_path, row(), {"text": 1}, row(answer="so " * 200), row(answer="Off."))

    main(["check", path, "--model", model, "--ctx-size", "100", "--labels", str(out)])

    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["row"] for line in lines] == [0, 3]
    for line in lines:
        assert line.keys() == {"row", "input_ids", "labels"}
        assert all(label in (token, -100) for token, label in zip(line["input_ids"], line["labels"], strict=True))
    tokenizer = build_tokenizer("zephyr")
    assert tokenizer.decode([label for label in lines[1]["labels"] if label != -100]) == "Off.</s>"
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


def test_a_file_that_cannot_be_read_leaves_no_labels_behind(tmp_path, model, capsys):
    assert main(["check", str(tmp_path / "no.jsonl"), "--model", model, "--labels", str(tmp_path / "out")]) == 2

    assert "no such file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_labels_file_is_refused_before_the_work(tmp_path, model, capsys):
    out = tmp_path / "nowhere" / "labels.jsonl"

    assert main(["check", written(tmp_path, row()), "--model", model, "--labels", str(out)]) == 2

    output = capsys.readouterr()
    assert f"--labels: {out}: cannot be written" in output.err
    assert output.out == ""


def test_ids_find_replies_that_the_template_would_not(tmp_path, model, capsys):
    path = written(tmp_path, {"text": "USER: Hi</s>BOT:Hello</s>"})
    prefix = build_tokenizer("zephyr")("</s>BOT:")["input_ids"]

    assert main(["check", path, "--model", model]) == 2
    assert "find-split" in capsys.readouterr().err

    ids = ["--prefix-ids", ",".join(map(str, prefix)), "--suffix-ids", "2"]
    assert main(["check", path, "--model", model, "--show", "1", *ids]) == 0
    output = capsys.readouterr()
    assert "⟦Hello</s>⟧" in output.out
    assert "raw text" in output.err


def test_a_base_without_a_chat_template_is_refused_with_a_remedy_that_works(tmp_path, capsys):
    base = str(tmp_path / "base")
    build_tokenizer("phi").save_pretrained(base)
    path = written(tmp_path, row())

    assert main(["check", path, "--model", base]) == 2
    output = capsys.readouterr().err
    assert "--add-chatml-tokens" in output
    assert "--chat-template" in output

    assert main(["check", path, "--model", base, "--add-chatml-tokens", "--show", "1"]) == 0
    assert "<|im_start|>assistant\n⟦It is on.<|im_end|>⟧" in capsys.readouterr().out


@pytest.mark.parametrize("value", ["a,b", "1,,2", "-1", ""])
def test_malformed_ids_are_refused(tmp_path, model, value, capsys):
    with pytest.raises(SystemExit) as left:
        main(["check", "rows.jsonl", "--model", model, f"--prefix-ids={value}"])

    assert left.value.code == 2
    assert "ids" in capsys.readouterr().err


def test_pairs_are_checked_side_by_side(tmp_path, model, capsys):
    pair = {"question": "Light?", "chosen": "It is on.", "rejected": "No."}
    path = written(
        tmp_path,
        pair,
        {**pair, "chosen": "No."},
        {**pair, "rejected": "so " * 200},
        {**pair, "chosen": "Yes."},
    )
    out = tmp_path / "labels.jsonl"
    arguments = ["--model", model, "--ctx-size", "100", "--show", "1", "--labels", str(out)]

    assert main(["check", path, *arguments]) == 2

    output = capsys.readouterr()
    assert output.err == f"{path}:2: chosen and rejected are the same\n"
    assert "--- row 0, line 1, chosen\n" in output.out
    assert "⟦It is on.</s>⟧" in output.out
    assert "--- row 0, line 1, rejected\n" in output.out
    assert "⟦No.</s>⟧" in output.out
    assert f"{path}: 4 pairs\n" in output.out
    assert "kept        2\n" in output.out
    assert "too long    1, " in output.out
    assert "in 4 replies" in output.out
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(line["row"], line["side"]) for line in lines] == [
        (0, "chosen"),
        (0, "rejected"),
        (3, "chosen"),
        (3, "rejected"),
    ]


def test_keys_that_the_model_does_not_see_are_listed_with_their_rows(tmp_path, model, capsys):
    noted = row() | {"source": "mine"}
    noted["conversations"][1] |= {"rating": 5, "train": True}
    messages = {
        "messages": [{"role": "user", "content": "on?", "mood": "calm"}, {"role": "assistant", "content": "Yes."}]
    }

    assert main(["check", written(tmp_path, noted, row() | {"source": "hers"}, messages), "--model", model]) == 0

    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  ignored")]
    assert line.endswith(": source (2), turns: rating (1), turns: mood (1)")
