"""Stands in for a stage of an attempt, as a process of its own: training with one rank a node, or the evaluation. $ACT
names what it does in each attempt, comma-separated; $ACT_EVALUATION and so on for other stages. No model is trained."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from hatrain.contract.run import Attempt, Exit, RunDirectory
from hatrain.runtime import seal
from hatrain.runtime.stop import on_signals

run = RunDirectory(Path(sys.argv[2]))
attempt = Attempt(run.attempts / os.environ["HATRAIN_ATTEMPT"])
node = int(os.environ["HATRAIN_NODE_RANK"])
stage = sys.argv[1]
reporter = node if stage == "training" else stage
acts = os.environ.get("ACT" if stage == "training" else f"ACT_{stage.upper()}", "finish").split(",")
act = acts[min(attempt.number, len(acts)) - 1]


def leave(code: Exit, reason: str) -> None:
    """Write the exit report; exit as torchrun would, which turns every code into 1."""
    attempt.report_exit(reporter, code, reason)
    sys.exit(0 if code is Exit.FINISHED else 1)


def wait_for_stop() -> None:
    """Return when the stop file is there. A signal writes it, as in a rank."""
    on_signals(attempt.request_stop)
    while attempt.stop() is None:
        time.sleep(0.05)


print(f"{stage} {act} in attempt {attempt.number}, cwd {Path.cwd()}", flush=True)
with (run.folder / "calls").open("a", encoding="utf-8") as calls:
    calls.write(f"{stage} {act}{f' on node {node}' if node else ''}\n")

if act == "finish":
    if stage == "evaluation":
        seal.write_json(run.evaluation, {"before": {}, "after": {}})
    elif stage == "export":
        wanted = run.plan().job.export
        seal.write_text(run.folder / ".partial-export" / "export.json", "{}")
        facts = {"gguf": list(wanted.gguf), "ollama": wanted.ollama, "model": seal.digest(run.model / seal.MANIFEST)}
        seal.seal(run.folder / ".partial-export", run.export, **facts)
    elif stage == "report":
        seal.write_text(run.folder / "report", "")
    elif node == 0:
        partial = run.folder / ".partial"
        seal.write_text(partial / "weights", "trained")
        seal.seal(partial, run.model)
        run.record("model sealed", attempt=attempt.number)
    leave(Exit.FINISHED, "trained")
elif act == "forget":
    leave(Exit.FINISHED, "trained, but wrote no model")
elif act == "fault":
    sys.exit(1)
elif act == "progress":
    run.record("checkpoint sealed", attempt=attempt.number, step=attempt.number)
    sys.exit(1)
elif act == "fatal":
    leave(Exit.FATAL, "out of GPU memory; lower method.micro_batch_size")
elif act == "full":
    attempt.report_exit(reporter, Exit.REQUEUE, "the disk is full", decides=True)
    sys.exit(1)
elif act == "secret":
    # In two writes, so that a reader sees the line in parts.
    os.write(1, b"cannot reach https://ada:canary-")
    time.sleep(0.3)
    os.write(1, f"in-url@host/x, with {os.environ['HF_TOKEN']}".encode())
    attempt.report_exit(reporter, Exit.FAULT, f"refused: {os.environ['HF_TOKEN']}")
    sys.exit(1)
elif act == "die":
    os.kill(os.getpid(), signal.SIGKILL)
elif act == "stop":
    wait_for_stop()
    run.record("checkpoint sealed", attempt=attempt.number)
    leave(Exit.REQUEUE if attempt.stop().requeue else Exit.STOPPED, "saved")
elif act == "held-stop":
    wait_for_stop()
    while not (run.folder / "leave").exists():
        time.sleep(0.05)
    leave(Exit.STOPPED, "saved")
elif act == "slow-stop":
    wait_for_stop()
    time.sleep(1.5)
    leave(Exit.REQUEUE if attempt.stop().requeue else Exit.STOPPED, "saved")
elif act == "slow":
    time.sleep(1.5)
    if stage == "evaluation":
        seal.write_json(run.evaluation, {"before": {}, "after": {}})
    leave(Exit.FINISHED, "done")
elif act == "finish-on-stop":
    wait_for_stop()
    seal.write_text(run.folder / ".partial" / "weights", "trained")
    seal.seal(run.folder / ".partial", run.model)
    leave(Exit.FINISHED, "trained")
elif act == "fault-and-stay":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    attempt.report_exit(reporter, Exit.FAULT, "a link went down")
    time.sleep(600)
elif act == "ignore-stops":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)
elif act == "eat-memory":
    eaten = bytearray(600 * 2**20)
    time.sleep(600)
elif act == "orphan":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    seal.write_json(run.folder / "orphan", child.pid)
    os.kill(os.getpid(), signal.SIGKILL)
elif act == "environment":
    seal.write_text(run.folder / "environ", json.dumps(dict(os.environ)))
    sys.exit(1)
else:
    raise AssertionError(act)
