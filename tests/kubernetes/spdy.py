"""The side of an API server in `kubectl exec`, over SPDY/3.1, which every client knows: answers with what a command
printed and its exit code."""

import http.server
import json
import struct
import zlib

NAME = "SPDY/3.1"
STREAMS = ("error", "stdout", "stderr")
"""In the order in which kubectl opens them, without input."""
SYN_STREAM, SYN_REPLY, PING = 1, 2, 6
FINISHED = 1
"""Flag of the last frame of a stream."""


def serve(request: http.server.BaseHTTPRequestHandler, output: str, code: int) -> None:
    """Switch the connection of a request to SPDY, and answer on the streams that the client opens."""
    request.close_connection = True
    request.send_response(101)
    for name, value in (
        ("Connection", "Upgrade"),
        ("Upgrade", NAME),
        ("X-Stream-Protocol-Version", "v4.channel.k8s.io"),
    ):
        request.send_header(name, value)
    request.end_headers()
    headers = zlib.compressobj()
    opened: dict[str, int] = {}
    while len(opened) < len(STREAMS):
        head = request.rfile.read(8)
        if len(head) < 8:
            return
        _, kind, flags_and_length = struct.unpack(">HHI", head)
        content = request.rfile.read(flags_and_length & 0xFFFFFF)
        if kind == PING:
            request.wfile.write(head + content)
        if kind == SYN_STREAM:
            (stream,) = struct.unpack(">I", content[:4])
            opened[STREAMS[len(opened)]] = stream
            none = headers.compress(struct.pack(">I", 0)) + headers.flush(zlib.Z_SYNC_FLUSH)
            request.wfile.write(_control(SYN_REPLY, struct.pack(">I", stream) + none))
    for name, text in (("stdout", output), ("stderr", ""), ("error", json.dumps(_status(code)))):
        request.wfile.write(_data(opened[name], text.encode()))
    request.wfile.flush()
    while request.rfile.read(1):
        """Until the client has read it all, and closes."""


def _control(kind: int, content: bytes) -> bytes:
    return struct.pack(">HHI", 0x8003, kind, len(content)) + content


def _data(stream: int, content: bytes) -> bytes:
    """The only frame of a stream."""
    return struct.pack(">II", stream, FINISHED << 24 | len(content)) + content


def _status(code: int) -> dict[str, object]:
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    cause = {"reason": "ExitCode", "message": str(code)}
    return {
        "metadata": {},
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "details": {"causes": [cause]},
    }
