"""The home after a request: what the next one finds."""

from datetime import datetime

from hatrain.home.clients import CLIENTS
from hatrain.home.generate.aftermath import home_after
from hatrain.home.homes.home import Home
from hatrain.home.homes.scene import Device, Satellite, Scene
from hatrain.home.language.grammar import Name

CLIENT = CLIENTS["home-llm"]


def home() -> Home:
    name = Name("light", None, None, "Den Lamp", "light.den", "sg", ())
    devices = [Device(name, {"state": "off", "attributes": {}, "text": "off"}, "Den")]
    labels, satellite = {"devices": "Devices:"}, Satellite("Den")
    scene = Scene("Hello.", datetime(2026, 3, 4), devices, "en", labels, lambda moment: "now", satellite)
    return Home({"light": devices}, "C", "neutral", scene, CLIENT.prompt)


def test_a_timer_changes_no_device() -> None:
    after = home_after(home(), [{"service": "HassStartTimer", "minutes": 5}], CLIENT)
    assert after.entities == home().entities
    assert after.scene.satellite == Satellite("Den")


def test_a_device_changes_beside_a_timer() -> None:
    calls = [
        {"service": "HassBroadcast", "message": "Good night"},
        {"service": "light.turn_on", "target_device": "light.den"},
    ]
    after = home_after(home(), calls, CLIENT)
    assert [entity.state for entity in after.entities] == ["on"]
    assert "Den Lamp' = on" in after.prompt
