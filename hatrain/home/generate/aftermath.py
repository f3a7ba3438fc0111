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
    on_devices = [call for call in calls if "target_device" in call]
    targets = {call["target_device"] for call in on_devices}
    before = [device for device in home.devices if device.name.entity_id in targets]
    house = House(map(entity_of, before))
    house.apply_all(Call(call["service"], _arguments(call)) for call in on_devices)
    changed = {}
    for device, entity in zip(before, house.entities(), strict=True):
        state = {**device.state, "state": entity.state, "attributes": entity.attributes}
        text = client.device_text(entity.domain, state, home.unit)
        changed[device.name.entity_id] = device._replace(state={**state, "text": text})

    def after(devices: Sequence[Device]) -> list[Device]:
        return [changed.get(device.name.entity_id, device) for device in devices]

    by_domain = {domain: after(devices) for domain, devices in home.by_domain.items()}
    return replace(home, by_domain=by_domain, scene=replace(home.scene, devices=after(home.devices)))


def _arguments(call: Drawn) -> dict[str, object]:
    rest = {key: value for key, value in call.items() if key not in ("service", "target_device")}
    return {"entity_id": call["target_device"], **rest}
