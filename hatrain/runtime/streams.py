"""The standard streams of a process: one may be closed, may not take every letter, and may fail when written to."""

import contextlib
import os
import sys


def prepare() -> None:
    """Make the standard streams usable. Call it first.

    A closed one would hand its number to the next file that is opened, and output would go into that file. A letter
    that the encoding lacks is written as its escape.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def write_whole_lines() -> None:
    """Write each line at once. torchrun starts its ranks without buffers: `print` would write the line and its end
    apart, and the lines of two ranks would run together."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True, write_through=False)


def write_utf8(text: str) -> None:
    """Write a file's text to stdout, as the file would hold it: an escape in its place would be another file."""
    sys.stdout.flush()
    buffer = getattr(sys.stdout, "buffer", None)
    if buffer is None:
        sys.stdout.write(text)
    else:
        buffer.write(text.encode())


def discard_unwritable() -> None:
    """Drop buffered output that cannot be written: flushing it at exit, Python would change the exit code to 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
