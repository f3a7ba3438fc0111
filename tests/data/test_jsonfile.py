"""Files that are no rows, or that are made to take all time and memory: one line, at once."""

import gzip
import hashlib
import json
import time
from datetime import datetime
from pathlib import Path

import pytest

from hatrain.contract.spec import DatasetSpec
from hatrain.data import jsonfile
from hatrain.data.jsonfile import NotJson, parsed_values
from hatrain.data.rows import BadRow, read_rows, scan_rows
from hatrain.errors import BadInput
from launch.rows import count_rows

ROW = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}
LINE = json.dumps(ROW)


@pytest.fixture
def file(tmp_path):
    def write(content: str | bytes) -> Path:
        path = tmp_path / "rows.json"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def problem(path: Path) -> str:
    """The one problem of a file, without its name."""
    started = time.monotonic()
    with pytest.raises(BadInput) as caught:
        list(read_rows(path))
    assert time.monotonic() - started < 60  # seconds here; minutes would be quadratic
    (line,) = caught.value.problems
    assert "\n" not in line and len(line) < 500
    return line.removeprefix(str(path)).removeprefix(":")


def planned(path: Path) -> int | None:
    return count_rows([DatasetSpec(path=str(path))], Path("/"))


# --- lists and lines ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [f"[{LINE}]", LINE, "x"], ids=["a list", "lines", "text"])
def test_nothing_after_a_list_is_lost(file, after):
    path = file(f"[{LINE},{LINE}]\n{after}\n")
    assert problem(path).startswith("2: found ")
    assert "after the list of rows; accepted: one list, or one row a line" in problem(path)
    assert planned(path) is None


@pytest.mark.parametrize(
    "content",
    [
        f"[{LINE},\n{LINE}]",
        f"\ufeff[{LINE},{LINE}]\n\n",
        f"\ufeff{LINE}\n\n{LINE}",
        "\n\n\ufeff".lstrip() + f"{LINE}\n{LINE}\n",
        "\n" * 9000 + f"[{LINE},{LINE}]",
    ],
    ids=["list", "list with BOM", "lines with BOM", "lines", "list after blank lines"],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_the_plan_counts_the_rows_that_the_trainer_reads(file, content, pack):
    path = file(pack(content.encode()))
    assert len(list(read_rows(path))) == 2
    assert planned(path) == 2


def test_one_object_over_several_lines_is_named_with_what_to_do(file):
    path = file(json.dumps(ROW, indent=2))
    assert problem(path) == "1: found one object over several lines; write one row a line: jq -c ."
    path = file((json.dumps(ROW, indent=2) + "\n") * 3)
    assert problem(path) == "1: found one object over several lines; write one row a line: jq -c ."


@pytest.mark.parametrize("indent", [None, 2], ids=["one line", "several lines"])
def test_rows_under_a_key_are_named_with_what_to_do(file, indent):
    path = file(json.dumps({"data": [ROW, ROW]}, indent=indent))
    several = " over several lines" if indent else ""
    assert (
        problem(path)
        == f"1: found one object{several} that holds 2 rows under 'data'; write them alone: jq -c '.data[]'"
    )


def test_the_cases_that_users_reported():
    cases = Path(__file__).parents[3] / "shared/cases/hf-pretty-json"
    if not cases.is_dir():
        pytest.skip("no ../shared/cases")
    assert "one object over several lines that holds" in problem(cases / "pretty.json")
    # The file's first bytes are Parquet's, and the rest is not.
    assert "cannot be read as Parquet" in problem(cases / "parq.parquet")


def test_parquet_is_read(tmp_path):
    from datasets import Dataset

    path = tmp_path / "rows.parquet"
    other = {"messages": ROW["messages"], "language": "en"}
    Dataset.from_list([{**ROW, "language": None}, other]).to_parquet(path)
    rows = list(read_rows(path))
    assert [row.messages[1].content for row in rows] == ["hello", "hello"]
    assert [row.line for row in rows] == [1, 2]
    assert [dict(row.meta) for row in rows] == [{}, {"language": "en"}]
    assert planned(path) == 2
    path.write_bytes(path.read_bytes()[:50])
    assert "cannot be read as Parquet" in problem(path)
    assert planned(path) is None


@pytest.mark.parametrize("value", [datetime(2026, 1, 2, 3), b"seven"])
@pytest.mark.parametrize("key", ["tools", "tool_calls"])
def test_values_that_json_cannot_hold_are_refused_where_the_model_would_see_them(tmp_path, key, value):
    from datasets import Dataset

    call = {"type": "function", "function": {"name": "wake", "arguments": {"at": value}}}
    user, reply = ROW["messages"]
    row = {"messages": [user, {**reply, "tool_calls": [call]}]} if key == "tool_calls" else {**ROW, "tools": [call]}
    path = tmp_path / "rows.parquet"
    Dataset.from_list([row]).to_parquet(path)
    accepted = "in tools or arguments; accepted: what JSON can hold"
    assert problem(path) == f"1: found the {type(value).__name__} {value} {accepted}"
    Dataset.from_list([{**ROW, "made": value}]).to_parquet(path)
    assert len(list(read_rows(path))) == 1


@pytest.mark.parametrize("kind", ["lines", "list", "gzip", "parquet"])
def test_the_digest_is_that_of_the_whole_file(file, kind):
    contents = {"lines": f"\n{LINE}\n{LINE}\n \n", "list": f" [{LINE},\n{LINE}]\n"}
    path = file(contents.get(kind, ""))
    if kind == "gzip":
        path.write_bytes(gzip.compress(contents["lines"].encode()) + gzip.compress(LINE.encode()))
    if kind == "parquet":
        from datasets import Dataset

        Dataset.from_list([ROW, ROW]).to_parquet(path)
    digest = hashlib.sha256()
    assert len(list(parsed_values(path, digest))) == (3 if kind == "gzip" else 2)
    assert digest.hexdigest() == hashlib.sha256(path.read_bytes()).hexdigest()


# --- hostile files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, '{"text": ' + "[" * 100_000 + "]" * 100_000 + "}"])
def test_deep_nesting_is_one_line(file, text):
    assert "nested more than 100 levels deep" in problem(file(text))
    assert planned(file(text)) in (None, 1)


def test_nesting_that_json_could_still_read_is_refused_too(file):
    deep = "[" * 150 + "]" * 150
    assert "nested more than 100 levels deep" in problem(file(f'{{"text": {deep}}}'))
    assert "nested more than 100 levels deep" in problem(file(f'[{{"text": {deep}}}]'))
    assert list(read_rows(file(f'{{"text": "hi", "extra": {"[" * 90 + "]" * 90}}}')))


def test_a_corrupt_gzip_is_one_line(file):
    packed = bytearray(gzip.compress((LINE + "\n").encode() * 1000))
    packed[40:60] = bytes(range(20))
    path = file(bytes(packed))
    assert "cannot be read" in problem(path) or "not" in problem(path)
    assert planned(path) is None


def test_a_line_without_an_end_is_refused_before_it_fills_the_memory(file, monkeypatch):
    monkeypatch.setattr(jsonfile, "LONGEST_LINE", 2**20)
    assert problem(file('{"text": "' + "x" * 2**21 + '"}')).startswith("1: longer than 1 MiB")
    bomb = gzip.compress(b'{"text": "' + b"x" * 2**24 + b'"}')
    assert problem(file(bomb)).startswith("1: longer than 1 MiB")


def test_a_list_too_large_to_read_whole_says_so(file, monkeypatch):
    monkeypatch.setattr(jsonfile, "LONGEST_LIST", 2**20)
    assert "write one row a line" in problem(file("[" + ",".join([LINE] * 20_000) + "]"))


@pytest.mark.parametrize(
    ("row", "where"),
    [
        ('{"text": "\\ud800"}', "text"),
        ('{"text": "a", "tools": [{"name": "x\\uDFFF"}]}', "tools[0].name"),
        ('{"text": "a", "\\ud800": 1}', "a key of the row"),
    ],
)
def test_half_a_character_anywhere_in_a_row_is_named(file, row, where):
    assert f"{where}: found a lone surrogate (half of a character)" in problem(file(row))
    assert f"{where}: found a lone surrogate (half of a character)" in problem(file(f"[{row}]"))
    assert next(read_rows(file('{"text": "\\ud83d\\ude00"}'))).text == "😀"


def test_a_hundred_thousand_keys_one_of_them_twice_take_no_time(file):
    keys = ",".join(f'"k{number}": 1' for number in range(100_000))
    started = time.monotonic()
    assert "the key 'k99999' is given twice" in problem(file(f'{{{keys}, "k99999": 2}}'))
    assert time.monotonic() - started < 20


def test_more_turns_than_any_context_holds_are_refused(file):
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}] * 20_000
    assert problem(file(json.dumps({"messages": turns}))) == "1: messages: found 40000 turns; accepted: at most 1024"


def test_a_bad_row_after_good_ones_is_still_reported_by_its_line(file):
    good, bad = scan_rows(file(f"{LINE}\n{{\n"))
    assert isinstance(bad, BadRow) and not isinstance(good, BadRow)
    assert isinstance(next(parsed_values(file("{\n")))[1], NotJson)
