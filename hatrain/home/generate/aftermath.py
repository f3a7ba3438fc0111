"""The home after calls: what the prompt of a later turn shows."""

from collections.abc import Sequence
from dataclasses import replace

from hatrain.home.calls.compare import Call
from hatrain.home.clients.client import Client, Drawn
from hatrain.home.homes.home import Home
from hatrain.home.homes.scene import Device, entity_of
from hatrain.home.simulation.house import House


def home_after(home: Home, calls: Sequence[Drawn], client: Client) -> Home:
    """Return a home in which drawn calls have been carried out, with the prompt that says so."""
    targets = {call["target_device"] for call in calls}
    house = House(entity_of(device) for device in home.devices if device.name.entity_id in targets)
    house.apply_all(Call(call["service"], _arguments(call)) for call in calls)
    entities = {entity.entity_id: entity for entity in house.entities()}

    def changed(device: Device) -> Device:
        entity = entities.get(device.name.entity_id)
        if entity is None:
            return device
        state = {**device.state, "state": entity.state, "attributes": entity.attributes}
        return device._replace(state={**state, "text": client.device_text(entity.domain, state, home.unit)})

    devices = [changed(device) for device in home.devices]
    scene = replace(home.scene, devices=devices)
    by_domain: dict[str, list[Device]] = {}
    for device in devices:
        by_domain.setdefault(device.name.domain, []).append(device)
    return Home(by_domain, home.unit, home.persona, scene, home.write)


def _arguments(call: Drawn) -> dict[str, object]:
    rest = {key: value for key, value in call.items() if key not in ("service", "target_device")}
    return {"entity_id": call["target_device"], **rest}
