"""Lights: brightness 0 to 255, one colour or one colour temperature."""

from collections.abc import Mapping
from typing import Any

from hatrain.home.simulation.arguments import Parse, Refused, anything, byte, color, number, percent, text
from hatrain.home.simulation.effect import Effect, toggles
from hatrain.home.simulation.thing import Thing

_BRIGHTNESS: Mapping[str, Parse] = {
    "brightness": byte,
    "brightness_pct": percent,
    "brightness_step": number(-255, 255),
    "brightness_step_pct": number(-100, 100),
}
_COLORS: Mapping[str, Parse] = {"color_name": color, "rgb_color": color, "hs_color": color}
_OTHER_COLORS: Mapping[str, Parse] = {
    "xy_color": anything,
    "rgbw_color": anything,
    "rgbww_color": anything,
    "white": anything,
}
_TEMPERATURES: Mapping[str, Parse] = {"color_temp_kelvin": number(1000, 40000), "color_temp": number(50, 1000)}
# Keys that change how it gets there, not where it ends.
_HARMLESS: Mapping[str, Parse] = {"transition": number(0), "profile": text}
_OFF: Mapping[str, Parse] = {"transition": number(0), "flash": text}
_ON: Mapping[str, Parse] = {
    **_BRIGHTNESS,
    **_COLORS,
    **_OTHER_COLORS,
    **_TEMPERATURES,
    **_HARMLESS,
    "flash": text,
    "effect": text,
}


def _turn_on(thing: Thing, given: Mapping[str, Any]) -> None:
    for group in (_BRIGHTNESS, {**_COLORS, **_OTHER_COLORS, **_TEMPERATURES}):
        if len(several := [key for key in group if key in given]) > 1:
            raise Refused(f"light.turn_on: found {' and '.join(several)}; accepted: one of them")
    brightness = _brightness(thing, given)
    if brightness == 0:
        _turn_off(thing, {})
        return
    thing.become("on")
    if brightness is not None:
        thing.values["brightness"] = brightness
    elif "brightness_step" in given or "brightness_step_pct" in given:
        step = given.get("brightness_step", given.get("brightness_step_pct", 0) * 2.55)
        thing.values["brightness steps"] = thing.values.get("brightness steps", 0) + step
    _set_color(thing, given)
    thing.values |= {key: given[key] for key in ("effect", "flash") if key in given}


def _brightness(thing: Thing, given: Mapping[str, Any]) -> float | None:
    if "brightness" in given:
        return float(given["brightness"])
    if "brightness_pct" in given:
        return float(given["brightness_pct"]) * 2.55
    current = 0 if thing.state == "off" else thing.values.get("brightness")
    for key, size in (("brightness_step", 1.0), ("brightness_step_pct", 2.55)):
        if key in given and isinstance(current, int | float):
            return float(min(255.0, max(0.0, current + given[key] * size)))
    return None


def _set_color(thing: Thing, given: Mapping[str, Any]) -> None:
    colors = {
        "rgb_color": next((given[key] for key in _COLORS if key in given), None),
        "color_temp_kelvin": given.get(
            "color_temp_kelvin", 1e6 / given["color_temp"] if "color_temp" in given else None
        ),
        **{key: given.get(key) for key in _OTHER_COLORS},
    }
    if chosen := {key: value for key, value in colors.items() if value is not None}:
        thing.forget(*colors)
        thing.values |= chosen


def _turn_off(thing: Thing, given: Mapping[str, Any]) -> None:
    thing.become("off")
    thing.forget("brightness", "brightness steps", "rgb_color", "color_temp_kelvin", "effect", *_OTHER_COLORS)


LIGHT: Mapping[str, Effect] = {
    "turn_on": Effect(_turn_on, _ON),
    "turn_off": Effect(_turn_off, _OFF),
    "toggle": Effect(toggles(_turn_on, _turn_off), _ON),
}
