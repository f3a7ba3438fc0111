import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from hatrain.data.rows import BadRow, Message, Row, read_rows, scan_rows
from hatrain.errors import BadInput

SHAREGPT = {
    "conversations": [
        {"from": "system", "value": "You are Al."},
        {"from": "human", "value": "Turn on the light."},
        {"from": "gpt", "value": "Done."},
    ]
}
MESSAGES = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}


def written(folder: Path, *rows: Any, name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def problem(folder: Path, row: Any) -> str:
    """The problem of a row, without its file and line."""
    path = written(folder, row)
    (bad,) = scan_rows(path)
    assert isinstance(bad, BadRow)
    (line,) = bad.problems
    assert line.startswith(f"{path}:1: ")
    return line.removeprefix(f"{path}:1: ")


# --- what is accepted ---------------------------------------------------------------------------------------


def test_sharegpt_rows_become_messages(tmp_path):
    (row,) = read_rows(written(tmp_path, SHAREGPT))

    assert row.messages == (
        Message("system", "You are Al."),
        Message("user", "Turn on the light."),
        Message("assistant", "Done.", train=True),
    )


def test_both_spellings_of_sharegpt_roles_are_read(tmp_path):
    other = {"conversations": [{"from": "user", "value": "Hi"}, {"from": "assistant", "value": "Hello"}]}

    (row,) = read_rows(written(tmp_path, other))

    assert [message.role for message in row.messages] == ["user", "assistant"]


def test_text_parts_are_joined_unchanged(tmp_path):
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo "}]
    (row,) = read_rows(written(tmp_path, {"messages": [{"role": "assistant", "content": parts}]}))

    assert row.messages[0].content == "Hello "


def test_train_on_turn_counts_for_assistants_only(tmp_path):
    turns = [
        {"role": "user", "content": "Hi", "train_on_turn": True},
        {"role": "assistant", "content": "Hm", "train_on_turn": False},
        {"role": "assistant", "content": "Hello", "train_on_turn": True},
        {"role": "assistant", "content": "Hello"},
    ]
    (row,) = read_rows(written(tmp_path, {"messages": turns}))

    assert [message.train for message in row.messages] == [False, False, True, True]


def test_a_calls_arguments_are_an_object_however_they_were_written(tmp_path):
    def turn(arguments: Any) -> dict[str, Any]:
        return {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}

    (row,) = read_rows(written(tmp_path, {"messages": [turn('{"a": 1}'), turn({"a": 1})], "tools": [{}]}))

    assert [message.tool_calls[0]["function"]["arguments"] for message in row.messages] == [
        {"a": 1},
        {"a": 1},
    ]
    assert row.messages[0].content == ""
    assert row.tools == ({},)


def test_other_keys_of_a_message_reach_the_template(tmp_path):
    turn = {"role": "tool", "content": "21 °C", "name": "thermometer", "tool_call_id": "c1"}
    (row,) = read_rows(written(tmp_path, {"messages": [turn]}))

    assert row.messages[0].for_template() == turn


def test_other_keys_of_a_row_are_kept(tmp_path):
    (row,) = read_rows(written(tmp_path, SHAREGPT | {"language": "polish", "device_types": ["light"]}))

    assert row.meta == {"language": "polish", "device_types": ["light"]}


def test_raw_text_is_kept_unchanged(tmp_path):
    (row,) = read_rows(written(tmp_path, {"text": " <|user|>\nHi \n"}))

    assert row.text == " <|user|>\nHi \n"
    assert row.messages == ()


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_json_list_and_gzip_are_known_by_their_content(tmp_path, indent, zipped):
    raw = json.dumps([SHAREGPT, MESSAGES, {"text": "x"}], indent=indent).encode()
    path = tmp_path / "rows.whatever"
    path.write_bytes(gzip.compress(raw) if zipped else raw)

    rows = list(read_rows(path))

    assert [row.index for row in rows] == [0, 1, 2]
    assert [row.text for row in rows] == [None, None, "x"]
    if indent:
        assert [raw.decode().splitlines()[row.line - 1].strip() for row in rows] == ["{", "{", "{"]


def test_blank_lines_and_a_byte_order_mark_are_no_rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(MESSAGES).encode() + b"\r\n\n" + json.dumps(SHAREGPT).encode())

    rows = list(read_rows(path))

    assert [(row.index, row.line) for row in rows] == [(0, 1), (1, 3)]


# --- what is refused, by name -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("{", "not JSON"),
        ('{"text": NaN}', "NaN is not JSON"),
        ('{"text": "a", "text": "b"}', "the key 'text' is given twice"),
        ('"text"', "found text; accepted: an object"),
        ({}, "found no key"),
        ({"mesages": []}, "did you mean messages?"),
        ({"chosen": "a", "rejected": "b"}, "preference training"),
        (MESSAGES | {"text": "x"}, "found messages and text in one row"),
        ({"text": 1}, "text: found the number 1; accepted: text"),
        ({"text": " "}, "text: found no text"),
        ({"text": "\ud800"}, "half of a character"),
        ({"messages": []}, "messages: found an empty list"),
        ({"messages": {}}, "messages: found an object; accepted: a list of turns"),
        ({"messages": ["Hi"]}, "messages[0]: found text; accepted: an object"),
        ({"messages": [{"rol": "user"}]}, "messages[0]: no 'role'; found rol"),
        ({"messages": [{"role": "asistant", "content": ""}]}, "did you mean assistant?"),
        ({"messages": [{"role": "user"}]}, "messages[0]: no 'content'"),
        (
            {"messages": [{"role": "user", "content": None}]},
            "messages[0].content: found null; accepted: text",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
            "messages[0].content[0]: found a part of type 'image'",
        ),
        (
            {"messages": [{"role": "assistant", "content": "a", "train_on_turn": "no"}]},
            "messages[0].train_on_turn: found 'no'; accepted: true or false",
        ),
        (
            {"messages": [{"role": "assistant", "content": " "}]},
            "messages[0]: found an empty turn of the assistant",
        ),
        (
            {"messages": [{"role": "user", "content": "a", "tool_calls": [{}]}]},
            "messages[0].tool_calls[0]: accepted",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
            "messages[0].tool_calls[0].function.arguments: not JSON",
        ),
        (MESSAGES | {"tools": "{}"}, "tools: found an object; accepted: a list"),
        (
            {"conversations": [{"from": "bot", "value": "a"}]},
            "conversations[0].from: found 'bot'; accepted: system",
        ),
        ({"conversations": [{"from": "gpt", "text": "a"}]}, "conversations[0]: no 'value'; found from, text"),
    ],
)
def test_a_bad_row_is_reported_with_what_is_accepted(tmp_path, row, expected):
    assert expected in problem(tmp_path, row)


def test_only_an_assistant_calls_tools(tmp_path):
    call = {"function": {"name": "f", "arguments": {}}}

    expected = problem(tmp_path, {"messages": [{"role": "user", "content": "a", "tool_calls": [call]}]})

    assert "only an assistant calls tools" in expected


def test_all_bad_rows_are_reported_at_once_and_good_ones_read(tmp_path):
    path = written(tmp_path, MESSAGES, {"text": 1}, "", SHAREGPT, "nonsense")
    seen = []

    with pytest.raises(BadInput) as caught:
        seen.extend(read_rows(path))

    assert [problem.split(": ")[0] for problem in caught.value.problems] == [f"{path}:2", f"{path}:5"]


def test_rows_read_before_a_bad_one_keep_their_index(tmp_path):
    found = list(scan_rows(written(tmp_path, MESSAGES, {"text": 1}, SHAREGPT)))

    assert [(type(row), row.index) for row in found] == [(Row, 0), (BadRow, 1), (Row, 2)]


def test_bad_rows_of_one_kind_are_counted_in_one_line(tmp_path):
    with pytest.raises(BadInput) as caught:
        list(read_rows(written(tmp_path, *[{"text": 1}] * 50)))

    (problem,) = caught.value.problems
    assert "(and 49 more rows like this, such as" in problem


@pytest.mark.parametrize(
    ("raw", "line", "expected"),
    [
        ('[\n{"text": "a"},\n{"text" "b"}\n]', 3, "not JSON"),
        ('[\n{"text": "a"}\n{"text": "b"}]', 3, "'{' where ',' or ']' should follow"),
        ('[\n{"text": "a"}\n', 3, "found the end"),
        ('[{"text": "a"},\n{"text": "a", "text": "b"}]', 2, "given twice"),
    ],
)
def test_a_broken_list_names_the_line_it_breaks_on(tmp_path, raw, line, expected):
    path = tmp_path / "rows.json"
    path.write_text(raw)

    first, bad = scan_rows(path)

    assert isinstance(first, Row)
    assert isinstance(bad, BadRow)
    assert bad.line == line
    assert expected in bad.problems[0]


def test_a_line_that_is_not_utf8_is_a_bad_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(json.dumps(MESSAGES).encode() + b'\n{"text": "\xff"}\n')

    assert [type(row) for row in scan_rows(path)] == [Row, BadRow]


@pytest.mark.parametrize("content", ["", "\n \n", "[]"])
def test_a_file_without_rows_is_refused(tmp_path, content):
    path = tmp_path / "rows.jsonl"
    path.write_text(content)

    with pytest.raises(BadInput, match="no rows"):
        list(read_rows(path))


def test_a_missing_file_is_refused_with_the_nearest_name(tmp_path):
    written(tmp_path, MESSAGES, name="train.jsonl")

    with pytest.raises(BadInput, match=r"no such file; did you mean train\.jsonl\?"):
        list(read_rows(tmp_path / "tran.jsonl"))


def test_a_truncated_gzip_is_refused(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(MESSAGES).encode() * 1000)[:-20])

    with pytest.raises(BadInput, match="cannot be read"):
        list(read_rows(path))
