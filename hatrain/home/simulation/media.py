"""Media players."""

from collections.abc import Mapping
from typing import Any

from hatrain.home.simulation.arguments import anything, flag, fraction, number, text
from hatrain.home.simulation.effect import (
    MUTED,
    Change,
    Effect,
    becomes,
    logs,
    steps,
    stores,
    stores_one_of,
    toggles,
)
from hatrain.home.simulation.thing import Thing

_VOLUME_STEP = 0.1
"""By which Home Assistant changes a volume, unless the player says otherwise."""


def _turn_on(thing: Thing, given: Mapping[str, Any]) -> None:
    if thing.state in (None, "off", "standby"):
        thing.become("on")


def _turn_off(thing: Thing, given: Mapping[str, Any]) -> None:
    thing.become("off")
    thing.forget("media_title", "media_content_id", "track")


def _skip(tracks: int) -> Change:
    def change(thing: Thing, given: Mapping[str, Any]) -> None:
        thing.values["track"] = thing.values.get("track", 0) + tracks

    return change


def _play(thing: Thing, given: Mapping[str, Any]) -> None:
    """Play something. What kind of thing it is, and where in the queue it goes, is not compared."""
    thing.become("playing", media_content_id=given["media_content_id"])
    thing.forget("media_title", "track")


def _play_pause(thing: Thing, given: Mapping[str, Any]) -> None:
    thing.become("paused" if thing.state == "playing" else "playing")


def _volume(direction: int) -> Change:
    move = steps("volume_level", "step", "volume_step", direction, 0, 1)

    def change(thing: Thing, given: Mapping[str, Any]) -> None:
        move(thing, {"step": _VOLUME_STEP} if "volume_step" not in thing.values and _known(thing) else {})

    return change


def _known(thing: Thing) -> bool:
    return isinstance(thing.values.get("volume_level"), int | float)


def _set_volume(thing: Thing, given: Mapping[str, Any]) -> None:
    thing.values |= given
    thing.forget("volume_level steps")


MEDIA_PLAYER: Mapping[str, Effect] = {
    "turn_on": Effect(_turn_on, feature=128),
    "turn_off": Effect(_turn_off, feature=256),
    "toggle": Effect(toggles(_turn_on, _turn_off, off_states=("off", "standby"))),
    "media_play": Effect(becomes("playing")),
    "media_pause": Effect(becomes("paused")),
    "media_play_pause": Effect(_play_pause),
    "media_stop": Effect(becomes("idle")),
    "media_next_track": Effect(_skip(1)),
    "media_previous_track": Effect(_skip(-1)),
    "media_seek": Effect(stores("seek_position"), {"seek_position": number(0)}, ("seek_position",)),
    "volume_up": Effect(_volume(1)),
    "volume_down": Effect(_volume(-1)),
    "volume_set": Effect(_set_volume, {"volume_level": fraction}, ("volume_level",), feature=4),
    "volume_mute": Effect(stores("is_volume_muted"), MUTED, ("is_volume_muted",), feature=8),
    "select_source": Effect(stores_one_of("source", "source_list"), {"source": text}, ("source",)),
    "select_sound_mode": Effect(stores_one_of("sound_mode", "sound_mode_list"), {"sound_mode": text}, ("sound_mode",)),
    "shuffle_set": Effect(stores("shuffle"), {"shuffle": flag}, ("shuffle",)),
    "repeat_set": Effect(stores("repeat"), {"repeat": text}, ("repeat",)),
    "clear_playlist": Effect(logs("clear playlist")),
    "play_media": Effect(
        _play,
        {
            "media_content_id": text,
            "media_content_type": text,
            "enqueue": anything,
            "announce": flag,
            "extra": anything,
        },
        ("media_content_id",),
    ),
    "join": Effect(stores("group_members"), {"group_members": anything}, ("group_members",)),
    "unjoin": Effect(logs("unjoin")),
}
