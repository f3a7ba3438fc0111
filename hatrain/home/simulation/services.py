"""Every service that the simulated home knows, by its full name."""

from collections.abc import Mapping

from hatrain.home.simulation import climates, helpers, lights, media, openings
from hatrain.home.simulation.effect import SWITCH, Effect

_DOMAINS: Mapping[str, Mapping[str, Effect]] = {
    "light": lights.LIGHT,
    "switch": SWITCH,
    "input_boolean": SWITCH,
    "remote": helpers.REMOTE,
    "siren": helpers.SIREN,
    "camera": helpers.CAMERA,
    "group": SWITCH,
    "fan": climates.FAN,
    "climate": climates.CLIMATE,
    "humidifier": climates.HUMIDIFIER,
    "water_heater": climates.WATER_HEATER,
    "cover": openings.COVER,
    "valve": openings.VALVE,
    "lock": openings.LOCK,
    "alarm_control_panel": openings.ALARM,
    "media_player": media.MEDIA_PLAYER,
    "vacuum": helpers.VACUUM,
    "lawn_mower": helpers.LAWN_MOWER,
    "timer": helpers.TIMER,
    "todo": helpers.TODO,
    "scene": helpers.SCENE,
    "script": helpers.SCRIPT,
    "automation": helpers.AUTOMATION,
    "button": helpers.BUTTON,
    "input_button": helpers.BUTTON,
    "number": helpers.NUMBER,
    "input_number": helpers.NUMBER,
    "counter": helpers.COUNTER,
    "select": helpers.SELECT,
    "input_select": helpers.SELECT,
    "text": helpers.TEXT,
    "input_text": helpers.TEXT,
    "input_datetime": helpers.DATETIME,
}
EFFECTS: Mapping[str, Effect] = {
    f"{domain}.{name}": effect for domain, services in _DOMAINS.items() for name, effect in services.items()
}
GENERIC = ("turn_on", "turn_off", "toggle")
"""Services of the domain `homeassistant`, which do what the entity's own domain does."""


def effect_for(service: str, domain: str) -> Effect | None:
    """Return what a service does to an entity of a domain; None where it does nothing to it."""
    own, _, name = service.partition(".")
    if own == "homeassistant" and name in GENERIC:
        return EFFECTS.get(f"{domain}.{name}")
    return EFFECTS.get(service) if own == domain else None


def is_known(service: str) -> bool:
    own, _, name = service.partition(".")
    return service in EFFECTS or (own == "homeassistant" and name in GENERIC)
