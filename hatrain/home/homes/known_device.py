"""A device of a user's home, as its owner or Home Assistant describes it."""

from dataclasses import dataclass

from hatrain.home.devices.abilities import ANY, Abilities
from hatrain.home.devices.services import domain_of


@dataclass(frozen=True)
class KnownDevice:
    """An exposed entity, of any domain."""

    entity_id: str
    name: str
    area: str | None = None
    floor: str | None = None
    aliases: tuple[str, ...] = ()
    abilities: Abilities = ANY
    device_class: str = ""

    @property
    def domain(self) -> str:
        return domain_of(self.entity_id)
