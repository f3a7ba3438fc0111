"""Stands in for the trainer (one rank a node) and the evaluation, as a process of its own: does what $ACT says for this
attempt, the first word for the first attempt. What entry makes of it is tested; no model is."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from hatrain.contract.run import Attempt, Exit, RunDirectory, Stop
from hatrain.runtime import seal, stop

run = RunDirectory(Path(sys.argv[2]))
attempt = Attempt(run.attempts / os.environ["HATRAIN_ATTEMPT"])
node = int(os.environ["HATRAIN_NODE_RANK"])
who = "evaluation" if sys.argv[1] == "evaluate" else node
acts = os.environ.get("ACT_EVALUATE" if who == "evaluation" else "ACT", "finish").split(",")
act = acts[min(attempt.number, len(acts)) - 1]


def leave(code: Exit, reason: str) -> None:
    """Tell the outcome; exit as torchrun would, which makes 1 of everything."""
    attempt.report_exit(who, code, reason)
    sys.exit(0 if code is Exit.FINISHED else 1)


def wait_for_stop() -> None:
    """Return when the stop file is there. As a rank does, make one of a signal."""
    stop.on_signal(lambda reason, requeue: attempt.request_stop(Stop(reason, requeue)))
    while attempt.stop() is None:
        time.sleep(0.05)


print(f"{sys.argv[1]} {act} in attempt {attempt.number}, cwd {Path.cwd()}", flush=True)
with (run.folder / "calls").open("a", encoding="utf-8") as calls:
    calls.write(f"{sys.argv[1]} {act}{f' on node {node}' if node else ''}\n")

if act == "finish":
    if who == 0:
        partial = run.folder / ".partial"
        seal.write_text(partial / "weights", "trained")
        seal.seal(partial, run.model)
        run.record("model sealed", attempt=attempt.number)
    leave(Exit.FINISHED, "trained")
elif act == "forget":
    leave(Exit.FINISHED, "trained, it says")
elif act == "fault":
    sys.exit(1)
elif act == "progress":
    run.record("checkpoint sealed", attempt=attempt.number, step=attempt.number)
    sys.exit(1)
elif act == "fatal":
    leave(Exit.FATAL, "out of GPU memory; lower method.micro_batch_size")
elif act == "die":
    os.kill(os.getpid(), signal.SIGKILL)
elif act == "stop":
    wait_for_stop()
    run.record("checkpoint sealed", attempt=attempt.number)
    leave(Exit.REQUEUE if attempt.stop().requeue else Exit.STOPPED, "saved")
elif act == "slow-stop":
    wait_for_stop()
    time.sleep(1.5)
    leave(Exit.REQUEUE if attempt.stop().requeue else Exit.STOPPED, "saved")
elif act == "slow":
    time.sleep(1.5)
    leave(Exit.FINISHED, "done at last")
elif act == "finish-on-stop":
    wait_for_stop()
    seal.write_text(run.folder / ".partial" / "weights", "trained")
    seal.seal(run.folder / ".partial", run.model)
    leave(Exit.FINISHED, "trained")
elif act == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)
elif act == "orphan":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    seal.write_json(run.folder / "orphan", child.pid)
    os.kill(os.getpid(), signal.SIGKILL)
elif act == "surroundings":
    seal.write_text(run.folder / "environ", json.dumps(dict(os.environ)))
    sys.exit(1)
else:
    raise AssertionError(act)
