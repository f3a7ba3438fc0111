"""What all sides train: rows of our generator in the order of hatrain's steps, and a Llama of random weights."""

import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from bench.gpu.speed import pair_columns
from hatrain.contract.plan import Plan
from hatrain.contract.run import RunDirectory
from hatrain.contract.spec import JobSpec
from hatrain.data.prefixes import prefix_groups
from hatrain.home.generate.dataset import Recipe, generate
from hatrain.model.tiny import build_tokenizer, texts_of
from hatrain.model.tokenizer import tokenizer_of
from hatrain.train.rows import load_rows
from hatrain.train.step_dataset import StepDataset
from launch import cluster_files, planner

VOCABULARY = 16_384
ENTRIES = 800
"""Of the tokenizer: few, so that a row has as many tokens as under the tokenizers of real models."""
SHAPE: dict[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}
NEVER = 10**9
MICRO_BATCH_SIZE = 2


@dataclass(frozen=True)
class Setup:
    """One row of the table: a method, how many rows of a home there are, and the rows of a step."""

    name: str
    kind: str
    requests_per_home: int
    rows_per_step: int
    steps: int
    """Of a turn."""
    rows: int = 0
    """At least so many: the reference of DPO is computed of all of them."""


SETUPS = (
    Setup("SFT, 1 request a home", "sft", 1, 8, 1),
    Setup("SFT, 8 requests a home", "sft", 8, 8, 1),
    Setup("DPO", "dpo", 1, 8, 1, 256),
)


def make(setup: Setup, work: Path, turns: int) -> Path:
    """Write the inputs of a setup to a folder, and return it."""
    folder = work / f"{setup.kind}-{setup.requests_per_home}"
    base = work / "base"
    train = _rows(setup, work, max(setup.rows, setup.rows_per_step * setup.steps * (turns + 2)))
    if not base.exists():
        _make_base(base, _rows(SETUPS[0], work, 2_000))
    plan = _plan(setup, work, folder, base, train)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.json").write_text(plan.model_dump_json())
    loaded = load_rows(plan, tokenizer_of(plan.job.model), RunDirectory(Path(plan.paths.run)))
    rows = loaded.train
    steps = StepDataset(
        rows.lengths,
        rows.supervised,
        lambda rows: [],
        sizes=[len(rows)],
        weights=[1.0],
        rows_per_step=setup.rows_per_step,
        order=plan.job.data.order,
        groups=prefix_groups([example.input_ids for example in loaded.examples]),
        seed=plan.job.seed,
    )
    lengths = rows.lengths / (2 if setup.kind == "dpo" else 1)
    (folder / "rows.json").write_text(json.dumps([_row(rows, row) for row in steps.epoch_order().tolist()]))
    written = {
        "kind": setup.kind,
        "base": str(base),
        "rows_per_step": setup.rows_per_step,
        "steps": setup.steps,
        "tokens_per_row": float(lengths.mean()),
        "supervised_per_row": float(rows.supervised.mean()),
        "learning_rate": plan.job.method.learning_rate,
        "beta": 0.1,
    }
    (folder / "settings.json").write_text(json.dumps(written))
    return folder


def _row(rows: Any, row: int) -> dict[str, Any]:
    """A row of token ids, as TRL's trainers take it."""
    if not hasattr(rows, "chosen"):
        example = rows.examples[row]
        return {"input_ids": example.input_ids.tolist(), "labels": example.labels.tolist()}
    return pair_columns(rows.chosen[row], rows.rejected[row])


def _rows(setup: Setup, work: Path, count: int) -> Path:
    part: Any = "dpo" if setup.kind == "dpo" else "train"
    folder = work / f"generated-{part}-{setup.requests_per_home}"
    path = folder / f"{count}.jsonl"
    if not path.exists():
        recipe = Recipe(("english",), "guide", requests_per_home=setup.requests_per_home)
        with generate(recipe, [part], folder)[part].open(encoding="utf-8") as stream:
            path.write_text("".join(islice(stream, count)), encoding="utf-8")
    return path


def _make_base(folder: Path, texts: Path) -> None:
    tokenizer = build_tokenizer(texts_of(texts), ENTRIES)
    torch.manual_seed(42)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=2048,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **SHAPE,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _plan(setup: Setup, work: Path, folder: Path, base: Path, train: Path) -> Plan:
    job = {
        "name": folder.name,
        "model": {"base": str(base), "dtype": "fp32"},
        "data": {"train": str(train), "order": "by_prefix" if setup.requests_per_home > 1 else "shuffled"},
        "method": {
            "kind": setup.kind,
            "batch_size": setup.rows_per_step,
            "micro_batch_size": MICRO_BATCH_SIZE,
            "ctx_size": 2048,
            "learning_rate": 1e-4,
            "learning_rate_schedule": "constant",
            "gradient_checkpointing": False,
            "epochs": 100,
        },
        "hardware": {"gpu": "cpu"},
        "checkpoints": {"save_steps": NEVER},
        "evaluation": {"requests": 0},
        "logging": {"logging_steps": 1},
    }
    name, cluster = cluster_files.load_cluster("local")
    return planner.plan(JobSpec.model_validate(job), cluster, name, workdir=work, runs_root=folder / "runs")
