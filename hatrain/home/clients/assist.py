"""Home Assistant's own interface for language models, as OpenAI-style and Ollama integrations use it."""

from collections.abc import Sequence
from dataclasses import dataclass

from hatrain.errors import nearest
from hatrain.home.calls.compare import Call
from hatrain.home.clients.assist_tools import DATE_TIME, LIVE_CONTEXT, READERS, TOOLS
from hatrain.home.clients.client import TEMPLATE, Understood
from hatrain.home.clients.targets import Target, match, read_target
from hatrain.home.devices.entity import Entity


@dataclass(frozen=True)
class Assist:
    """The Assist API: the prompt lists names and areas, `GetLiveContext` reads states, intents act."""

    name: str = "assist"
    forms: frozenset[str] = frozenset({TEMPLATE})

    def understand(self, call: Call, entities: Sequence[Entity]) -> Understood:
        return understand_tool(call, entities)


def understand_tool(call: Call, entities: Sequence[Entity], *, check_states: bool = True) -> Understood:
    """Return what the Assist API does with a call of one of its tools.

    With `check_states`, as Home Assistant has it, a pause finds only players that play, and so on.
    """
    if call.service in READERS:
        return _read(call, entities)
    tool = TOOLS.get(call.service)
    if tool is None:
        return Understood(problem=f"{call.service}: no tool of Home Assistant{nearest(call.service, TOOLS)}")
    if problem := tool.problem(call.arguments):
        return Understood(problem=problem)
    target = read_target(call.arguments)
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
        problem = match(target, entities)
        reason = problem if isinstance(problem, str) else f"{_listed(problem)}: not in a state or of a kind that fits"
        return Understood(problem=f"{tool.name}: {reason}")
    if tool.single and len(found) > 1:
        return Understood(problem=f"{tool.name}: {len(found)} entities fit; it takes one")
    acts = [tool.act(entity, call.arguments) for entity in found]
    calls = tuple(act for act in acts if isinstance(act, Call))
    problems = [act for act in acts if isinstance(act, str)]
    return Understood(calls) if calls else Understood(problem=f"{tool.name}: {problems[0]}")


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


def _listed(entities: Sequence[Entity]) -> str:
    return ", ".join(f"{entity.entity_id} ({entity.state})" for entity in entities[:3])
