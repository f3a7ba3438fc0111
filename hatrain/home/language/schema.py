"""The schema of a language folder's YAML files. What depends on another file is checked after reading."""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, RootModel, create_model

from hatrain.errors import nearest
from hatrain.home.devices.sensors import CONDITIONS, DEVICE_CLASSES
from hatrain.home.devices.services import COLORS, DOMAINS, FAN_MODES, HVAC_MODES
from hatrain.home.devices.states import WARMTHS, Unit

Table = dict[str, Any]

UNITS = ("percent", "degree", "hour", "minute", "second", "thing")
MODES = tuple(mode for mode in HVAC_MODES if mode != "off")
"""What a request may set. A language needs no wording for `off`."""


class Record(BaseModel):
    """A mapping with no other keys than its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _as_base_form(value: Any) -> Any:
    return value if isinstance(value, Mapping) else {"base": value}


def _with_all(required: Iterable[str], others: Iterable[str] | None = None) -> Callable[[Table], Table]:
    """Refuse a mapping that lacks one of the keys, or has one beside these and the `others` (None: any)."""
    required = tuple(required)

    def check(value: Table) -> Table:
        if missing := [key for key in required if key not in value]:
            raise ValueError(f"a mapping that also has {', '.join(missing)}")
        known = None if others is None else {*required, *others}
        if known is not None and (unknown := next((key for key in value if key not in known), None)):
            raise ValueError(f"a mapping without {unknown}{nearest(unknown, known)}")
        return value

    return check


def _with_once(*placeholders: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if any(text.count(placeholder) != 1 for placeholder in placeholders):
            raise ValueError(f"text with {' and '.join(placeholders)}, once each")
        return text

    return check


def _with_number(text: str) -> str:
    if text.count("{n}") + text.count("{words}") != 1:
        raise ValueError("text with {n} or {words}, once")
    return text


def _with_digits(patterns: list[str]) -> list[str]:
    if not any("{n}" in pattern for pattern in patterns):
        raise ValueError("a list with {n} at least once: not every number has words")
    return patterns


NamesRecord = Annotated[tuple[str, ...], BeforeValidator(_as_list)]
"""One name, or a list of them."""
FormsRecord = Annotated[dict[str, str], BeforeValidator(_as_base_form)]
"""Form → text; plain text is the `base` form alone."""
WordingsRecord = Annotated[dict[str, Annotated[list[str], Field(min_length=1)]], BeforeValidator(_as_base_form)]
"""Form → wordings of the same value; a plain list holds those of the `base` form alone."""
Pattern = Annotated[str, AfterValidator(_with_once("{n}"))]
CountPattern = Annotated[str, AfterValidator(_with_number)]
"""A number in digits, `{n}`, or in words, `{words}`."""
PatternsRecord = Annotated[
    dict[str, Annotated[list[CountPattern], Field(min_length=1), AfterValidator(_with_digits)]],
    BeforeValidator(_as_base_form),
]
ByClass = dict[str, str]
ReferenceRecord = dict[str, str | ByClass]
"""Form → pattern, or form → class → pattern."""
FormRule = Literal["required", "base", "lower", "optional"]


class Labels(Record):
    services: str
    devices: str
    instruction: str


class StyleRecord(Record):
    name: str
    said: list[ReferenceRecord] = Field(min_length=1)


class TimersRecord(Record):
    """How a timer of a voice satellite is referred to, by what tells it apart; forms are patterns."""

    any: list[FormsRecord] = Field(min_length=2)
    named: list[FormsRecord] = Field(min_length=2)
    room: list[FormsRecord] = Field(min_length=1)
    lasting: list[FormsRecord] = Field(min_length=1)


class GrammarFile(Record):
    code: str
    labels: Labels
    temperature_units: tuple[Unit, ...] = Field(min_length=1)
    decimal: str
    conjunction: str
    joins: tuple[Annotated[str, AfterValidator(_with_once("{first}", "{second}"))], ...] = Field(min_length=1)
    fillers: tuple[Annotated[str, AfterValidator(_with_once("{request}"))], ...] = Field(min_length=1)
    keeps_question_mark: bool = False
    misheard: dict[str, str] = {}
    classes: tuple[str, ...] = Field(min_length=1)
    unknown_class: str
    agreement: dict[str, ByClass]
    noun_forms: dict[str, FormRule]
    room_forms: dict[str, FormRule]
    styles: list[StyleRecord] = Field(min_length=1)
    proper: list[StyleRecord] = Field(min_length=1)
    timers: TimersRecord
    unknown: list[ReferenceRecord] = Field(min_length=1)
    unknown_room: dict[str, str]


class Numbers(Record):
    percent: PatternsRecord
    humidity: PatternsRecord
    celsius: PatternsRecord
    fahrenheit: PatternsRecord
    count: PatternsRecord


class DurationParts(Record):
    hour: Pattern
    minute: Pattern
    second: Pattern


class Durations(Record):
    parts: Annotated[dict[str, DurationParts], AfterValidator(_with_all(["base"]))]
    special: dict[str, WordingsRecord] = {}


class ValuesFile(Record):
    words: tuple[str, ...] = Field(min_length=101, max_length=101)
    """The numbers from 0 to 100 in words."""
    extremes: dict[Annotated[str, Field(pattern=r"^\d{1,3}$")], WordingsRecord] = {}
    """Percentages that have words of their own: full, half."""
    units: Annotated[dict[str, dict[str, str]], AfterValidator(_with_all(UNITS))]
    numbers: Numbers
    durations: Durations
    color: Annotated[dict[str, FormsRecord], AfterValidator(_with_all(COLORS, []))]
    hvac_mode: Annotated[dict[str, FormsRecord], AfterValidator(_with_all(MODES, ["off"]))]
    fan_mode: Annotated[dict[str, FormsRecord], AfterValidator(_with_all(FAN_MODES, []))]
    warmth: Annotated[dict[str, FormsRecord], AfterValidator(_with_all(map(str, WARMTHS), []))]
    condition: Annotated[dict[str, FormsRecord], AfterValidator(_with_all(CONDITIONS, []))]
    title: tuple[str, ...] = Field(min_length=1)
    event: tuple[str, ...] = Field(min_length=10)
    label: tuple[str, ...] = Field(min_length=12)
    message: tuple[str, ...] = Field(min_length=12)
    item: dict[str, Annotated[list[FormsRecord], Field(min_length=5)]] = Field(min_length=1)


STATES = (
    "on", "off", "open", "closed", "opening", "closing", "locked", "unlocked", "playing", "paused", "idle", "standby",
    "cleaning", "docked", "returning", "mowing", "home", "not_home",
)  # fmt: skip
"""States of devices that a language needs words for."""

WordList = Annotated[tuple[str, ...], Field(min_length=1)]


class WordsFile(Record):
    """The words by which an answer is judged. `states` may name a domain: `timer.idle`."""

    affirm: WordList
    deny: WordList
    negations: WordList
    states: Annotated[dict[str, WordList], AfterValidator(_with_all(STATES))]
    done: WordList
    undone: WordList


class PlacesFile(Record):
    """Places that are no room: each has the forms of rooms. `floors` are by level, 0 at street level."""

    floors: dict[str, "FloorRecord"] = Field(min_length=4)
    rooms: dict[Literal["-1", "0", "1", "2", "none"], NamesRecord] = {}
    """Level → the rooms, or tags of rooms, that are always there; `none` are outdoors. The others may be on 0 or 1."""
    here: list[FormsRecord] = Field(min_length=2)
    everywhere: list[FormsRecord] = Field(min_length=2)


class FloorRecord(Record):
    level: Literal["-1", "0", "1", "2"]
    forms: FormsRecord


class GroupRecord(Record):
    """Things that are asked about together: "which windows are open?".

    `class` is what words agree with; `forms` and the forms of each state are patterns. `there`: what is said to be
    somewhere when the state is on: "is there smoke in the kitchen?".
    """

    cls: str = Field(alias="class")
    forms: FormsRecord
    states: dict[str, FormsRecord] = Field(min_length=1)
    there: FormsRecord | None = None


GroupsFile = RootModel[dict[str, GroupRecord]]
"""Domain, or domain and device class (`cover.blind`) → what such things are called."""


def rooms_file(grammar: GrammarFile) -> type[RootModel[dict[str, Any]]]:
    """Return the schema of rooms.yaml: a record has the forms that grammar.yaml declares."""
    record = create_model("Room", __base__=Record, tags=(NamesRecord, ()), **_form_fields(grammar.room_forms))
    return RootModel[dict[str, record]]  # type: ignore[valid-type]


def nouns_file(grammar: GrammarFile) -> type[RootModel[dict[str, Any]]]:
    """Return the schema of nouns.yaml, likewise. A language with one class need not repeat it in each record."""
    one_class = grammar.classes[0] if len(grammar.classes) == 1 else ...
    fields: dict[str, Any] = {
        "class": (Literal[grammar.classes], one_class),
        "rooms": (NamesRecord, ("any",)),
        "kind": (str | None, None),
        "alike": (str | None, None),
        "position": (bool, True),
        "only": (Literal["heat"] | None, None),
        "device_class": (Literal[_CLASSES] | None, None),
        "proper": (bool, False),
        **_form_fields(grammar.noun_forms),
    }
    record = create_model("Noun", __base__=Record, **fields)
    domain = Literal[tuple(DOMAINS)]  # type: ignore[valid-type]
    return RootModel[dict[domain, dict[str, record]]]  # type: ignore[valid-type]


_CLASSES = tuple(dict.fromkeys(each for classes in DEVICE_CLASSES.values() for each in classes))


def _form_fields(rules: Mapping[str, FormRule]) -> dict[str, Any]:
    return {form: (str, ...) if rule == "required" else (str | None, None) for form, rule in rules.items()}
