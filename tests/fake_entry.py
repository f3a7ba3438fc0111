"""The real entry with `fake_trainer.py` in place of every stage, and with waits set by the environment. Takes entry's
arguments."""

import os
import socket
import sys
import time
from pathlib import Path

from hatrain.doctor import machine
from hatrain.doctor.finding import Finding
from hatrain.entry import attempt, main, nodes, peers, preconditions
from hatrain.entry.stages import STAGES, Stage
from hatrain.model import revision
from hatrain.runtime import lease, memory
from hatrain.runtime.stop import ignore_signals

FAKE = str(Path(__file__).with_name("fake_trainer.py"))


def _fake(stage):
    return lambda plan, run: [sys.executable, FAKE, stage, str(run.folder)]


def _ask_hub(ref):
    """Reaches no hub. Entry asks it before the ranks start: $HUB_ANSWER is a file that this waits for."""
    while "HUB_ANSWER" in os.environ and not Path(os.environ["HUB_ANSWER"]).exists():
        time.sleep(0.05)


def _not_reported(plan, run, checksums):
    return None if (run.folder / "report").exists() else "no report"


LATER_STAGE = Stage("report", _fake("report"), lambda plan: True, _not_reported, on_all_ranks=False)

if __name__ == "__main__":
    lease.BEAT_SECONDS = float(os.environ.get("BEAT", lease.BEAT_SECONDS))
    lease.STALE_SECONDS = float(os.environ.get("STALE", lease.STALE_SECONDS))
    if "HOST" in os.environ:  # a machine of another name, whose process numbers mean nothing here
        socket.gethostname = lambda: os.environ["HOST"]
    nodes.POLL_SECONDS = preconditions.PARENT_POLL_SECONDS = float(os.environ.get("POLL", nodes.POLL_SECONDS))
    nodes.LEASE_POLL_SECONDS = float(os.environ.get("LEASE_POLL", nodes.POLL_SECONDS))
    preconditions.PAUSE_SECONDS = float(os.environ.get("PAUSE", "0.01"))
    attempt.OUTSIDE_ENDS = int(os.environ.get("OUTSIDE_ENDS", attempt.OUTSIDE_ENDS))
    peers.LOST_PEER_SECONDS = float(os.environ.get("LOST_PEER", peers.LOST_PEER_SECONDS))
    if "KILLS_AFTER" in os.environ:  # processes that the kernel kills for lack of memory, while a stage runs
        counts = iter([0, *[int(os.environ["KILLS_AFTER"])] * 9])
        memory.kills = lambda: next(counts)
    if "TOOLS" not in os.environ:  # the stage that needs them is not the real one
        machine.export_tools = lambda *, wanted: Finding("export tools", "ok", "not looked for")
    if "LATER_STAGE" in os.environ:
        attempt.STAGES = (*STAGES, LATER_STAGE)
    revision.commit_of = _ask_hub
    code = main(
        sys.argv[1:],
        commands={stage: _fake(stage) for stage in ("training", "evaluation", "export", "report")},
        lease_patience=float(os.environ.get("PATIENCE", "60")),
    )
    ignore_signals()
    sys.exit(code)
