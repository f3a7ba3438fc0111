"""entry as it is, with tests/fake_trainer.py in place of the trainer and the evaluation. Takes entry's arguments."""

import os
import socket
import sys
from pathlib import Path

from hatrain.entry import main, nodes, preconditions
from hatrain.entry import peers as members
from hatrain.runtime import lease

FAKE = str(Path(__file__).with_name("fake_trainer.py"))


def _fake(verb):
    return lambda plan, run: [sys.executable, FAKE, verb, str(run.folder)]


if __name__ == "__main__":
    lease.BEAT_SECONDS = float(os.environ.get("BEAT", lease.BEAT_SECONDS))
    lease.STALE_SECONDS = float(os.environ.get("STALE", lease.STALE_SECONDS))
    if "HOST" in os.environ:  # a machine of another name, whose process numbers say nothing here
        socket.gethostname = lambda: os.environ["HOST"]
    nodes.LOOK_SECONDS = preconditions.PARENT_SECONDS = float(os.environ.get("LOOK", nodes.LOOK_SECONDS))
    nodes.LEASE_SECONDS = float(os.environ.get("LOOK_LEASE", nodes.LOOK_SECONDS))
    members.PEER_SECONDS = float(os.environ.get("PEER", members.PEER_SECONDS))
    sys.exit(
        main(
            sys.argv[1:],
            train=_fake("train"),
            evaluate=_fake("evaluate"),
            lease_patience=float(os.environ.get("PATIENCE", "60")),
        )
    )
