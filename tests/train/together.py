"""Runs on several CPU ranks, started by torchrun, and comparisons of their results."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hatrain.contract.plan import Plan
from hatrain.contract.run import Exit, RunDirectory
from launch import distributed
from tests.train.conftest import Workplace, metrics, weights

REPOSITORY = Path(__file__).parents[2]
TWO = {"hardware__gpus_per_node": 2, "method__gradient_checkpointing": True}

Started = tuple[RunDirectory, int, int | None, int | None]
"""An attempt to make: the run, the attempt's number, the step after which it is asked to stop, and the step in which
the last rank's gradient is not finite."""


def sharded(plan: Plan, strategy: str) -> Plan:
    """The plan under a strategy, also one that the planner refuses."""
    hardware = plan.job.hardware.model_copy(update={"sharding": strategy})
    job = plan.job.model_copy(update={"hardware": hardware})
    return plan.model_copy(update={"job": job, "sharding": strategy})


def two_ranks(make: Callable[..., Plan], name: str, strategy: str, **changes: Any) -> RunDirectory:
    """A run of two ranks under a strategy, as planned. FSDP, which the planner allows on GPUs only, is planned as
    ddp, or as ZeRO-3 where each rank writes its shard."""
    fsdp_as = "zero3" if "checkpoints__state" in changes else "ddp"
    planned = fsdp_as if strategy == "fsdp" else strategy
    return adopted(sharded(make(name, **{"hardware__sharding": planned, **TWO, **changes}), strategy))


def adopted(plan: Plan) -> RunDirectory:
    """The run directory of a plan, with the files that configure its strategy."""
    run = RunDirectory(Path(plan.paths.run))
    run.adopt(plan, distributed.files(plan))
    return run


def attempt(run: RunDirectory, stop_at: int | None = None, spoiled: int | None = None) -> Started:
    """A new attempt at a run."""
    return run, run.new_attempt().number, stop_at, spoiled


def start(attempts: Sequence[Started], ranks: int = 2) -> None:
    """Make attempts one after another, on the same ranks."""
    assert _torchrun(attempts, "--standalone", "--nproc_per_node", str(ranks)).wait() == 0


def start_nodes(attempts: Sequence[Started], nodes: int = 2) -> None:
    """Make attempts one after another, with one rank on each of several simulated nodes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    where = [
        "--nnodes",
        str(nodes),
        "--nproc_per_node",
        "1",
        "--master_addr",
        "127.0.0.1",
        "--master_port",
        str(port),
    ]
    started = [_torchrun(attempts, *where, "--node_rank", str(node)) for node in range(nodes)]
    assert [node.wait() for node in started] == [0] * nodes


def _torchrun(attempts: Sequence[Started], *options: str) -> subprocess.Popen[bytes]:
    arguments = json.dumps([(str(run.folder), *others) for run, *others in attempts])
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *options, "-m", "tests.train.ranks", arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
    )


def plans(workplace: Workplace) -> Callable[..., Plan]:
    """Makes plans of a job without dropout, which would differ where ranks divide the rows. The last step has three
    micro-batches for two ranks."""
    base = shutil.copytree(workplace.inputs / "base", workplace.folder / "base")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "attention_dropout": 0.0}))

    def made(name: str, **changes: Any) -> Plan:
        return workplace.plan(name, **{"model__base": str(base), "method__micro_batch_size": 2, **changes})

    return made


def with_its_own_head(base: Path, out: Path) -> Path:
    """Write an untied copy of a base. Returns its folder."""
    shutil.copytree(base, out)
    config = json.loads((base / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    AutoModelForCausalLM.from_pretrained(out).save_pretrained(out)
    assert "lm_head.weight" in weights(out)
    return out


# --- reports of a run ----------------------------------------------------------------------------------------


def ran(run: RunDirectory, attempt: int, ranks: int = 2) -> list[dict[str, Any]]:
    """The strategy that ran, as each rank reported it."""
    folder = run.attempts / str(attempt)
    return [json.loads((folder / f"ran-{rank}.json").read_text()) for rank in range(ranks)]


def left(run: RunDirectory, attempt: int, ranks: int = 2) -> list[tuple[Exit, str]]:
    """The exit code and reason of each rank."""
    folder = run.attempts / str(attempt)
    reports = [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(ranks)]
    return [(Exit(report["code"]), report["reason"]) for report in reports]


def logged(run: RunDirectory, name: str) -> list[float]:
    """A metric at each step that has it; of a step logged twice, the last."""
    return list({line["step"]: line[name] for line in metrics(run) if name in line}.values())


def losses_on_the_test_set(run: RunDirectory) -> dict[str, float]:
    return {event["when"]: event["loss"] for event in run.events() if event["event"] == "test loss"}


# --- comparisons ----------------------------------------------------------------------------------


def assert_same(one: RunDirectory, other: RunDirectory, tolerance: float = 1e-4, with_test_loss: bool = True) -> None:
    """Require the same losses within a relative tolerance, and the same weights: sums over ranks round differently. A
    stopped run has no test loss for the step of the stop (`with_test_loss=False`)."""
    assert len(logged(one, "loss")) > 4
    for name in ("loss", "learning_rate", *(["test_loss"] if with_test_loss else [])):
        assert logged(one, name) == pytest.approx(logged(other, name), rel=tolerance)
    norms = logged(one, "gradient_norm"), logged(other, "gradient_norm")
    assert norms[0] == pytest.approx(norms[1], rel=10 * tolerance)
    assert losses_on_the_test_set(one) == pytest.approx(losses_on_the_test_set(other), rel=tolerance)
    if tolerance < 1e-3:
        expected = weights(other.model)
        for name, tensor in weights(one.model).items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-4)


def assert_resumed(parts: RunDirectory, whole: RunDirectory) -> None:
    """Every rank stopped after step 4, and the resumed run is equal to one without a stop."""
    assert [code for code, _ in left(parts, 1)] == [Exit.REQUEUE, Exit.REQUEUE]
    steps = [line["step"] for line in metrics(parts) if "loss" in line and line["attempt"] == 2]
    assert steps == list(range(5, 5 + len(steps)))
    assert steps
    one, other = weights(parts.model), weights(whole.model)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert logged(parts, "loss") == logged(whole, "loss")


def assert_plain(folder: Path, like: Path) -> None:
    """Plain transformers loads all of it, as a model of the base's class, with its tokenizer."""
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values())
    assert type(model) is type(AutoModelForCausalLM.from_pretrained(like))
    assert model.config.architectures == ["LlamaForCausalLM"]
    assert weights(folder).keys() == weights(like).keys()
    assert AutoTokenizer.from_pretrained(folder).chat_template


def assert_ran(strategy: str, report: dict[str, Any], ranks: int = 2) -> None:
    """The strategy really ran: by accelerate's and DeepSpeed's state, and by the share of weights and optimizer state
    on each rank."""
    names = {"ddp": "MULTI_CPU", "fsdp": "FSDP"}
    assert report["distributed_type"] == names.get(strategy, "DEEPSPEED")
    if strategy.startswith("zero"):
        assert (report["wrapper"], report["stage"]) == ("DeepSpeedEngine", int(strategy[-1]))
        assert report["shards_gradients"] == (strategy != "zero1")
    if strategy == "zero3":
        # Sharded while they were read; adapters and copies for modules_to_save are sharded later, by the engine.
        assert report["read"] == pytest.approx(1 / ranks, abs=0.2)
    if strategy in ("fsdp", "zero3"):
        assert report["sharded"] > 0
        # ZeRO-3 does not shard small parameters.
        assert report["largest_whole"] <= (10 * report["hidden"] if strategy == "zero3" else 0)
        assert report["held"] == pytest.approx(1 / ranks, abs=0.15)
    else:
        assert (report["sharded"], report["held"]) == (0, 1)
    assert report["stepped"] == (1 if strategy == "ddp" else pytest.approx(1 / ranks, abs=0.1))
    assert report["dtypes"] == ["torch.float32"]
