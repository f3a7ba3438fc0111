"""A small home for tests of clients."""

from hatrain.home.devices.entity import Entity

HOME = (
    Entity("light.kitchen", "Kitchen Light", "on", {"brightness": 77, "rgb_color": (220, 20, 60)}, (), "Kitchen"),
    Entity("light.counter", "Counter Light", "off", {}, ("worktop lamp",), "Kitchen", "Ground Floor"),
    Entity("light.bedroom", "Bedroom Lamp", "off", {}, (), "Bedroom", "Upstairs"),
    Entity("switch.coffee", "Coffee Maker", "off", {}, (), "Kitchen"),
    Entity("cover.bedroom", "Bedroom Blinds", "open", {"device_class": "blind"}, (), "Bedroom", "Upstairs"),
    Entity("lock.front", "Front Door", "locked"),
    Entity("climate.office", "Office Thermostat", "heat", {"temperature": 21.5, "humidity": 45, "fan_mode": "auto"}),
    Entity("climate.hall", "Hall Thermostat", "off"),
    Entity("media_player.tv", "TV", "playing", {"volume_level": 0.4, "media_title": "Blue"}, (), "Living Room"),
    Entity("media_player.radio", "Radio", "off", {}, (), "Kitchen"),
    Entity("todo.shopping", "Shopping List", "3"),
    Entity("timer.egg", "Egg Timer", "idle"),
    Entity("fan.ceiling", "Fan", "on", {"percentage": 40}, (), "Bedroom"),
    Entity("fan.desk", "Fan", "off", {"percentage": 0}, (), "Office"),
)
