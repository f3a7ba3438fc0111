"""What takes long says so, and what is short says nothing."""

import threading

import pytest

from hatrain.runtime import waiting as module
from hatrain.runtime.waiting import waiting


@pytest.fixture
def lines(monkeypatch):
    monkeypatch.setattr(module, "FIRST_SECONDS", 0.01)
    monkeypatch.delenv("RANK", raising=False)
    return []


def until(lines: list[str], count: int) -> None:
    """Wait for so many lines. The deadline only ends a hang."""
    for _ in range(60_000):
        if len(lines) >= count:
            return
        threading.Event().wait(0.01)
    raise AssertionError(lines)


def test_a_long_task_is_named_and_then_its_time(lines):
    with waiting("loading the weights of base", lines.append):
        until(lines, 3)
    assert lines[0] == "loading the weights of base …"
    assert all(line.startswith("loading the weights of base: ") and line.endswith(" s so far") for line in lines[1:])


def test_nothing_more_is_said_after_the_end(lines):
    with pytest.raises(ZeroDivisionError), waiting("dividing", lines.append):
        until(lines, 1)
        1 / 0  # noqa: B018
    said = len(lines)
    threading.Event().wait(0.1)
    assert len(lines) == said


def test_a_short_task_says_nothing(lines, monkeypatch):
    monkeypatch.setattr(module, "FIRST_SECONDS", 600.0)
    with waiting("adding", lines.append):
        pass
    assert lines == []


def test_other_ranks_are_silent(lines, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    before = threading.active_count()
    with waiting("saving", lines.append):
        assert threading.active_count() == before
    assert lines == []


def test_a_closed_stderr_ends_nothing(lines, monkeypatch):
    class Closed:
        def write(self, text: str) -> int:
            lines.append(text)
            raise ValueError("I/O operation on closed file")

        def flush(self) -> None: ...

    monkeypatch.setattr("sys.stderr", Closed())
    with waiting("saving"):
        until(lines, 2)
