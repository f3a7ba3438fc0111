"""The tools of Home Assistant's Assist API for media players."""

from collections.abc import Sequence

from hatrain.home.calls.compare import Call
from hatrain.home.clients.tool import Act, Arguments, Slot, Tool, number, percent, service_call, some_text, within
from hatrain.home.devices.entity import Entity

PLAYER_CLASSES = ("tv", "speaker", "receiver")
MEDIA_CLASSES = (
    "album", "app", "artist", "channel", "composer", "contributing_artist", "directory", "episode", "game", "genre",
    "image", "movie", "music", "playlist", "podcast", "season", "track", "tv_show", "url", "video",
)  # fmt: skip
_PLAYERS = frozenset({"media_player"})
_PLACES = ("name", "area", "floor")


def _relative_volume(entity: Entity, given: Arguments) -> tuple[Call, ...] | str:
    if entity.domain != "media_player":
        return f"{entity.entity_id}: not a media_player"
    step = given["volume_step"]
    percent = number(step)
    if percent is None:
        return (Call(f"media_player.volume_{step}", {"entity_id": entity.entity_id}),)
    level = min(1.0, max(0.0, float(entity.attributes.get("volume_level", 0)) + percent / 100))
    return (Call("media_player.volume_set", {"entity_id": entity.entity_id, "volume_level": round(level, 4)}),)


def _mute(is_muted: bool) -> Act:
    # The tool decides: Home Assistant overwrites an argument that says otherwise.
    return service_call("media_player.volume_mute", lambda given: {"is_volume_muted": is_muted})


def _player(name: str, description: str, act: Act, states: Sequence[str] = (), **slots: Slot) -> Tool:
    return Tool(name, description, act, _PLAYERS, _PLAYERS, frozenset(states), PLAYER_CLASSES, slots)


_FLAG = Slot({"type": "boolean"}, lambda value: isinstance(value, bool | int | str), required=False)

PLAYER_TOOLS = (
    _player("HassMediaPause", "Pauses a media player.", service_call("media_player.media_pause"), ["playing"]),
    _player("HassMediaUnpause", "Resumes a media player.", service_call("media_player.media_play"), ["paused"]),
    _player("HassMediaNext", "Skips to the next item.", service_call("media_player.media_next_track"), ["playing"]),
    _player(
        "HassMediaPrevious",
        "Goes back to the previous item.",
        service_call("media_player.media_previous_track"),
        ["playing"],
    ),
    _player(
        "HassSetVolume",
        "Sets the volume of a media player in percent.",
        service_call(
            "media_player.volume_set", lambda given: {"volume_level": int(float(given["volume_level"])) / 100}
        ),
        ["playing"],
        volume_level=percent(),
    ),
    Tool(
        "HassSetVolumeRelative",
        "Raises or lowers the volume of a media player.",
        _relative_volume,
        _PLAYERS,
        _PLAYERS,
        frozenset({"playing"}),
        slots={
            "volume_step": Slot(
                {"anyOf": [{"type": "string", "enum": ["up", "down"]}, {"type": "integer"}]},
                lambda value: value in ("up", "down") or within(-100, 100)(value),
            )
        },
        targets=_PLACES,
    ),
    _player("HassMediaPlayerMute", "Turns the sound of a media player off.", _mute(True), is_volume_muted=_FLAG),
    _player("HassMediaPlayerUnmute", "Turns the sound of a media player back on.", _mute(False), is_volume_muted=_FLAG),
    Tool(
        "HassMediaSearchAndPlay",
        "Plays the first thing that a search for media finds.",
        service_call(
            "media_player.play_media",
            lambda given: {"media_content_id": given["search_query"], "media_content_type": "music"},
        ),
        _PLAYERS,
        _PLAYERS,
        slots={
            "search_query": Slot({"type": "string"}, some_text),
            "media_class": Slot(
                {"type": "string", "enum": list(MEDIA_CLASSES)}, lambda value: value in MEDIA_CLASSES, required=False
            ),
        },
        targets=_PLACES,
        single=True,
    ),
)
