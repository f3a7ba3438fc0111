"""The output of a followed run."""

import os
import pty
import subprocess
import sys

from hatrain.contract.run import RunDirectory
from hatrain.runtime import seal
from launch.screen import progress

SHOW = """
import sys
from pathlib import Path
from hatrain.contract.run import RunDirectory
from launch.screen import screen
with screen(RunDirectory(Path(sys.argv[1]))) as show:
    show("step 3/8  loss [1.0]\\n".encode())
"""


def test_a_torn_last_line_is_no_progress(tmp_path):
    run = RunDirectory(tmp_path)
    assert progress(run) is None
    for step in range(1, 200):
        seal.append_line(run.metrics, {"step": step, "steps": 400, "loss": 1.0})
    assert progress(run) == (199, 400)
    with run.metrics.open("a") as file:
        file.write('{"step": 2')
    assert progress(run) is None


def test_without_a_terminal_output_is_unchanged(tmp_path):
    result = subprocess.run([sys.executable, "-c", SHOW, str(tmp_path)], capture_output=True, text=True, check=True)
    assert result.stdout == "step 3/8  loss [1.0]\n"


def test_on_a_terminal_a_progress_bar_is_below_the_output(tmp_path):
    seal.append_line(RunDirectory(tmp_path).metrics, {"step": 3, "steps": 8})
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    subprocess.run([sys.executable, "-c", SHOW, str(tmp_path)], stdout=slave, env=environment, check=True)
    os.close(slave)
    seen = b""
    while chunk := _read(master):
        seen += chunk
    assert b"step 3/8  loss [1.0]" in seen
    assert b"3/8" in seen.replace(b"step 3/8", b"")


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:
        return b""
