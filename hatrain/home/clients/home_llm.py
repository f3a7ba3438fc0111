"""The integration "Local LLM" (acon96/home-llm) with its present tools: its own prompt, Home Assistant's Assist API."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hatrain.home.calls.answer import TOOL_CALL, UNCLOSED
from hatrain.home.calls.compare import Call
from hatrain.home.clients import assist_calls
from hatrain.home.clients.assist_tools import schemas
from hatrain.home.clients.client import TEMPLATE, Drawn, History, Json, RowFormat, Understood
from hatrain.home.clients.home_llm_prompt import SHOWN, grouped_prompt, shown_attributes
from hatrain.home.clients.understanding import understand_tool
from hatrain.home.devices.actions import State
from hatrain.home.devices.entity import Entity
from hatrain.home.devices.states import Unit
from hatrain.home.homes.scene import Scene


@dataclass(frozen=True)
class HomeLlm:
    """The prompt lists devices with their states; calls are those of the Assist API."""

    name: str = "home-llm"
    forms: frozenset[str] = frozenset({TEMPLATE, TOOL_CALL, UNCLOSED})
    row_format: RowFormat = "messages"
    areas: bool = True
    states_in_prompt: bool = True
    history: History = "calls"

    def understand(self, call: Call, entities: Sequence[Entity]) -> Understood:
        # It multiplies every brightness from 0 to 1 by 255, also where a tool takes percent.
        brightness = call.arguments.get("brightness")
        if isinstance(brightness, int | float) and not isinstance(brightness, bool) and 0 < brightness <= 1:
            call = Call(call.service, {**call.arguments, "brightness": int(brightness * 255)})
        return understand_tool(call, entities)

    def offers(self, service: str, arguments: Iterable[str]) -> bool:
        return assist_calls.tool_for(service, arguments) is not None

    def states_for(self, service: str, arguments: Iterable[str]) -> frozenset[str]:
        tool = assist_calls.tool_for(service, arguments)
        return tool.states if tool else frozenset()

    def shows(self, key: str, state: State) -> bool:
        return shows(key, state)

    def device_text(self, domain: str, state: State, unit: Unit) -> str:
        return ";".join([state["state"], *shown_attributes(state["attributes"])])

    def prompt(self, scene: Scene) -> str:
        return grouped_prompt(scene)

    def tool_calls(self, calls: Sequence[Drawn], entities: Sequence[Entity], together: bool) -> list[Call]:
        return assist_calls.write_calls(calls, entities, together)

    def result(self, call: Call, entities: Sequence[Entity], error: str) -> Json:
        return assist_calls.result(call, entities, self.understand(call, entities), must_fail=bool(error))

    def tools(self, domains: frozenset[str]) -> Sequence[Json]:
        return schemas(domains)


def shows(key: str, state: State) -> bool:
    """Whether a device's line says a value. It cuts a temperature's decimals off, so 21.5 is not said."""
    if key == "temperature":
        return float(state["attributes"].get(key, 0)).is_integer()
    return key == "state" or key in SHOWN
