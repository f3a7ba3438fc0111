"""Says what kind of sentence a drawn request is, as Home Assistant's intents would have it."""

from collections.abc import Sequence

from hatrain.home.devices.actions import Action
from hatrain.home.devices.services import SERVICES
from hatrain.home.generate.places import Place, says_room
from hatrain.home.homes.home import Device
from hatrain.home.intents.shape import WITH_CLASS, Shape, make_shape

_SLOTS = {"title": "search_query"}
"""Placeholders that shapes call otherwise."""


def shape_of_request(
    action: Action,
    devices: Sequence[Device],
    place: Place | None,
    *,
    named: bool,
    here: bool = False,
    text: str = "",
) -> Shape:
    """Return the shape of a request. `named`: its text names the devices, and their room if it says so. `here`:
    it means those around the satellite, without saying so."""
    intent = SERVICES[action.service].intent
    name = intent.name if intent else action.service
    if name == "HassLightSet" and not action.slots:
        name = "HassTurnOn"
    if action.key == "timer.start":
        name = "HassUnpauseTimer"
    slots = {_SLOTS.get(slot, slot) for slot in action.slots}
    if named:
        slots.add("name")
        if says_room(text, devices[0].name.room):
            slots.add("area")
        if place is not None:
            slots.add(place.kind)
    elif place is not None and place.kind != "everywhere":
        slots.add(place.kind)
    elif here:
        slots.add("here")
    return make_shape(name, slots, *domain_of_devices(devices))


def domain_of_devices(devices: Sequence[Device]) -> tuple[str, str]:
    """Return the domain and, where all devices share one, their device class."""
    domain = devices[0].name.domain
    classes = {str(device.state["attributes"].get("device_class", "")) for device in devices}
    return domain, classes.pop() if domain in WITH_CLASS and len(classes) == 1 else ""
