"""What the clients that use Home Assistant's Assist API share: its tools, how calls of them are written, and their
results."""

from collections.abc import Iterable, Sequence

from hatrain.home.calls.compare import Call
from hatrain.home.clients import assist_calls, satellite_tools
from hatrain.home.clients.assist_tools import schemas
from hatrain.home.clients.client import Drawn, Json, RowFormat, Understood
from hatrain.home.clients.satellite_tools import SATELLITE_TOOLS
from hatrain.home.clients.understanding import understand_tool
from hatrain.home.devices.entity import Entity
from hatrain.home.homes.scene import Satellite


class AssistApi:
    """The part of a `ToolClient` that the API decides."""

    row_format: RowFormat = "messages"
    areas = True
    says_where: bool

    def understand(self, call: Call, entities: Sequence[Entity]) -> Understood:
        return understand_tool(call, entities)

    def offers(self, service: str, arguments: Iterable[str]) -> bool:
        if service in SATELLITE_TOOLS:
            return self.says_where
        return assist_calls.tool_for(service, arguments) is not None

    def states_for(self, service: str, arguments: Iterable[str]) -> frozenset[str]:
        tool = assist_calls.tool_for(service, arguments)
        return tool.states if tool else frozenset()

    def tool_calls(self, calls: Sequence[Drawn], entities: Sequence[Entity], together: bool) -> list[Call]:
        return assist_calls.write_calls(calls, entities, together)

    def result(self, call: Call, entities: Sequence[Entity], error: str, satellite: Satellite | None = None) -> Json:
        if call.service in SATELLITE_TOOLS:
            return satellite_tools.answer(call.service, call.arguments, satellite, must_fail=bool(error))
        return assist_calls.result(call, entities, self.understand(call, entities), must_fail=bool(error))

    def tools(self, domains: frozenset[str], satellite: bool = False) -> Sequence[Json]:
        return schemas(domains, satellite)
