"""W&B, MLflow and Trackio themselves, offline, in the environment that `make trackers` creates. In the ordinary
environment one test runs this file in that one."""

import http.server
import importlib.util
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from hatrain.contract.run import Exit
from tests.train.guide import REPOSITORY

HERE = all(importlib.util.find_spec(name) for name in ("wandb", "mlflow", "trackio"))
PYTHON = REPOSITORY / ".venv-trackers/bin/python"
KEY = "0123456789abcdef0123456789abcdef01234567"
ALL = ["tensorboard", "wandb", "mlflow", "trackio"]
needs_trackers = pytest.mark.skipif(not HERE, reason="the trackers are only in .venv-trackers")

pytestmark = pytest.mark.long


@pytest.mark.skipif(HERE, reason="already in that environment")
@pytest.mark.skipif(not PYTHON.exists(), reason="no .venv-trackers; make trackers creates it")
def test_the_real_trackers_work_in_their_own_environment():
    command = [str(PYTHON), "-m", "pytest", "-q", "-m", "long", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "4 passed" in done.stdout


@pytest.fixture
def offline(tmp_path, monkeypatch) -> Path:
    """An environment in which nothing leaves this folder. What a rank adds to the environment is taken back."""
    before = dict(os.environ)
    for name in ("LAST_SECONDS", "LAST_SECONDS_AT_STOP"):
        monkeypatch.setattr(f"hatrain.train.trackers.{name}", 600.0)  # a busy machine is no failure
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    yield tmp_path
    for name in set(os.environ) - set(before):
        del os.environ[name]


def mlflow_runs(folder: Path) -> list:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("hatrain")
    runs = client.search_runs([experiment.experiment_id])
    return [(run, [metric.step for metric in client.get_metric_history(run.info.run_id, "loss")]) for run in runs]


def trackio_steps(folder: Path) -> dict[str, list[int]]:
    import json

    rows = sqlite3.connect(folder / "trackio/hatrain.db").execute("select run_name, metrics from metrics order by id")
    steps: dict[str, list[int]] = {}
    for name, metrics in rows:
        read = json.loads(metrics)
        if "train/loss" in read:
            steps.setdefault(name, []).append(read["train/global_step"])
    return steps


@needs_trackers
def test_an_interrupted_run_is_one_run_in_each_tracker(workplace, offline, capfd):
    plan = workplace.plan("kitchen", logging__trackers=ALL)
    first = workplace.attempt(plan, stop_at=4)
    assert first.code is Exit.REQUEUE
    # What may change between attempts may also be a setting that a tracker has stored.
    changed = workplace.plan("kitchen", logging__trackers=ALL)
    method = changed.job.method.model_copy(update={"micro_batch_size": 8})
    changed = changed.model_copy(update={"job": changed.job.model_copy(update={"method": method})})
    run = workplace.attempt(changed).run
    said = capfd.readouterr().out
    assert "no further" not in said
    number = trackers_id(run)
    folders = sorted(path.name for path in (run.folder / "wandb").glob("offline-run-*"))
    assert len(folders) == 2 and all(name.endswith(f"-{number}") for name in folders)
    ((tracked, steps),) = mlflow_runs(offline)
    assert steps == [1, 2, 3, 4, 5, 6, 7, 8]
    assert (tracked.info.run_name, tracked.info.status) == ("kitchen", "FINISHED")
    assert tracked.data.params["method.learning_rate"] == "0.005"
    assert trackio_steps(offline) == {f"kitchen-{number[:8]}": [1, 2, 3, 4, 5, 6, 7, 8]}
    holders = [path for path in offline.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert holders == []


def trackers_id(run) -> str:
    import json

    return json.loads(run.trackers.read_text())["id"]


@needs_trackers
def test_trackers_change_no_weight(workplace, offline):
    from tests.train.conftest import weights

    plain = workplace.attempt(workplace.plan("plain", logging__trackers=[])).run
    tracked = workplace.attempt(workplace.plan("tracked", logging__trackers=ALL)).run
    one, other = weights(plain.model), weights(tracked.model)
    assert all((one[name] == other[name]).all() for name in one)


class Deny(http.server.BaseHTTPRequestHandler):
    """Answers as a server does that knows no such key."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b'{"errors": [{"message": "invalid api key"}], "error_code": "PERMISSION_DENIED", "message": "no"}'
        self.send_response(401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def denying() -> str:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Deny) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@needs_trackers
@pytest.mark.parametrize("answers", [False, True], ids=["no server", "a wrong key"])
def test_two_ranks_log_once_and_finish_though_no_server_takes_it(inputs, offline, denying, answers):
    job = {
        "name": "kitchen",
        "model": {"base": str(inputs / "base"), "dtype": "fp32"},
        "data": {"train": str(inputs / "train.jsonl")},
        "method": {"batch_size": 8, "ctx_size": 256, "gradient_checkpointing": False},
        "hardware": {"gpu": "cpu", "gpus_per_node": 2},
        "evaluation": {"requests": 0},
        "logging": {"logging_steps": 1, "trackers": ["wandb", "mlflow", "trackio"]},
    }
    (offline / "job.yaml").write_text(yaml.safe_dump(job))
    # Port 9 (discard) of this machine refuses connections.
    server = denying if answers else "http://127.0.0.1:9"
    servers = {"WANDB_MODE": "online", "WANDB_BASE_URL": server, "MLFLOW_TRACKING_URI": server}
    done = subprocess.run(
        [sys.executable, "-m", "hatrain", "train", "job.yaml"],
        cwd=offline,
        env={**os.environ, **servers, "HATRAIN_RUNS": str(offline / "runs"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    for name in ("wandb", "mlflow"):
        assert done.stdout.count(f"{name} tracks this attempt no further, training goes on") == 1
    (steps,) = trackio_steps(offline).values()
    assert steps == [1, 2, 3, 4, 5, 6, 7, 8]
    assert (offline / "runs/kitchen/DONE").exists()
