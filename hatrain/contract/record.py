"""What record.jsonl says: which of its events are well formed, and how the latest attempts ended."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from hatrain.text import count

Event = dict[str, Any]

_NUMBER = (int, float)
_TYPES: dict[str, Any] = {
    "event": str,
    "attempt": int,
    "code": int,
    "package": str,
    "reasons": dict,
    "reason": str,
    "step": int,
    "when": str,
    "loss": _NUMBER,
    "seconds": _NUMBER,
    "date": str,
    "job": str | None,
    "user": str,
    "device": str,
    "ended": str,
    "allocated": int,
    "reserved": int,
    "predicted": int | None,
    "files": dict,
    "best": int,
    "trained": int,
    "keep": str,
    "why": str,
    "without_gain": int,
    "looks": list,
}
"""Of the facts that are read again, whatever the event."""
_NEEDED = {
    "outcome": ("code",),
    "test loss": ("when", "loss"),
    "memory": ("attempt", "allocated", "reserved", "device", "ended"),
    "step skipped": ("step",),
    "base files": ("files",),
    "killed": ("reason",),
    "not requeued": ("code",),
    "kept": ("step", "best", "trained", "steps", "keep", "metric", "why", "ended_early", "without_gain", "looks"),
}


def well_formed(events: Iterable[Event]) -> Iterator[Event]:
    """Leave out what no version has written: such a line would break every reader, and says nothing."""
    return (event for event in events if _is_well_formed(event))


def _is_well_formed(event: Event) -> bool:
    if "event" not in event or any(
        not isinstance(event[name], _TYPES[name]) or isinstance(event[name], bool) for name in event.keys() & _TYPES
    ):
        return False
    if any(name not in event for name in _NEEDED.get(event["event"], ())):
        return False
    if not all(isinstance(reason, str) for reason in event.get("reasons", {}).values()):
        return False
    if not all(isinstance(file, dict) for file in event.get("files", {}).values()) and event["event"] == "base files":
        return False
    try:
        date.fromisoformat(event.get("date", "2026-01-01"))
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class Fruitless:
    """The latest attempts in a row that sealed nothing, by what ended them."""

    own: int = 0
    """Ended by what the run did: a fault, or a kill that nobody asked for."""
    outside: int = 0
    """Ended by a scheduler, or by a machine that was not fit."""
    reason: str = ""
    """The last reason that one of them recorded."""


def kept_in_words(event: Mapping[str, Any]) -> str:
    """Return what a `kept` event says: why training ended, and which step the weights are of; empty where no look
    decided either."""
    parts = []
    if event["ended_early"]:
        parts.append(f"ended after step {event['trained']:,}: {count(event['without_gain'], 'look')} without gain")
    if event["keep"] == "best":
        parts.append(f"kept step {event['step']:,}: {event['why']}")
    return "; ".join(parts)


_SEALED = ("submitted", "checkpoint sealed", "model sealed")
_REQUEUE, _FINE = 75, (0, 130)


def fruitless(events: Iterable[Event], was_stopped: Callable[[int], bool]) -> Fruitless:
    """Count from the record. `was_stopped` tells whether a scheduler asked an attempt to stop: one that recorded no
    outcome was killed, and by whom is not known otherwise. A submission resets the counts."""
    own = outside = 0
    reason, running = "", None
    for event in events:
        kind = event["event"]
        if kind in _SEALED:
            own, outside, reason, running = 0, 0, "", None
        elif kind == "attempt begun":
            own, outside, reason = _without_outcome(running, was_stopped, own, outside, reason)
            running = event.get("attempt", 0)
        elif kind == "outcome" and event.get("absent"):
            running = None  # bounded where other nodes are waited for
        elif kind == "outcome" and (running is not None or "attempt" not in event):
            counts = event["code"] == _REQUEUE or (running is not None and event["code"] not in _FINE)
            if event["code"] == _REQUEUE:
                outside += 1
            elif counts:
                own += 1
            if counts and (said := event.get("reasons")):
                reason = "; ".join(f"{name}: {text}" for name, text in said.items())
            running = None
        elif kind == "killed":
            reason = f"killed: {event['reason']}"
    return Fruitless(*_without_outcome(running, was_stopped, own, outside, reason))


def _without_outcome(
    running: int | None, was_stopped: Callable[[int], bool], own: int, outside: int, reason: str
) -> tuple[int, int, str]:
    """Count an attempt that began and recorded no outcome."""
    if running is None:
        return own, outside, reason
    if was_stopped(running):
        return own, outside + 1, reason or "stopped, then killed before it had left"
    return own + 1, outside, reason or "killed without a word: its machine was lost, or its process was killed"
