"""An entity as Home Assistant knows it: what a client lists, and what a simulated home holds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Entity:
    """One exposed entity, in a state.

    `attributes` have Home Assistant's own keys and units: `brightness` 0 to 255, `rgb_color` as three numbers,
    `current_position` 0 to 100, `temperature` (a climate's target) in the home's unit, `volume_level` 0 to 1,
    `device_class`, `supported_color_modes`, and so on.
    """

    entity_id: str
    name: str
    state: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    area: str | None = None
    floor: str | None = None

    @property
    def domain(self) -> str:
        return self.entity_id.partition(".")[0]
