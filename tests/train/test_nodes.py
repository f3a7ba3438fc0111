"""Two nodes with node.sh, entry and torchrun on each, and gloo between them: the same losses as one process."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hatrain.contract.run import RunDirectory
from hatrain.runtime import seal
from launch.backends import backend
from tests.train.conftest import metrics

REPOSITORY = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_two_nodes_give_the_losses_of_one_process(workplace, inputs):
    base = shutil.copytree(inputs / "base", workplace.folder / "base")
    config = json.loads((base / "config.json").read_text())
    # Dropout would fall on other tokens where ranks divide the rows.
    (base / "config.json").write_text(json.dumps({**config, "attention_dropout": 0.0}))
    settings = {"model__base": str(base), "method__micro_batch_size": 2}
    alone = workplace.attempt(workplace.plan("alone", **settings)).run
    # The planner gives a local cluster one machine. This one plays both nodes.
    plan = workplace.plan("together", **settings, hardware__gpus_per_node=2)
    plan = plan.model_copy(update={"nodes": 2, "processes_per_node": 1, "python": sys.executable})
    run = RunDirectory(Path(plan.paths.run))
    run.adopt(plan, backend(plan.cluster_spec).files(plan))

    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(free_port()),
    }
    nodes = [
        subprocess.Popen(
            ["bash", str(run.launch / "node.sh"), str(run.folder)],
            env={**environment, "JOB_COMPLETION_INDEX": str(rank)},
            cwd="/",
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (1, 0)
    ]
    errors = [node.communicate(timeout=600)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], errors

    assert run.done.exists()
    assert seal.verify(run.model) is None
    assert [attempt.number for attempt in run.all_attempts()] == [1]
    codes = [json.loads((run.attempts / f"1/rank-{rank}.json").read_text())["code"] for rank in (0, 1)]
    assert codes == [0, 0]
    losses, expected = ([line["loss"] for line in metrics(one) if "loss" in line] for one in (run, alone))
    assert len(losses) > 4
    assert losses == pytest.approx(expected, rel=1e-4)
