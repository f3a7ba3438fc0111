"""What sensors measure: the device classes that people ask about, with their units and likely values.

Source: the lists of device classes in Home Assistant's documentation of `sensor` and `binary_sensor`.
"""

from collections.abc import Sequence

SENSORS: dict[str, tuple[str, Sequence[float]]] = {
    "temperature": ("°C", [half / 2 for half in range(-10, 60, 3)]),
    "humidity": ("%", range(28, 80, 3)),
    "battery": ("%", range(4, 101, 6)),
    "power": ("W", [3, 8, 12, 40, 75, 120, 350, 800, 1450, 2100]),
    "energy": ("kWh", [0.4, 1.2, 3.5, 7.8, 12.4, 126, 845]),
    "energy_storage": ("kWh", [2.4, 6.5, 9.8]),
    "voltage": ("V", [3, 12, 115, 228, 230, 232]),
    "current": ("A", [0.2, 0.8, 1.5, 4, 9.6]),
    "frequency": ("Hz", [49.9, 50, 50.1, 60]),
    "apparent_power": ("VA", [60, 240, 900]),
    "reactive_power": ("var", [15, 80, 210]),
    "power_factor": ("%", [82, 91, 97, 100]),
    "carbon_dioxide": ("ppm", [420, 560, 680, 830, 1050, 1400]),
    "carbon_monoxide": ("ppm", [0, 3, 9, 30]),
    "nitrogen_dioxide": ("µg/m³", [8, 21, 40]),
    "nitrogen_monoxide": ("µg/m³", [2, 9, 30]),
    "nitrous_oxide": ("µg/m³", [1, 3, 12]),
    "sulphur_dioxide": ("µg/m³", [2, 6, 20]),
    "volatile_organic_compounds_parts": ("ppb", [40, 110, 420]),
    "ozone": ("µg/m³", [35, 60, 110]),
    "volatile_organic_compounds": ("µg/m³", [90, 240, 600]),
    "pm1": ("µg/m³", [2, 6, 14]),
    "pm25": ("µg/m³", [4, 9, 18, 35]),
    "pm10": ("µg/m³", [7, 15, 42]),
    "aqi": ("", [18, 42, 75, 130]),
    "atmospheric_pressure": ("hPa", [978, 1005, 1016]),
    "pressure": ("hPa", [985, 1002, 1013, 1024]),
    "illuminance": ("lx", [0, 12, 85, 320, 5400]),
    "signal_strength": ("dBm", [-48, -61, -73, -86]),
    "gas": ("m³", [1.2, 14.8, 380]),
    "water": ("L", [42, 130, 860]),
    "moisture": ("%", [12, 33, 58]),
    "precipitation": ("mm", [0, 1.2, 7, 18]),
    "precipitation_intensity": ("mm/h", [0, 0.8, 4.5]),
    "wind_speed": ("km/h", [4, 13, 28, 61]),
    "weight": ("kg", [3.4, 61, 78.5]),
    "volume": ("L", [80, 450, 2200]),
    "volume_storage": ("L", [120, 640, 1900]),
    "distance": ("km", [0.8, 12, 340]),
    "speed": ("km/h", [5, 48, 110]),
    "data_rate": ("Mbit/s", [11, 94, 480]),
    "data_size": ("GB", [18, 120, 930]),
    "duration": ("min", [6, 35, 90]),
    "monetary": ("€", [0.32, 14.9, 86]),
    "sound_pressure": ("dB", [34, 52, 71]),
    "irradiance": ("W/m²", [0, 210, 780]),
}
"""Device class → unit, values. An air quality index has no unit."""

BINARY_SENSORS = (
    "battery", "battery_charging", "carbon_monoxide", "cold", "connectivity", "door", "garage_door", "gas", "heat",
    "light", "lock", "moisture", "motion", "moving", "occupancy", "opening", "plug", "power", "presence", "problem",
    "running", "safety", "smoke", "sound", "tamper", "update", "vibration", "window",
)  # fmt: skip

COVERS = ("awning", "blind", "curtain", "damper", "door", "garage", "gate", "shade", "shutter", "window")
VALVES = ("water", "gas")

DEVICE_CLASSES: dict[str, Sequence[str]] = {
    "binary_sensor": BINARY_SENSORS,
    "sensor": tuple(SENSORS),
    "cover": COVERS,
    "valve": VALVES,
}
"""Domain → the device classes that its nouns may have. Binary sensors must have one."""

CONDITIONS = (
    "clear-night", "cloudy", "fog", "hail", "lightning", "lightning-rainy", "partlycloudy", "pouring", "rainy", "snowy",
    "snowy-rainy", "sunny", "windy",
)  # fmt: skip
