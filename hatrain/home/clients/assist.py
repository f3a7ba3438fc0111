"""Home Assistant's own interface for language models, as OpenAI-style and Ollama integrations use it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from hatrain.home.clients import assist_calls
from hatrain.home.clients.assist_api import AssistApi
from hatrain.home.clients.client import TEMPLATE, History
from hatrain.home.devices.actions import State
from hatrain.home.devices.entity import Entity
from hatrain.home.devices.states import Unit
from hatrain.home.homes.scene import Device, Satellite, Scene, where_the_user_is
from hatrain.home.language.grammar import Name

_INTERFACE = """\
Use the tools to control the home. HassTurnOn locks a lock, HassTurnOff unlocks it.
Name a device by its name and domain, all devices of an area by the area's name and the domain.
{where}
The list below says which devices there are, not in which state they are. If a question is about a state, a value or a \
mode, call GetLiveContext first and answer from its result.
Devices and areas of this home:"""
NO_TIMERS = "Timers cannot be started here."


def interface(satellite: Satellite | None) -> str:
    """Return what the API says of itself after the instructions, in our own words.

    Home Assistant says it in English as well, in every language.
    """
    return _INTERFACE.format(where=where_the_user_is(satellite) if satellite else NO_TIMERS)


@dataclass(frozen=True)
class Assist(AssistApi):
    """The Assist API: the prompt lists names and areas, `GetLiveContext` reads states, intents act."""

    name: str = "assist"
    forms: frozenset[str] = frozenset({TEMPLATE})
    states_in_prompt: bool = False
    says_where: bool = True
    history: History = "whole"
    least_brightness: int = 1

    def lists(self, domain: str) -> bool:
        # Home Assistant makes each script a tool of its own, and reads calendars by a tool: it lists neither.
        return domain not in ("script", "calendar")

    def shows(self, key: str, state: State) -> bool:
        return key in ("state", *assist_calls.LIVE_ATTRIBUTES)

    def device_text(self, domain: str, state: State, unit: Unit) -> str:
        return ""

    def prompt(self, scene: Scene) -> str:
        """Return the instructions, what the API says of itself, and the overview, sorted by name."""
        return f"{scene.opening}\n{interface(scene.satellite)}\n{devices_overview(scene.devices)}"


def devices_overview(devices: Sequence[Device]) -> str:
    """Return the YAML list of devices that the prompt ends with."""
    ordered = sorted(devices, key=lambda device: device.name.friendly)
    return "".join(_listed_device(device.name, device.area, device.aliases) for device in ordered)


@lru_cache(maxsize=100_000)
def _listed_device(name: Name, area: str | None, aliases: tuple[str, ...]) -> str:
    entity = Entity(name.entity_id, name.friendly, "", {}, aliases, area)
    return assist_calls.dump_yaml([assist_calls.overview(entity, False)])
