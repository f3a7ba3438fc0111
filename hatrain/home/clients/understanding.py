"""What Home Assistant's Assist API does with a tool call."""

from collections.abc import Sequence

from hatrain.errors import nearest
from hatrain.home.calls.compare import Call
from hatrain.home.clients.assist_tools import DATE_TIME, LIVE_CONTEXT, READERS, TOOLS
from hatrain.home.clients.client import Understood
from hatrain.home.clients.satellite_tools import SATELLITE_TOOLS
from hatrain.home.clients.targets import TARGET_SLOTS, Target, match, read_target
from hatrain.home.clients.tool import Tool
from hatrain.home.devices.entity import Entity


def understand_tool(call: Call, entities: Sequence[Entity], *, check_states: bool = True) -> Understood:
    """Return what the Assist API does with a call of one of its tools.

    With `check_states`, as Home Assistant has it, a pause finds only players that play, and so on.
    """
    if call.service in READERS:
        return _read(call, entities)
    if call.service in SATELLITE_TOOLS:
        return _in_the_house(call)
    tool = TOOLS.get(call.service)
    if tool is None:
        near = nearest(call.service, [*TOOLS, *SATELLITE_TOOLS])
        return Understood(problem=f"{call.service}: no tool of Home Assistant{near}")
    if problem := tool.problem(call.arguments):
        return Understood(problem=problem)
    target = _target(tool, call)
    if isinstance(target, str):
        return Understood(problem=f"{tool.name}: {target}")
    possible = [
        entity
        for entity in entities
        if (not tool.domains or entity.domain in tool.domains)
        and (not check_states or not tool.states or entity.state in tool.states)
    ]
    found = match(target, possible)
    if isinstance(found, str):
        named = match(target, entities)
        reason = named if isinstance(named, str) else f"{_listed(named)}: not in a state or of a kind that fits"
        return Understood(problem=f"{tool.name}: {reason}")
    if tool.single and len(found) > 1:
        return Understood(problem=f"{tool.name}: {len(found)} entities fit; it takes one")
    acts = [tool.act(entity, call.arguments) for entity in found]
    calls = tuple(call for act in acts if not isinstance(act, str) for call in act)
    problems = [act for act in acts if isinstance(act, str)]
    return Understood(calls) if calls else Understood(problem=f"{tool.name}: {problems[0]}")


def _target(tool: Tool, call: Call) -> Target | str:
    """Return what a call means. One that chooses nothing means all of the domains that its tool is limited to."""
    is_open = set(TARGET_SLOTS).isdisjoint(call.arguments) and tool.domains and tool.targets != ("name",)
    return Target(domains=tool.domains) if is_open else read_target(call.arguments)


def _read(call: Call, entities: Sequence[Entity]) -> Understood:
    if call.service == DATE_TIME:
        return Understood()
    assert call.service == LIVE_CONTEXT
    arguments = {key: call.arguments[key] for key in ("name", "area", "domain") if key in call.arguments}
    target = read_target(arguments) if arguments else Target()
    found = target if isinstance(target, str) else match(target, entities)
    if isinstance(found, str):
        return Understood(problem=f"{LIVE_CONTEXT}: {found}")
    return Understood(read=tuple(entity.entity_id for entity in found))


def _in_the_house(call: Call) -> Understood:
    """Return what a call does that touches no entity: timers of voice satellites, broadcasts."""
    tool = SATELLITE_TOOLS[call.service]
    if problem := tool.problem(call.arguments):
        return Understood(problem=problem)
    event = tool.event(call.arguments)
    return Understood(events=(event,)) if tool.happens else Understood(read=(str(event),))


def _listed(entities: Sequence[Entity]) -> str:
    return ", ".join(f"{entity.entity_id} ({entity.state})" for entity in entities[:3])
