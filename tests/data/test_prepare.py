"""Prepared rows are those of the slow way, from a cache or not, by one process or several; and nothing that goes wrong
with the cache stops a run."""

import fcntl
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from hatrain.data import cache as cache_module
from hatrain.data import prepare as prepare_module
from hatrain.data.dataset import ROWS, tokenize_dataset
from hatrain.data.encoder import Encoder, Inexact
from hatrain.data.labels import Example, Labeller
from hatrain.data.pairs import PAIRS, tokenize_pairs
from hatrain.data.prepare import prepare
from hatrain.data.prepared import Prepared
from hatrain.data.rows import BadRow, scan, scan_rows
from hatrain.errors import BadInput
from hatrain.runtime import seal
from tests.data.published import published
from tests.families import build_tokenizer

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "tokenizers"
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"{name} a light",
            "parameters": {"type": "object", "properties": {"id": {"type": "string"}}},
        },
    }
    for name in ("turn_on", "turn_off", "dim")
]


def system(number: int) -> str:
    devices = [f"light.room_{each} 'Room {each}' = {'on' if each % 3 else 'off'};{each}%" for each in range(number % 7)]
    return "\n".join(["You are Al.", f"It is 12:{number:02} PM.", "Devices:", *devices])


def tool_row(number: int) -> dict[str, Any]:
    call = {"type": "function", "id": "abcdefghi", "function": {"name": "dim", "arguments": {"id": f"light.{number}"}}}
    return {
        "messages": [
            {"role": "system", "content": system(number)},
            {"role": "user", "content": f"Dim {number}"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "done", "name": "dim", "tool_call_id": "abcdefghi"},
            {"role": "assistant", "content": f"Room {number}\nis dim."},
        ],
        "tools": TOOLS[: 1 + number % 3],
        "kind": "value",
    }


def turns_row(number: int) -> dict[str, Any]:
    said = [
        ("system", system(number)),
        ("human", "Hi"),
        ("gpt", f"It's\n/{number}."),
        ("human", "And?"),
        ("gpt", "No."),
    ]
    return {"conversations": [{"from": role, "value": text} for role, text in said]}


def raw_row(number: int) -> dict[str, Any]:
    return {"text": f"<|im_start|>user\nOne?<|im_end|>\n<|im_start|>assistant\nYes\n{number}<|im_end|>\n"}


def pair_row(number: int) -> dict[str, Any]:
    return {"system": system(number), "question": f"Q {number}?", "chosen": "Yes\nit is.", "rejected": f"No {number}"}


def written(folder: Path, rows: list[dict[str, Any]], name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """Where this test's prepared rows are kept, of files of any size."""
    monkeypatch.setenv("HATRAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(prepare_module, "SMALL", 0)
    return tmp_path / "cache" / "rows"


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerBase:
    return build_tokenizer("chatml")


@pytest.fixture
def makings(monkeypatch) -> list[Path]:
    """The files that were prepared, and not found."""
    made: list[Path] = []
    original = prepare_module._made

    def counted(path: Path, *arguments: Any) -> Prepared:
        made.append(path)
        return original(path, *arguments)

    monkeypatch.setattr(prepare_module, "_made", counted)
    return made


def entries(cache: Path) -> list[Path]:
    return [path for path in cache.iterdir() if path.is_dir() and not path.name.startswith(".")]


def as_lists(example: Example) -> Any:
    return example.row, [(part.input_ids.tolist(), part.replies) for part in example.sequences]


def found(prepared: Prepared) -> list[Any]:
    good = {
        row: [as_lists(side) for side in sides] for row, sides in enumerate(prepared.examples(range(len(prepared))))
    }
    return [good, prepared.lines.tolist(), [row.problems for row in prepared.bad], prepared.ignored, prepared.digest]


def one_by_one(path: Path, tokenizer: PreTrainedTokenizerBase, kind: Any) -> list[Any]:
    """Each row on its own, its texts never cut."""
    labeller, examples = Labeller(tokenizer), []
    labeller.encoder.encode_whole()
    for row in scan(path, kind.form, kind.accepted):
        if not isinstance(row, BadRow):
            (labelled,) = kind.label(labeller, [row])
            examples += [[as_lists(side) for side in labelled]] if not isinstance(labelled, BadRow) else []
    return examples


ROWS_OF = {
    "tools": [tool_row(number) for number in range(70)],
    "turns": [turns_row(number) for number in range(70)],
    "raw": [raw_row(number) for number in range(70)],
}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("name", "rows"),
    [
        *((name, "turns") for name in ("zephyr", "llama3", "phi3", "gemma", "llama2", "smollm3")),
        *((name, "tools") for name in ("qwen2_5", "llama3_2", "qwen3", "gptoss", "cohere2")),
        ("chatml", "raw"),
    ],
)
def test_the_rows_are_those_of_the_slow_way(tmp_path, cache, name, rows, workers):
    tokenizer = published(name) if rows == "tools" else build_tokenizer(name)
    path = written(tmp_path, ROWS_OF[rows])

    made, kept = (prepare(path, Labeller(tokenizer), ROWS, workers=workers) for _ in range(2))

    assert list(found(made)[0].values()) == one_by_one(path, tokenizer, ROWS)
    assert found(kept) == found(made)


@pytest.mark.parametrize("name", ["qwen2", "tinyllama"])
@pytest.mark.parametrize("rows", ["turns", "pairs"])
def test_the_rows_of_real_vocabularies_are_those_of_the_slow_way(tmp_path, cache, name, rows):
    if not (REAL / name).is_dir():
        pytest.skip("needs ../shared/tokenizers")
    tokenizer = AutoTokenizer.from_pretrained(REAL / name)
    kind = PAIRS if rows == "pairs" else ROWS
    path = written(tmp_path, [pair_row(number) if rows == "pairs" else turns_row(number) for number in range(70)])

    made, kept = (prepare(path, Labeller(tokenizer), kind) for _ in range(2))

    assert list(found(made)[0].values()) == one_by_one(path, tokenizer, kind)
    assert found(kept) == found(made)


def test_pairs_from_the_cache_are_the_pairs(tmp_path, cache, tokenizer, makings):
    path = written(tmp_path, [pair_row(number) for number in range(20)])

    one, two = (tokenize_pairs(path, tokenizer, ctx_size=120) for _ in range(2))

    assert len(makings) == 1
    assert list(map(as_lists, one.chosen)) == list(map(as_lists, two.chosen))
    assert list(map(as_lists, one.rejected)) == list(map(as_lists, two.rejected))
    assert one.dropped == two.dropped != ()


# --- what is found again, and what is not ----------------------------------------------------------------------


def test_a_file_that_was_prepared_is_not_prepared_again(tmp_path, cache, tokenizer, makings):
    path = written(tmp_path, ROWS_OF["turns"])
    for ctx_size in (64, 512):
        tokenize_dataset(path, tokenizer, ctx_size=ctx_size, on_overlong="drop")
    (entry,) = entries(cache)

    same = written(tmp_path, ROWS_OF["turns"], "same-content.jsonl")
    again = tokenize_dataset(same, build_tokenizer("chatml"), ctx_size=512)

    assert makings == [path]
    assert isinstance(again.examples[0].input_ids.base, np.ndarray)  # a view of what is mapped
    assert entries(cache) == [entry]


def changed_template(tokenizer: Any) -> dict[str, Any]:
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_end|>\n", "<|im_end|>")
    return {}


def changed_tokens(tokenizer: Any) -> dict[str, Any]:
    tokenizer.add_tokens(["Devices"])
    return {}


def changed_eos(tokenizer: Any) -> dict[str, Any]:
    tokenizer.eos_token = "<|im_start|>"
    return {}


def given_ids(tokenizer: Any) -> dict[str, Any]:
    prefix, suffix = (
        tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("<|im_start|>assistant\n", "<|im_end|>")
    )
    return {"prefix_ids": prefix, "suffix_ids": suffix}


@pytest.mark.parametrize("change", [changed_template, changed_tokens, changed_eos, given_ids])
def test_whatever_changes_tokens_or_labels_prepares_the_file_again(tmp_path, cache, tokenizer, makings, change):
    path = written(tmp_path, ROWS_OF["turns"])
    tokenize_dataset(path, tokenizer, ctx_size=512)
    settings = change(tokenizer)
    tokenize_dataset(path, tokenizer, ctx_size=512, **settings)
    assert len(makings) == 2


def test_one_byte_of_the_file_or_of_our_code_prepares_it_again(tmp_path, cache, tokenizer, makings, monkeypatch):
    path = written(tmp_path, ROWS_OF["turns"])
    tokenize_dataset(path, tokenizer, ctx_size=512)
    path.write_bytes(path.read_bytes().replace(b"Hi", b"Ho", 1))
    tokenize_dataset(path, tokenizer, ctx_size=512)
    assert len(makings) == 2
    monkeypatch.setattr(cache_module, "_code", lambda: "another")
    tokenize_dataset(path, tokenizer, ctx_size=512)
    assert len(makings) == 3


def test_the_date_counts_where_the_template_writes_it_alone(tmp_path, cache, tokenizer, makings):
    path = written(tmp_path, ROWS_OF["turns"])
    for day in (1, 2):
        tokenize_dataset(path, tokenizer, ctx_size=512, today=date(2026, 1, day))
    assert len(makings) == 1
    tokenizer.chat_template = "{{ strftime_now('%d') }}" + tokenizer.chat_template
    for day in (1, 2, 2):
        tokenize_dataset(path, tokenizer, ctx_size=512, today=date(2026, 1, day))
    assert len(makings) == 3


def test_bad_rows_are_refused_in_the_same_words_each_time(tmp_path, cache, tokenizer, makings):
    nobody = {"conversations": [{"from": "human", "value": "Anybody?"}]}
    path = written(tmp_path, [*ROWS_OF["turns"], nobody, {"text": 1}])
    said = []
    for _ in range(2):
        with pytest.raises(BadInput) as caught:
            tokenize_dataset(path, tokenizer, ctx_size=512)
        said.append(caught.value.problems)
    assert said[0] == said[1]
    assert said[0][0].startswith(f"{path}:71: row 70: no token to train on")
    assert said[0][1] == f"{path}:72: text: found the number 1; accepted: text"
    assert len(makings) == 2
    assert entries(cache) == []


def test_overlong_rows_are_named_in_the_same_words_from_the_cache(tmp_path, cache, tokenizer, makings):
    path = written(tmp_path, ROWS_OF["turns"])
    said = []
    for _ in range(2):
        with pytest.raises(BadInput) as caught:
            tokenize_dataset(path, tokenizer, ctx_size=100, on_overlong="error")
        said.append(caught.value.problems)
    assert said[0] == said[1]
    assert len(makings) == 1


def test_a_file_that_changes_while_it_is_prepared_is_not_kept(tmp_path, cache, tokenizer, monkeypatch):
    path = written(tmp_path, ROWS_OF["turns"])
    original = prepare_module._digest

    def digest_then_change(file: Path) -> str:
        before = original(file)
        file.write_bytes(file.read_bytes() + json.dumps(turns_row(1)).encode() + b"\n")
        return before

    monkeypatch.setattr(prepare_module, "_digest", digest_then_change)
    assert len(tokenize_dataset(path, tokenizer, ctx_size=512)) == 71
    assert entries(cache) == []


# --- damage, and caches that cannot be used ----------------------------------------------------------------------


@pytest.mark.parametrize("file", ["ids.npy", "spans.npy", "lines.npy", "manifest.json"])
@pytest.mark.parametrize("damage", ["byte", "cut", "gone"])
def test_a_damaged_entry_is_made_anew(tmp_path, cache, tokenizer, makings, file, damage):
    path = written(tmp_path, ROWS_OF["turns"])
    made = found(prepare(path, Labeller(tokenizer), ROWS))
    (entry,) = entries(cache)
    content = (entry / file).read_bytes()
    if damage == "gone":
        (entry / file).unlink()
    else:
        (entry / file).write_bytes(content[:-40] if damage == "cut" else content[:-40] + b"#" + content[-39:])

    assert found(prepare(path, Labeller(tokenizer), ROWS)) == made
    assert found(prepare(path, Labeller(tokenizer), ROWS)) == made
    assert len(makings) == 2


def test_what_a_caller_changes_stays_out_of_the_cache(tmp_path, cache, tokenizer):
    path = written(tmp_path, ROWS_OF["turns"])
    made = found(prepare(path, Labeller(tokenizer), ROWS))
    changed = prepare(path, Labeller(tokenizer), ROWS)
    changed.ids[:] = 0
    assert found(prepare(path, Labeller(tokenizer), ROWS)) == made


@pytest.mark.parametrize("fault", ["a file in its place", "no space"])
def test_a_cache_that_cannot_be_written_is_one_line(tmp_path, cache, tokenizer, monkeypatch, fault):
    path, said = written(tmp_path, ROWS_OF["turns"]), []
    if fault == "no space":

        def full(*arguments: Any, **settings: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(np, "save", full)
    else:
        cache.parent.write_text("not a folder")

    data = tokenize_dataset(path, tokenizer, ctx_size=512, say=said.append)

    assert len(data) == 70
    (line,) = said
    assert line.startswith(f"{cache}: ")
    assert line.endswith(": going on without the cache of prepared rows")
    assert not cache.is_dir() or not list(cache.glob(".partial-*"))


def test_the_cache_keeps_what_was_used_last_within_its_size(tmp_path, cache, tokenizer, monkeypatch):
    files = [written(tmp_path, [turns_row(number)] * 3, f"{number}.jsonl") for number in range(3)]
    for file in files[:2]:
        tokenize_dataset(file, tokenizer, ctx_size=512)
    first, second = sorted(entries(cache), key=lambda entry: entry.stat().st_mtime)
    os.utime(first, (1, 1))
    os.utime(second, (2, 2))
    abandoned = cache / ".partial-of-one-that-was-killed"
    abandoned.mkdir()
    os.utime(abandoned, (1, 1))
    tokenize_dataset(files[0], tokenizer, ctx_size=512)  # used now
    size = sum(file.stat().st_size for file in first.iterdir())
    monkeypatch.setattr(cache_module, "MOST_BYTES", int(1.5 * size))

    known = [cache / "lengths-old.json", cache / "lengths-new.json"]
    for file in known:
        file.write_text("[]")
    os.utime(known[0], (1, 1))

    tokenize_dataset(files[2], tokenizer, ctx_size=512)

    assert [file.exists() for file in known] == [False, True]
    assert first.is_dir()
    assert not second.exists()
    assert not abandoned.exists()
    assert len(entries(cache)) == 2


# --- several processes -------------------------------------------------------------------------------------------


def _prepare_in(folder: Path, path: Path, said: Any) -> None:
    os.environ["HATRAIN_CACHE"] = str(folder)
    prepare_module.SMALL = 0
    original = prepare_module._made

    def slow(*arguments: Any) -> Prepared:
        said.put("made")
        time.sleep(0.5)
        return original(*arguments)

    prepare_module._made = slow
    said.put(len(prepare(path, Labeller(build_tokenizer("chatml")), ROWS)))


def test_of_several_processes_one_prepares_and_the_others_wait_for_it(tmp_path):
    path = written(tmp_path, ROWS_OF["turns"])
    context = multiprocessing.get_context("fork")
    said = context.Queue()
    processes = [context.Process(target=_prepare_in, args=(tmp_path / "cache", path, said)) for _ in range(3)]
    for process in processes:
        process.start()
    answers = [said.get(timeout=120) for _ in range(4)]
    for process in processes:
        process.join(120)
    assert sorted(map(str, answers)) == ["70", "70", "70", "made"]


@pytest.mark.parametrize(("rank", "lines"), [(None, 1), ("0", 1), ("3", 0)])
def test_of_the_ranks_of_a_machine_the_first_says_that_it_waits(tmp_path, cache, tokenizer, monkeypatch, rank, lines):
    path, labeller, said = written(tmp_path, ROWS_OF["turns"]), Labeller(tokenizer), []
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    cache.mkdir(parents=True)
    key = cache_module.key_of(labeller, ROWS.name, seal.digest(path))
    other = (cache / f".lock-{key}").open("w")
    fcntl.flock(other.fileno(), fcntl.LOCK_EX)
    monkeypatch.setattr(cache_module.time, "sleep", lambda seconds: other.close())
    assert len(prepare(path, labeller, ROWS, say=said.append)) == len(ROWS_OF["turns"])
    assert other.closed
    assert len([line for line in said if "waiting for another process" in line]) == lines


def test_no_worker_outlives_a_process_that_is_killed(tmp_path):
    path = written(tmp_path, ROWS_OF["turns"] * 40)
    program = textwrap.dedent(f"""
        import os, time
        from hatrain.data import prepare
        from hatrain.data.dataset import ROWS
        from hatrain.data.labels import Labeller
        from tests.families import build_tokenizer
        work_on = prepare._Work.__call__
        def slow(self, chunk):
            if prepare._work_of_worker is not None:
                os.write(1, b"working\\n")  # one write: the processes share the pipe
                time.sleep(600)
            return work_on(self, chunk)
        prepare._Work.__call__ = slow
        prepare.prepare({str(path)!r}, Labeller(build_tokenizer("chatml")), ROWS, workers=3)
    """)
    parent = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert parent.stdout is not None
    for _ in range(3):
        assert parent.stdout.readline() == "working\n"
    workers = _children(parent.pid)
    assert len(workers) == 3
    deadline = time.monotonic() + 120
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert parent.stdout.read() == ""  # ends when no process has it open any more
    while [pid for pid in workers if _is_running(pid)]:  # a moment longer: files are closed first
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _children(parent: int) -> list[int]:
    stats = [path.read_text().rpartition(")")[2].split() for path in _stats()]
    return [int(path.parent.name) for path, fields in zip(_stats(), stats, strict=False) if int(fields[1]) == parent]


def _stats() -> list[Path]:
    return [path for path in Path("/proc").glob("[0-9]*/stat") if path.exists()]


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_cuts_that_turn_out_wrong_prepare_the_file_again_without_them(tmp_path, cache, tokenizer, monkeypatch):
    path = written(tmp_path, ROWS_OF["turns"])
    expected = one_by_one(path, tokenizer, ROWS)
    original, refused = Encoder.encode, []

    def wrong(self: Encoder, texts: Any) -> Any:
        if not self._is_whole:
            refused.append(len(texts))
            raise Inexact
        return original(self, texts)

    monkeypatch.setattr(Encoder, "encode", wrong)
    assert list(found(prepare(path, Labeller(tokenizer), ROWS, workers=2))[0].values()) == expected
    assert refused


def test_a_long_preparation_says_how_far_it_is(tmp_path, cache, tokenizer, monkeypatch):
    path, said = written(tmp_path, ROWS_OF["turns"] * 2), []
    monkeypatch.setattr(prepare_module, "CHUNK", 60)
    monkeypatch.setattr("hatrain.runtime.counting.FIRST_SECONDS", 0.0)
    prepare(path, Labeller(tokenizer), ROWS, say=said.append, workers=1)
    assert said[0].startswith(f"preparing {path}: 60 of 140 rows, ")
    assert said[0].endswith(" left")


def test_check_and_training_use_the_same_prepared_rows(tmp_path, cache, makings, capsys):
    from hatrain.cli import main

    build_tokenizer("chatml").save_pretrained(tmp_path / "model")
    path = written(tmp_path, ROWS_OF["turns"])
    outputs = []
    for ctx_size in ("512", "512", "100"):
        assert main(["check", str(path), "--model", str(tmp_path / "model"), "--ctx-size", ctx_size]) == 0
        outputs.append(capsys.readouterr())
    assert outputs[0] == outputs[1]
    assert "70 rows" in outputs[2].out
    from hatrain.model.tokenizer import load_tokenizer

    tokenize_dataset(path, load_tokenizer(str(tmp_path / "model")), ctx_size=300)
    assert len(makings) == 1


def test_the_rows_of_every_file_read_by_one_or_several_processes_have_their_lines(tmp_path, cache, tokenizer):
    rows = [turns_row(number) for number in range(70)]
    path = tmp_path / "rows.json"
    path.write_text("[\n" + ",\n".join(json.dumps(row, indent=1) for row in rows) + "\n]")
    prepared = prepare(path, Labeller(tokenizer), ROWS, workers=2)
    assert prepared.lines.tolist() == [row.line for row in scan_rows(path)]
    assert prepared.rows.tolist() == list(range(70))
