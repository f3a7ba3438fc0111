"""Rows about a home, a tiny base model, and attempts at runs in this process, as a rank makes them."""

import json
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hatrain.contract.plan import Plan
from hatrain.contract.run import Attempt, Exit, RunDirectory
from hatrain.model.quiet import quiet
from hatrain.runtime import stop
from hatrain.runtime.stop import Stop

quiet()


def house_rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Rows about a home that a tiny model learns quickly, of many lengths, some with two turns."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        turns = [{"from": "system", "value": "Rooms: " + " ".join(draw.sample(ROOMS, draw.randint(1, 5)))}]
        for _ in range(draw.randint(1, 2)):
            room, device, state = (
                draw.choice(ROOMS),
                draw.choice(["light", "fan"]),
                draw.choice(["on", "off"]),
            )
            turns.append({"from": "human", "value": f"turn {state} the {device} in the {room}"})
            turns.append({"from": "gpt", "value": f"{room} {device} {state}"})
        rows.append({"conversations": turns})
    return rows


ROOMS = ["kitchen", "bedroom", "hall", "garage", "attic", "garden"]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="session")
def inputs(tmp_path_factory) -> Path:
    """A read-only folder with rows and a base model."""
    from hatrain.model.tiny import make

    inputs = tmp_path_factory.mktemp("inputs")
    write_rows(inputs / "train.jsonl", house_rows(60, 1))
    write_rows(inputs / "test.jsonl", house_rows(20, 2))
    make(
        inputs / "train.jsonl",
        inputs / "base",
        vocabulary=300,
        hidden=32,
        layers=2,
        heads=2,
        ctx_size=256,
        seed=1,
    )
    config = json.loads((inputs / "base/config.json").read_text())
    # Dropout makes the random state matter, so that resuming has something to get wrong.
    (inputs / "base/config.json").write_text(json.dumps({**config, "attention_dropout": 0.1}))
    return inputs


@pytest.fixture(scope="session")
def bases(tmp_path_factory) -> Callable[[str], Path]:
    """Makes the base of a family, once."""
    from tests.models import tiny_base

    folder = tmp_path_factory.mktemp("bases")

    def base(family: str) -> Path:
        return folder / family if (folder / family).is_dir() else tiny_base(family, folder / family)

    return base


@dataclass
class Tried:
    """The outcome of an attempt."""

    code: Exit
    reason: str
    run: RunDirectory
    attempt: Attempt


class Workplace:
    """Makes attempts at jobs in this process, as `python -m hatrain.train` does."""

    def __init__(self, folder: Path, inputs: Path, monkeypatch: pytest.MonkeyPatch):
        self.folder, self.inputs, self.monkeypatch = folder, inputs, monkeypatch

    def plan(self, name: str = "run", **changes: Any) -> Plan:
        """A plan of a small job, with changes such as `method__epochs=2`."""
        from hatrain.contract.spec import JobSpec
        from launch.cluster_files import load_cluster
        from launch.planner import plan

        job: dict[str, Any] = {
            "name": name,
            "seed": 5,
            "model": {"base": str(self.inputs / "base"), "dtype": "fp32"},
            "data": {"train": str(self.inputs / "train.jsonl"), "test": str(self.inputs / "test.jsonl")},
            "method": {
                "learning_rate": 5e-3,
                "batch_size": 8,
                "micro_batch_size": 4,
                "gradient_checkpointing": False,
                "ctx_size": 256,
            },
            "hardware": {"gpu": "cpu"},
            "checkpoints": {"save_steps": 3, "save_total_limit": 3},
            "evaluation": {"eval_steps": 4, "sample": 8, "requests": 0},
            "logging": {"logging_steps": 1},
        }
        for key, value in changes.items():
            part, _, inner = key.partition("__")
            if inner:
                job.setdefault(part, {})[inner] = value
            else:
                job[part] = value
        cluster_name, cluster = load_cluster("local")
        spec = JobSpec.model_validate(job)
        return plan(spec, cluster, cluster_name, workdir=self.folder, runs_root=self.folder / "runs")

    def attempt(self, plan: Plan, stop_at: int | None = None, requeue: bool = True) -> Tried:
        """Make one attempt, with a stop after step `stop_at`."""
        from hatrain.train.__main__ import main

        run = RunDirectory(Path(plan.paths.run))
        run.adopt(plan, {})
        attempt = run.new_attempt()
        run.record("attempt begun", attempt=attempt.number)
        with self.monkeypatch.context() as patch:
            if stop_at is not None:
                _stop_after(patch, attempt, stop_at, requeue)
            code = main(str(run.folder), str(attempt.number))
        return Tried(code, json.loads((attempt.folder / "rank-0.json").read_text())["reason"], run, attempt)


def spoil_gradient(patch: pytest.MonkeyPatch, *steps: int | None, loss: bool = False) -> None:
    """Make the gradient (or the loss) of some steps not-a-number in this process. The loss is finite."""
    import torch

    from hatrain.train.sft import SftTrainer

    original = SftTrainer.micro_batch_loss

    def micro_batch_loss(self, model, *parts: Any) -> Any:
        total = original(self, model, *parts)
        if not model.training or self.state.global_step + 1 not in steps:
            return total
        return total * torch.nan if loss else total + torch.sqrt(total * 0)  # its derivative is 0 × inf

    patch.setattr(SftTrainer, "micro_batch_loss", micro_batch_loss)


def _stop_after(patch: pytest.MonkeyPatch, attempt: Attempt, step: int, requeue: bool) -> None:
    """Request a stop when a step's gradients are ready. A scheduler or a user may do so at any time."""
    from hatrain.train.trainer import StepTrainer

    original = StepTrainer.training_step

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        loss = original(self, *args, **kwargs)
        if self.state.global_step + 1 == step:
            attempt.request_stop(Stop("the test", requeue=requeue))
        return loss

    patch.setattr(StepTrainer, "training_step", training_step)


@pytest.fixture
def workplace(tmp_path, inputs, monkeypatch) -> Workplace:
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in stop.SIGNALS}
    yield Workplace(tmp_path, inputs, monkeypatch)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def weights(folder: Path) -> dict[str, Any]:
    """The tensors of a saved model."""
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def metrics(run: RunDirectory) -> list[dict[str, Any]]:
    """The logged steps."""
    from hatrain.runtime import seal

    return seal.read_lines(run.metrics)
