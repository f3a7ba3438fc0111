"""The integration "Local LLM" (acon96/home-llm) with its present tools: its own prompt, Home Assistant's Assist API."""

from collections.abc import Sequence
from dataclasses import dataclass

from hatrain.home.calls.answer import TOOL_CALL, UNCLOSED
from hatrain.home.calls.compare import Call
from hatrain.home.clients.assist_api import AssistApi
from hatrain.home.clients.client import TEMPLATE, History, Understood
from hatrain.home.clients.home_llm_prompt import grouped_prompt, shown_attributes, shows
from hatrain.home.devices.actions import State
from hatrain.home.devices.entity import Entity
from hatrain.home.devices.states import Unit
from hatrain.home.homes.scene import Scene


@dataclass(frozen=True)
class HomeLlm(AssistApi):
    """The prompt lists devices with their states; calls are those of the Assist API."""

    name: str = "home-llm"
    forms: frozenset[str] = frozenset({TEMPLATE, TOOL_CALL, UNCLOSED})
    states_in_prompt: bool = True
    says_where: bool = False
    history: History = "calls"
    least_brightness: int = 2
    """It multiplies every brightness from 0 to 1 by 255, also where a tool takes percent."""

    def understand(self, call: Call, entities: Sequence[Entity]) -> Understood:
        brightness = call.arguments.get("brightness")
        if isinstance(brightness, int | float) and not isinstance(brightness, bool) and 0 < brightness <= 1:
            call = Call(call.service, {**call.arguments, "brightness": int(brightness * 255)})
        return super().understand(call, entities)

    def lists(self, domain: str) -> bool:
        return True

    def shows(self, key: str, state: State) -> bool:
        return shows(key, state)

    def device_text(self, domain: str, state: State, unit: Unit) -> str:
        return ";".join([state["state"], *shown_attributes(state["attributes"])])

    def prompt(self, scene: Scene) -> str:
        return grouped_prompt(scene)
