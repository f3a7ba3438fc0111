"""What is read from outside, each as a function of bytes. It may refuse with BadInput, one line for each problem;
anything else that it raises is a finding."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hatrain.cli import summary
from hatrain.cli.columns import states
from hatrain.contract.cluster import KINDS
from hatrain.contract.load import load
from hatrain.contract.run import RunDirectory
from hatrain.contract.spec import JobSpec
from hatrain.data.dataset import tokenize_dataset
from hatrain.data.pairs import holds_pairs
from hatrain.data.rows import read_rows
from hatrain.errors import BadInput
from hatrain.home.calls.answer import read_answer
from hatrain.home.calls.prompt import PromptContents, read_prompt
from hatrain.home.judge.judge import Case, judge
from hatrain.report.read import read_metrics
from hatrain.runtime import checkpoints, seal
from launch import status

JOB = b"""\
name: kitchen
model: {base: some/base, dtype: fp32}
data: {train: [{path: a.jsonl, weight: 2}, b.jsonl], test: t.jsonl}
method: {learning_rate: 1e-5, epochs: 2, lora: {rank: 8, modules: [q_proj]}}
hardware: {gpu: cpu, gpus_per_node: 2}
checkpoints: {save_steps: auto, sync_to: s3://bucket/x}
limits: {time: 1-12:00:00, hang: 10m}
"""
CLUSTER = b"""\
kind: local
environment: {HF_HOME: /data}
mean_time_between_failures: 12h
"""
ROW = json.dumps(
    {
        "conversations": [
            {"from": "system", "value": "Devices:\nlight.kitchen 'Kitchen' = on"},
            {"from": "human", "value": "turn it off"},
            {"from": "gpt", "value": 'Done.\n```homeassistant\n{"service": "light.turn_off"}\n```'},
        ]
    }
).encode()
MESSAGES = json.dumps(
    {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "hello"}]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"type": "function", "function": {"name": "HassTurnOn", "arguments": {"name": "x"}}}],
            },
        ],
        "tools": [{"type": "function", "function": {"name": "HassTurnOn", "parameters": {}}}],
    }
).encode()
PAIR = json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"}).encode()
ANSWERS = (
    b'turning on the light\n```homeassistant\n{"service": "light.turn_on", "target_device": "light.kitchen"}\n```',
    b'<tool_call>\n{"name": "HassTurnOn", "arguments": {"name": "Kitchen", "brightness": 30}}\n</tool_call>',
    b"The kitchen light is on at 30 %.",
    b'<functioncall> {"name": "light.turn_on", "arguments": {"rgb_color": [1, 2, 3]}}',
)
RECORD = b"\n".join(
    json.dumps(event).encode()
    for event in (
        {"time": "2026-11-27T21:00:00+00:00", "event": "submitted", "job": "12.34", "user": "ada"},
        {"time": "2026-11-27T21:00:01+00:00", "event": "attempt begun", "attempt": 1, "date": "2026-11-27"},
        {"event": "test loss", "attempt": 1, "when": "before", "loss": 2.5},
        {"event": "checkpoint sealed", "attempt": 1, "step": 3, "bytes": 12, "seconds": 0.5},
        {"event": "outcome", "attempt": 1, "code": 75, "reasons": {"rank 0": "SIGTERM"}, "seconds": 3.5},
    )
)
TEMPLATES = (
    b"{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + "
    b"'\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    b"{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content | trim }}"
    b"{% endgeneration %}{{ eos_token }}{% else %}[{{ m.role }}] {{ m.content }} {% endif %}{% endfor %}",
)
METRICS = b'{"attempt": 1, "step": 3, "steps": 8, "epoch": 0.5, "loss": 2.5, "tokens_per_second": 100.0}\n'


@dataclass(frozen=True)
class Target:
    """Something that reads bytes in a folder of its own."""

    seeds: Sequence[bytes]
    read: Callable[[bytes, Path], object]


def _file(data: bytes, folder: Path, name: str) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def _job(data: bytes, folder: Path) -> None:
    load(JobSpec, _file(data, folder, "job.yaml"))


def _cluster(data: bytes, folder: Path) -> None:
    load(KINDS["local"], _file(data, folder, "cluster.yaml"))


def _rows(data: bytes, folder: Path) -> None:
    for name in ("rows.jsonl", "rows.json"):
        path = _file(data, folder, name)
        holds_pairs(path)
        for _ in read_rows(path):
            pass


def _manifest(data: bytes, folder: Path) -> None:
    """A damaged manifest gives a verdict, and never passes for whole with other facts."""
    final = folder / "checkpoint-7"
    if not final.exists():
        seal.write_text(folder / ".partial" / "weights", "w" * 100)
        seal.seal(folder / ".partial", final, step=7, identity="ours")
        shutil.copy(final / seal.MANIFEST, folder / "good")
    (final / seal.MANIFEST).write_bytes(data or (folder / "good").read_bytes())
    verdict = seal.verify(final)
    assert verdict is None or (verdict and "\n" not in verdict)
    checkpoints.newest(folder, "ours")
    if verdict is None:
        assert seal.facts(final) == {"step": 7, "identity": "ours"} or b'"sha256"' not in data[:40]


def _manifests() -> list[bytes]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        _manifest(b"", path)
        return [(path / "good").read_bytes(), json.dumps({"files": {"weights": {"size": 1, "sha256": "0"}}}).encode()]


def _answer(data: bytes, folder: Path) -> None:
    text = data.decode(errors="replace")
    answer = read_answer(text)
    known = read_prompt(["Devices:\nlight.kitchen 'Kitchen' = on;30%\n" + text])
    for contents in (PromptContents(), known):
        for expected in ANSWERS:
            judge(Case(read_answer(expected.decode()), contents, language="english"), answer)
        judge(Case(answer, contents), answer)


@cache
def _tokenizer() -> Any:
    """A tokenizer of words, without a file."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {word: number for number, word in enumerate(("<unk>", "<|im_start|>", "<|im_end|>", "user", "assistant"))}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<|im_end|>", pad_token="<unk>"
    )


def _template(data: bytes, folder: Path) -> None:
    """A chat template: its rows are tokenized, or refused."""
    tokenizer = _tokenizer()
    tokenizer.chat_template = data.decode(errors="replace")
    tokenize_dataset(_file(ROW, folder, "rows.jsonl"), tokenizer, ctx_size=256)


def _run_folder(data: bytes, folder: Path) -> None:
    """Any bytes in any file of a run: looking at it shows a state."""
    run = RunDirectory(folder / "runs" / "kitchen")
    run.folder.mkdir(parents=True, exist_ok=True)
    for path in (run.plan_file, run.record_file, run.metrics, run.evaluation, run.lease.path):
        path.write_bytes(data)
    (run.attempts / "1").mkdir(parents=True, exist_ok=True)
    (run.attempts / "1" / "STOP").write_bytes(data)
    (run.attempts / "1" / "rank-0.json").write_bytes(data)
    assert states(status.look([run]))
    run.today()
    run.fruitless()
    run.all_attempts()[-1].stop()
    run.all_attempts()[-1].outcomes([0])
    read_metrics(run)
    list(summary.rows(run))


def targets() -> dict[str, Target]:
    return {
        "jobs": Target([JOB], _job),
        "cluster files": Target([CLUSTER], _cluster),
        "rows": Target([ROW, MESSAGES, PAIR, b"\n".join([ROW, MESSAGES]), b"[" + ROW + b"," + PAIR + b"]"], _rows),
        "chat templates": Target(TEMPLATES, _template),
        "manifests": Target(_manifests(), _manifest),
        "answers and the judge": Target(ANSWERS, _answer),
        "run folders": Target([RECORD, METRICS, b'{"before": {}, "after": {"requests": 3}}'], _run_folder),
    }


def check(target: Target, data: bytes, folder: Path) -> None:
    """Let a target read data. A refusal must be of whole lines."""
    try:
        target.read(data, folder)
    except BadInput as error:
        assert error.problems
        assert all(problem.strip() for problem in error.problems)
