"""Draws the voice satellite through which somebody speaks: where it stands, and the timers that run on it."""

from collections.abc import Sequence

from hatrain.home.calls.compare import duration_seconds
from hatrain.home.devices.states import DURATIONS
from hatrain.home.homes.home import Draw, pick
from hatrain.home.homes.scene import Device, Satellite, SatelliteTimer

_SPOKEN = 0.6
"""Share of the conversations in homes with areas that come through a satellite; the others are typed."""
_TIMERS = (0, 0, 1, 1, 1, 1, 2, 3)
"""How many timers run: mostly one, of which people need not say more."""
_NAMED = 0.5


def draw_satellite(draw: Draw, devices: Sequence[Device], labels: Sequence[str]) -> Satellite | None:
    """Draw a satellite in the area of some device; None where nobody speaks, or no device has an area."""
    in_areas = [device for device in devices if device.area]
    if not in_areas or draw() >= _SPOKEN:
        return None
    device = pick(draw, in_areas)
    assert device.area
    timers: dict[tuple[int, str], SatelliteTimer] = {}
    for _ in range(pick(draw, _TIMERS)):
        seconds, name = int(duration_seconds(pick(draw, DURATIONS)) or 0), pick(draw, labels) if draw() < _NAMED else ""
        left = max(1, round(seconds * draw()))
        timers[seconds, name] = SatelliteTimer(seconds, left, name, draw() < 0.75)
    return Satellite(device.area, device.floor, tuple(timers.values()))
