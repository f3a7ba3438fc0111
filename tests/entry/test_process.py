"""The torchrun command, read by torchrun's own parser and run by torchrun itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hatrain.entry import process
from hatrain.errors import BadInput
from hatrain.runtime import orphans
from tests.plans import a_plan


def read(command):
    """Return torchrun's own view of a command: its parsed arguments and its launch configuration."""
    from torch.distributed.run import config_from_args, get_args_parser

    assert command[:3] == [sys.executable, "-m", "hatrain.train.torchrun"]
    arguments = get_args_parser().parse_args(command[3:])
    config, _, words = config_from_args(arguments)
    return arguments, config, words


def test_one_node_gets_a_free_local_port(tmp_path):
    plan = a_plan(tmp_path, hardware__gpus_per_node=2)
    first = process.torchrun(plan, "hatrain.train", tmp_path / "a run", 0)
    arguments, config, words = read(first)
    assert config.rdzv_backend == "static"
    assert config.rdzv_endpoint.startswith("127.0.0.1:")
    assert (config.min_nodes, config.max_nodes, config.nproc_per_node) == (1, 1, 2)
    assert (config.rdzv_configs["rank"], config.max_restarts) == (0, 0)
    assert arguments.module
    assert words[-2:] == ["hatrain.train", str(tmp_path / "a run")]


def test_several_nodes_meet_at_the_launchers_rendezvous(tmp_path, monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "node-0")
    monkeypatch.setenv("MASTER_PORT", "29511")
    plan = a_plan(tmp_path).model_copy(update={"nodes": 2})
    _, config, _ = read(process.torchrun(plan, "hatrain.train", tmp_path, 1))
    assert (config.rdzv_backend, config.rdzv_endpoint) == ("static", "node-0:29511")
    assert (config.min_nodes, config.max_nodes, config.nproc_per_node) == (2, 2, 1)
    assert config.rdzv_configs["rank"] == 1
    assert create_handler(config).timeout.total_seconds() == process.RENDEZVOUS_SECONDS


def create_handler(config):
    """Return torchrun's own rendezvous of a configuration."""
    from torch.distributed.elastic.rendezvous import RendezvousParameters
    from torch.distributed.elastic.rendezvous.static_tcp_rendezvous import create_rdzv_handler

    return create_rdzv_handler(
        RendezvousParameters(
            backend=config.rdzv_backend,
            endpoint=config.rdzv_endpoint,
            run_id=config.run_id,
            min_nodes=config.min_nodes,
            max_nodes=config.max_nodes,
            **config.rdzv_configs,
        )
    )


def test_several_nodes_without_a_rendezvous_are_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    plan = a_plan(tmp_path).model_copy(update={"nodes": 2})
    with pytest.raises(BadInput, match="MASTER_ADDR: not set"):
        process.torchrun(plan, "hatrain.train", tmp_path, 1)


RANK = """
import os, sys, time
from pathlib import Path
rank = os.environ["RANK"]
Path(sys.argv[1], f"rank-{rank}").write_text(os.environ["WORLD_SIZE"])
if sys.argv[1].endswith("hang"):
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("ignoring SIGTERM", flush=True)
    time.sleep(600)
"""


def run_ranks(folder: Path, stopping, grace: float) -> int | None:
    """Run two ranks of a small module under real torchrun."""
    (folder / "ranks.py").write_text(RANK)
    folder = folder / ("hang" if grace < 60 else "run")
    folder.mkdir()
    plan = a_plan(folder, hardware__gpus_per_node=2)
    return process.run(
        process.torchrun(plan, "ranks", folder, 0),
        cwd=str(folder.parent),
        environment={
            **os.environ,
            **orphans.marks(str(folder), 1, 0),
            "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "600",
        },
        log=folder / "log.txt",
        stopping=lambda: stopping(folder),
        grace=grace,
    )


def test_torchrun_starts_every_rank(tmp_path):
    assert run_ranks(tmp_path, lambda folder: False, 60) == 0
    assert [(tmp_path / "run" / f"rank-{rank}").read_text() for rank in (0, 1)] == ["2", "2"]


def test_all_ranks_that_ignore_a_stop_are_killed(tmp_path):
    def stopping(folder):
        log = folder / "log.txt"
        return log.exists() and log.read_text().count("ignoring SIGTERM") == 2

    assert run_ranks(tmp_path, stopping, 0.2) is None
    assert orphans.end_orphans(str(tmp_path / "hang"), 1, 0) == []


def test_orphans_are_all_processes_of_the_run_except_other_nodes_of_this_attempt(tmp_path):
    def started(run: str, attempt: int, node: int) -> subprocess.Popen:
        environment = {**os.environ, **orphans.marks(run, attempt, node)}
        return subprocess.Popen(["sleep", "600"], env=environment)

    run = str(tmp_path / "run")
    mine, earlier, elsewhere = started(run, 2, 0), started(run, 1, 1), started(run, 2, 1)
    other = started(str(tmp_path / "run-2"), 2, 0)
    try:
        assert sorted(orphans.end_orphans(run, 2, 0)) == sorted([mine.pid, earlier.pid])
        assert [process.wait() for process in (mine, earlier)] == [-9, -9]
        assert [process.poll() for process in (elsewhere, other)] == [None, None]
    finally:
        for process in (mine, earlier, elsewhere, other):
            process.kill()
            process.wait()
