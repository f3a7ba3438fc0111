"""The integration "Local LLM" (acon96/home-llm) with its present tools: its own prompt, Home Assistant's Assist API."""

from collections.abc import Sequence
from dataclasses import dataclass

from hatrain.home.calls.compare import Call
from hatrain.home.clients.assist import understand_tool
from hatrain.home.clients.client import TEMPLATE, TOOL_CALL, UNCLOSED, Understood
from hatrain.home.devices.entity import Entity


@dataclass(frozen=True)
class HomeLlm:
    """The prompt lists devices with their states; calls are those of the Assist API."""

    name: str = "home-llm"
    forms: frozenset[str] = frozenset({TEMPLATE, TOOL_CALL, UNCLOSED})

    def understand(self, call: Call, entities: Sequence[Entity]) -> Understood:
        # It multiplies every brightness from 0 to 1 by 255, also where a tool takes percent.
        brightness = call.arguments.get("brightness")
        if isinstance(brightness, int | float) and not isinstance(brightness, bool) and 0 < brightness <= 1:
            call = Call(call.service, {**call.arguments, "brightness": int(brightness * 255)})
        return understand_tool(call, entities)
