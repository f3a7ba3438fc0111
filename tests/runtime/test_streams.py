"""What a process writes to the streams that it shares with others."""

import socket
import subprocess
import sys

import pytest


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_rank_writes_a_line_and_its_end_at_once(stream):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # each write arrives as a message
    script = (
        f"import sys; from hatrain.runtime import streams; streams.write_whole_lines(); print('why', file=sys.{stream})"
    )
    with ours, theirs:
        # -u, as torchrun starts them
        subprocess.run([sys.executable, "-u", "-c", script], check=True, **{stream: theirs})
        assert ours.recv(100) == b"why\n"
