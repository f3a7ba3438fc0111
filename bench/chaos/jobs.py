"""The runs that are disturbed: tiny models on made-up rows, one kind for each way of training and saving."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hatrain.contract.plan import Plan
from hatrain.contract.run import RunDirectory
from hatrain.contract.spec import JobSpec
from launch import cluster_files, planner

ROWS, TEST_ROWS = 48, 8
BATCH = 8
ROOMS = ["kitchen", "bedroom", "hall", "garage", "attic", "garden"]


@dataclass(frozen=True)
class Kind:
    """A way of training. Dropout is on, so that the random state has to be restored."""

    name: str
    method: dict[str, Any] = field(default_factory=dict)
    ranks: int = 1
    requests: int = 0
    """Test requests of the evaluation after training."""
    evaluation: dict[str, Any] = field(default_factory=dict)


LORA = {"rank": 4, "modules": ["q_proj", "v_proj"], "dropout": 0.1}
KINDS = {
    kind.name: kind
    for kind in (
        Kind("SFT", requests=2),
        Kind("LoRA", {"lora": LORA}),
        Kind("DPO", {"kind": "dpo"}),
        Kind("two ranks", ranks=2),
        # So fast that it ends after 18 steps, and the model is that of step 9.
        Kind(
            "best",
            {"learning_rate": 6e-2, "learning_rate_schedule": "constant"},
            requests=2,
            evaluation={"eval_steps": 3, "keep": "best", "metric": "accuracy", "stop_after": 3},
        ),
    )
}


def make_inputs(folder: Path) -> None:
    """Write rows, pairs, a base model, and a base whose weights are not finite."""
    from hatrain.model.tiny import make

    folder.mkdir(parents=True)
    draw = random.Random(1)
    for name, count in (("train", ROWS), ("test", TEST_ROWS)):
        rows = list(_rows(draw, count))
        _write(folder / f"{name}.jsonl", [{"conversations": [*asked, _said(right)]} for asked, right, _ in rows])
        _write(
            folder / f"{name}-pairs.jsonl",
            [
                {"prompt": _messages(asked), "chosen": _messages([_said(right)]), "rejected": _messages([_said(wrong)])}
                for asked, right, wrong in rows
            ],
        )
    make(folder / "train.jsonl", folder / "base", vocabulary=300, hidden=32, layers=2, heads=2, ctx_size=256, seed=1)
    config = folder / "base" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "attention_dropout": 0.1}))


def _rows(draw: random.Random, count: int) -> Iterator[tuple[list[dict[str, str]], str, str]]:
    for _ in range(count):
        room, device, state = draw.choice(ROOMS), draw.choice(["light", "fan"]), draw.choice(["on", "off"])
        system = {"from": "system", "value": "Rooms: " + " ".join(draw.sample(ROOMS, 3))}
        request = {"from": "human", "value": f"turn {state} the {device} in the {room}"}
        yield [system, request], f"{room} {device} {state}", f"{room} {device} {'off' if state == 'on' else 'on'}"


def _said(text: str) -> dict[str, str]:
    return {"from": "gpt", "value": text}


def _messages(turns: list[dict[str, str]]) -> list[dict[str, str]]:
    roles = {"system": "system", "human": "user", "gpt": "assistant"}
    return [{"role": roles[turn["from"]], "content": turn["value"]} for turn in turns]


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def plan_of(kind: Kind, inputs: Path, runs: Path, name: str, **changes: Any) -> Plan:
    """Plan a run of a kind. `changes` are those of its method, or with `part__key` of another part of the job."""
    suffix = "-pairs" if kind.method.get("kind") == "dpo" else ""
    job: dict[str, Any] = {
        "name": name,
        "seed": 5,
        "model": {"base": str(inputs / "base"), "dtype": "fp32"},
        "data": {"train": str(inputs / f"train{suffix}.jsonl"), "test": str(inputs / f"test{suffix}.jsonl")},
        "method": {
            "learning_rate": 2e-3,
            "batch_size": BATCH,
            "micro_batch_size": 4,
            "epochs": 8,
            "gradient_checkpointing": False,
            "ctx_size": 256,
            **kind.method,
        },
        "hardware": {"gpu": "cpu", "gpus_per_node": kind.ranks},
        "checkpoints": {"save_steps": 3, "save_total_limit": 3},
        "evaluation": {"eval_steps": 5, "sample": 8, "requests": kind.requests, **kind.evaluation},
        "logging": {"logging_steps": 1},
        "limits": {"retries": 1000},
    }
    for key, value in changes.items():
        part, _, inner = key.rpartition("__")
        job[part or "method"][inner] = value
    cluster_name, cluster = cluster_files.load_cluster("local")
    return planner.plan(JobSpec.model_validate(job), cluster, cluster_name, workdir=runs.parent, runs_root=runs)


def adopt(plan: Plan) -> RunDirectory:
    run = RunDirectory(Path(plan.paths.run))
    run.adopt(plan, {})
    return run
