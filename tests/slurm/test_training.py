"""Real training through sbatch: two nodes train one model, and a second run continues with it."""

import json
import random
import sys
from typing import Any

import pytest

from hatrain.contract.run import RunDirectory
from hatrain.runtime import seal
from tests.slurm.workspace import Workspace, exit_codes

METHOD = {
    "batch_size": 4,
    "micro_batch_size": 2,
    "ctx_size": 128,
    "gradient_checkpointing": False,
    "learning_rate": 5e-3,
}


@pytest.fixture(scope="module")
def chain(slurm, tmp_path_factory):
    """A workspace with two submitted jobs: SFT on two nodes, and after it DPO on its model."""
    from hatrain.model.tiny import make

    workspace = Workspace(tmp_path_factory.mktemp("chain"), slurm)
    draw = random.Random(7)
    rooms = ["kitchen", "hall", "attic", "garden"]
    requests = [(draw.choice(rooms), draw.choice(["light", "fan"])) for _ in range(20)]
    turns = [
        [
            {"from": "human", "value": f"turn on the {device} in the {room}"},
            {"from": "gpt", "value": f"{room} {device}"},
        ]
        for room, device in requests
    ]
    pairs = [
        {
            "system": "a house",
            "question": f"turn on the {device} in the {room}",
            "chosen": f"{room} {device}",
            "rejected": "no",
        }
        for room, device in requests
    ]
    (workspace.folder / "rows.jsonl").write_text("".join(json.dumps({"conversations": row}) + "\n" for row in turns))
    (workspace.folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    base = workspace.folder / "base"
    make(
        workspace.folder / "rows.jsonl",
        base,
        vocabulary=300,
        hidden=32,
        layers=1,
        heads=2,
        ctx_size=128,
        seed=1,
    )
    settings: dict[str, Any] = {
        "cluster": {"python": sys.executable},
        "model__dtype": "fp32",
        "evaluation": {"requests": 0},
        "logging__logging_steps": 1,
    }
    first = {"model__base": str(base), "data__train": "rows.jsonl", "hardware__nodes": 2}
    settings["cluster"]["partition"] = "spot"
    workspace.submit("sft", **settings, **first, method={**METHOD, "epochs": 24})
    second = {"model__base": "models/sft", "data__train": "pairs.jsonl", "after": "sft"}
    workspace.submit("dpo", **settings, **second, method={**METHOD, "kind": "dpo"})
    return workspace


def test_two_nodes_train_one_model_and_continue_after_a_preemption(chain):
    run = chain.run("sft")
    # The second job waits in the queue, without a node.
    assert chain.squeue(chain.run("dpo"), "%T %r") == "PENDING Dependency"
    chain.until(lambda: steps(run, 1) or exit_codes(run), run)
    # SIGTERM reaches torchrun and the ranks as well as entry.
    everything = ["--exclusive", "--nodes=3", "--partition=gpu", "--output=/dev/null", "--parsable"]
    chain.slurm.run("sbatch", *everything, "--wrap", "sleep 1")
    chain.until(lambda: exit_codes(run), run)
    assert exit_codes(run) == [75], chain.report(run)
    chain.until(lambda: len(exit_codes(run)) > 1, run)
    assert chain.end(run) == "COMPLETED", chain.report(run)
    assert exit_codes(run) == [75, 0]
    assert steps(run, 1) + steps(run, 2) == list(range(1, 121))
    assert steps(run, 2)[0] > 1

    assert seal.verify(run.model) is None
    begun = next(event for event in run.events() if event["event"] == "attempt begun")
    assert (begun["nodes"], begun["ranks"], begun["sharding"]) == (2, 2, "ddp")
    losses = [line["loss"] for line in seal.read_lines(run.metrics) if "loss" in line]
    assert losses[-1] < losses[0]
    assert chain.hatrain("status", "sft").splitlines()[1].split()[2:4] == ["finished", "120/120"]
    assert "finished (0)" in chain.hatrain("wait", "sft")


def steps(run: RunDirectory, attempt: int) -> list[int]:
    """The logged steps of an attempt."""
    lines = seal.read_lines(run.metrics)
    return [line["step"] for line in lines if line.get("attempt") == attempt and "loss" in line]


def test_a_dependent_run_starts_when_the_first_is_done_and_trains_on_its_model(chain):
    run, first = chain.run("dpo"), chain.run("sft")
    chain.until(lambda: run.done.exists() or exit_codes(run), run)
    assert chain.end(run) == "COMPLETED", chain.report(run)
    assert seal.verify(run.model) is None
    begun = next(event for event in run.events() if event["event"] == "attempt begun")
    done = next(event for event in first.events() if event["event"] == "done")
    assert begun["time"] >= done["time"]
