"""Carries out the calls of an answer in a simulated home, as the client would."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from hatrain.home.calls.compare import Call, pair_off, same_call
from hatrain.home.clients import Understood
from hatrain.home.clients.satellite_tools import TIMERS
from hatrain.home.devices.entity import Entity
from hatrain.home.simulation.house import End, House, differences

Understand = Callable[[Call, Sequence[Entity]], Understood]
"""What a client does with a written call in a home of these entities."""


@dataclass(frozen=True)
class Effects:
    """What came of the calls of one answer: the home's entities, and how they end.

    `read` are the entities, and the timers, whose state was asked for, `failed` the calls that were not carried out,
    with the reason.
    """

    home: tuple[Entity, ...]
    end: End
    read: frozenset[str] = frozenset()
    failed: tuple[tuple[Call, str], ...] = ()


def effects(calls: Iterable[Call], home: Sequence[Entity], understand: Understand) -> Effects:
    """Carry out written calls, one after another, in a home."""
    house = House(home)
    read: set[str] = set()
    failed = []
    for call in calls:
        understood = understand(call, house.entities())
        if understood.problem:
            failed.append((call, understood.problem))
            continue
        read.update(understood.read)
        for event in understood.events:
            house.log(event)
        if problems := house.apply_all(understood.calls):
            failed.append((call, problems[0]))
    return Effects(house.entities(), house.end(), frozenset(read), tuple(failed))


def effect_problems(due: Effects, found: Effects) -> list[str]:
    """Return where the calls of an answer do not come to what is due, one line each.

    A call that nobody here understands, in both answers, is compared as it is written.
    """
    expected = [single for call, _ in due.failed for single in call.per_target()]
    made = [(single, problem) for call, problem in found.failed for single in call.per_target()]
    partner = pair_off(expected, [call for call, _ in made], same_call)
    return [
        *(f"missing: {call}" for index, call in enumerate(expected) if index not in partner.values()),
        *(f"cannot be carried out: {call}: {reason}" for i, (call, reason) in enumerate(made) if i not in partner),
        *(f"missing: a look at {name}" for name in sorted(due.read) if not _was_read(name, found.read)),
        *differences(due.end, found.end),
    ]


def _was_read(name: str, read: frozenset[str]) -> bool:
    """Whether something has been looked at. A look at all timers shows each of them."""
    return name in read or (name.startswith(TIMERS) and TIMERS in read)
