"""Language folders: complete and in agreement; every mistake in one is named with its file and line."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hatrain.home.devices.actions import ACTIONS, STATUS_SLOTS
from hatrain.home.generate.dataset import Chunks, Recipe
from hatrain.home.generate.places import room_forms
from hatrain.home.language.check import MINIMA, check_language
from hatrain.home.language.grammar import several
from hatrain.home.language.load import LANGUAGES, Language, find_language, language_folders, load_language
from hatrain.home.language.phrase_groups import PhraseGroups, may_be_shared, phrase_key
from hatrain.home.language.templates import TemplateSection
from tests.golden import matches

GOLDEN = Path(__file__).parent / "golden"
ENGLISH = LANGUAGES / "english"


def test_a_language_is_complete(language_name: str) -> None:
    report = check_language(LANGUAGES / language_name)
    assert report.complete, "\n".join(report.lines())
    assert set(MINIMA) <= set(report.counts)


def test_every_template_can_be_filled_with_every_noun_it_is_for(language_name: str) -> None:
    language = load_language(find_language(language_name))
    by_domain: dict[str, list] = {}
    for name in language.names:
        by_domain.setdefault(name.domain, []).append(name)
    # One name of each noun is enough: rooms do not change the other forms.
    for domain, names in by_domain.items():
        by_domain[domain] = list({name.noun.base: name for name in names}.values())
    checked = 0
    told = {"state": language.groups["binary_sensor.door"].state("on"), "event": {"base": "tennis"}}
    for section in language.sections:
        if section.scope in ("group", "ask", "say"):
            continue
        domains = {key.partition(".")[0] for key in section.keys if "." in key} or set(by_domain)
        for template in section.templates:
            values = {
                slot: language.values.wordings(slot, value, "C")[0] for slot, value in examples(language, section)
            }
            for name in (name for domain in domains for name in by_domain[domain]):
                room = name.room.forms if name.room else {}
                if not room_forms(template) <= room.keys():
                    room = language.rooms[0].forms  # the generator leaves out rooms that lack an optional form
                for reference in name.references:
                    filled = template.text.format_map(
                        {"device": reference, "room": room, "entity_id": {"base": name.entity_id}, **told, **values}
                    )
                    text = language.grammar.rules.finish(filled)
                    assert text.strip() and not set("{}[]") & set(text), (template.phrase.where, text)
                    assert "  " not in text and "  " not in filled, (template.phrase.where, text)
                    checked += 1
    assert checked > 20_000


def examples(language: Language, section: TemplateSection) -> list[tuple[str, Any]]:
    """Return a value for each placeholder that a section's keys allow."""
    slots = {slot for key in section.keys if key in ACTIONS for slot in ACTIONS[key].slots}
    slots |= {slot for key in section.keys for slot in STATUS_SLOTS.get(key, ())} | {"count"}
    slots -= {"state", "event"}  # worded by groups.yaml and by the calendar
    values = {
        "color": "red", "hvac_mode": "heat", "fan_mode": "low", "duration": "01:01:30", "remaining": "00:02:00",
        "condition": "sunny", "warmth": 2700, "value": (21.5, "°C"), "temperature": 21.5,
        "title": language.values.titles[0], "item": language.values.choices("item", "C")[0],
    }  # fmt: skip
    return [(slot, values.get(slot, 5)) for slot in slots]


def test_words_of_agreement_agree_with_several_devices(language_name: str) -> None:
    language = load_language(find_language(language_name))
    grammar = language.grammar
    for one in grammar.classes:
        for other in grammar.classes:
            assert grammar.rules.list_class([one, other]) in grammar.classes
    first, second = language.names[0], language.names[-1]
    both = several(grammar, [first.references[0], second.references[0]])
    for form in grammar.styles[0].references[0]:
        assert first.references[0][form] in both[form] and second.references[0][form] in both[form]


def test_numbers_have_the_right_plural_and_decimal_mark(language_name: str) -> None:
    language = load_language(find_language(language_name))
    half = language.values.wordings("temperature", 21.5, "C")[0]["base"]
    assert f"21{'.' if language.code == 'en' else ','}5" in half
    for value in (
        "00:00:15",
        "00:01:00",
        "00:02:00",
        "00:05:00",
        "00:22:00",
        "01:00:00",
        "05:00:00",
        "03:45:00",
    ):
        for forms in language.values.wordings("duration", value, "C"):
            assert all(text and not set("{}") & set(text) for text in forms.values())


def test_what_one_language_has_all_have() -> None:
    """Requests, questions, answers and groups; a thing that only some countries have may be in their language alone."""
    languages = [load_language(folder) for folder in language_folders().values()]

    def said(language: Language) -> set[tuple[str, str, str]]:
        return {
            (section.file, section.scope, key)
            for section in language.sections
            if section.persona in ("", "neutral")
            for key in section.keys
        }

    everything = set.union(*map(said, languages))
    assert {language.name: sorted(everything - said(language)) for language in languages} == {
        language.name: [] for language in languages
    }
    groups = set.intersection(*(set(language.groups) for language in languages))
    assert {key for language in languages for key in language.groups} - groups <= {"cover.damper"}
    domains = [
        {(noun.domain, noun.device_class) for noun in language.nouns if noun.device_class} for language in languages
    ]
    assert set.union(*domains) - set.intersection(*domains) <= {("cover", "damper"), ("cover", "door")}


def test_no_phrase_of_one_language_stands_in_another() -> None:
    seen: dict[str, str] = {}
    for folder in language_folders().values():
        language = load_language(folder)
        for section in language.sections:
            for template in section.templates:
                key = phrase_key(section, template)
                # Short ones may be alike by chance: "ok", "{device}: {volume}".
                if not may_be_shared(key) and sum(map(str.isalpha, re.sub(r"\{[^}]*\}", "", key))) > 22:
                    assert seen.setdefault(key, language.code) == language.code, template.phrase


def test_phrases_that_can_become_the_same_text_are_in_one_group() -> None:
    groups = PhraseGroups(load_language(ENGLISH))
    roots = {
        key: groups.root(f"user: {key}")
        for key in (
            "toggle {device[the]}",
            "toggle the light {room[in]}",
            "toggle {device[the]} for me",
            "lock {device[the]}",
        )
    }
    assert len(set(list(roots.values())[:3])) == 1
    assert roots["lock {device[the]}"] != roots["toggle {device[the]}"]


def page(language: str) -> str:
    """Return what a native speaker can review: one system prompt, and two conversations of each kind."""
    chunks = Chunks(Recipe((language,), seed=1), "train")
    rows = [json.loads(line) for line in chunks.chunk(0)[0].splitlines()]
    parts = [rows[0]["conversations"][0]["value"], ""]
    for kind in sorted({row["kind"] for row in rows}):
        parts.append(f"--- {kind}")
        for row in [row for row in rows if row["kind"] == kind][:2]:
            for turn in row["conversations"][1:]:
                mark = ">" if turn["from"] == "human" else "<"
                parts += [f"{mark} {line}" for line in turn["value"].splitlines() if "```" not in line]
            parts.append("")
    return "\n".join(parts)


def test_samples_read_as_they_were_reviewed(language_name: str) -> None:
    matches(GOLDEN / f"{language_name}.txt", page(language_name))


@pytest.fixture
def broken(tmp_path: Path) -> Callable[..., list[str]]:
    """Change a copy of the English folder, and return the lines that `--check-language` prints."""

    def change(file: str, old: str, new: str) -> list[str]:
        folder = tmp_path / "english"
        shutil.copytree(ENGLISH, folder, ignore=shutil.ignore_patterns("__pycache__"))
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new, 1))
        return check_language(folder).lines()

    return change


BROKEN = {  # mistake: (file, text in it, replacement, expected in a line)
    "an unknown placeholder": (
        "requests.txt",
        "& turn on {device:the}\n",
        "& turn on {devise:the}\n",
        "requests.txt:5: turn on {devise:the}: found {devise}; accepted: {device}, {room}; did you mean device?",
    ),
    "an unknown form": (
        "requests.txt",
        "& turn on {device:the}\n",
        "& turn on {device:teh}\n",
        "requests.txt:5: turn on {device:teh}: found {device:teh}; accepted: the forms It, base, ",
    ),
    "a value that a request must name": (
        "requests.txt",
        "& dim {device:the} to {brightness}",
        "& dim {device:the}",
        "{brightness} is missing",
    ),
    "an unknown header": (
        "status.txt",
        "[lock.state]",
        "[lock.sate]",
        "[lock.sate]: not a header of this file; did you mean lock.state?",
    ),
    "an unknown noun in a header": (
        "fixed.txt",
        "[switch.turn_on: kettle]",
        "[switch.turn_on: ketle]",
        "found 'ketle'; accepted: a noun or kind of nouns.yaml; did you mean kettle?",
    ),
    "an open brace": (
        "refusals.txt",
        "There is no {device} here.",
        "There is no {device here.",
        "found a brace that is not part of a placeholder",
    ),
    "a repeated phrase": (
        "status.txt",
        "what color {device:is} {device:the}?",
        "which color {device:is} {device:the} set to",
        "status.txt:34",
    ),
    "a phrase before the first header": (
        "status.txt",
        "[light.state]",
        "is {device:the} on?\n[light.state]",
        "found before the first [header]; move it below one",
    ),
    "an unknown class": (
        "nouns.yaml",
        "lamp: {class: sg",
        "lamp: {class: f",
        "nouns.yaml:9: light.lamp.class: found 'f'; accepted: sg | pl",
    ),
    "an unknown domain": (
        "nouns.yaml",
        "\nswitch:\n",
        "\nswich:\n",
        "swich: found 'swich'; accepted: light | switch | ",
    ),
    "an unknown key of a noun": (
        "nouns.yaml",
        "lamp: {class: sg, rooms:",
        "lamp: {class: sg, room:",
        "nouns.yaml:9: light.lamp.room: unknown key; accepted: class, rooms, kind, alike, position, only, "
        "device_class, proper; did you mean rooms?",
    ),
    "an unknown room": (
        "nouns.yaml",
        "rooms: [kitchen, lounge, passage]",
        "rooms: [kichen]",
        "light.pendant.rooms: found 'kichen'; accepted: any, none, a room or a tag of rooms.yaml; "
        "did you mean kitchen?",
    ),
    "an unknown noun that is alike": (
        "nouns.yaml",
        "alike: printer}",
        "alike: pinter}",
        "switch.3D printer.alike: found 'pinter'; accepted: a noun of this file; did you mean printer?",
    ),
    "a missing form of a room": (
        "rooms.yaml",
        "{in: in the kitchen, tags:",
        "{tags:",
        "rooms.yaml:2: kitchen.in: missing, and has no default",
    ),
    "a missing class of agreement": (
        "grammar.yaml",
        "is: {sg: is, pl: are}",
        "is: {sg: is}",
        "grammar.yaml:43: agreement.is: class pl is missing",
    ),
    "a missing key": ("grammar.yaml", 'decimal: "."', "", "decimal: missing, and has no default"),
    "an unknown key": (
        "grammar.yaml",
        "decimal:",
        "decimals:",
        "grammar.yaml:8: decimals: unknown key; accepted: code, labels, ",
    ),
    "an undeclared form in a style": (
        "grammar.yaml",
        '{base: "{noun} {room:in}"',
        '{base: "{noun} {room:on}"',
        "grammar.yaml:59: styles.0: {room:on}: not in room_forms",
    ),
    "a colour without a wording": (
        "values.yaml",
        "  teal: teal\n",
        "",
        "values.yaml:53: color: found a mapping; accepted: a mapping that also has teal",
    ),
    "an unknown fan mode": (
        "values.yaml",
        "high: high}",
        "high: high, hgih: high}",
        "fan_mode: found a mapping; accepted: a mapping without hgih; did you mean high?",
    ),
    "an unknown unit": (
        "values.yaml",
        '"{n} {percent}"',
        '"{n} {procent}"',
        "numbers.percent.1: found {procent}; accepted: {n} or one of the units; did you mean percent?",
    ),
    "a number pattern without its number": (
        "values.yaml",
        '"{n}%"',
        '"%"',
        "numbers.percent.0: found '%'; accepted: text with {n} or {words}, once",
    ),
    "a key given twice": ("rooms.yaml", "living room:", "kitchen:", "rooms.yaml:3: kitchen: given twice"),
    "a missing section": (
        "answers/neutral.txt",
        "[vacuum.locate]",
        "[vacuum.start]",
        "answers/neutral.txt: [vacuum.locate]: needs at least 2 phrases, has 0",
    ),
    "a missing function": (
        "grammar.py",
        "def finish(",
        "def end(",
        "grammar.py: finish: no such function; add it",
    ),
    "a floor without the form that rooms need": (
        "places.yaml",
        "upstairs: {level: 1, forms: {in: upstairs}}",
        "upstairs: {level: 1, forms: {base: upstairs}}",
        "floors.upstairs.forms: in: missing; room_forms of grammar.yaml requires it",
    ),
    "a form of a place that no room has": (
        "places.yaml",
        "- {in: here}",
        "- {at: here}",
        "here.0: at: not in room_forms of grammar.yaml",
    ),
    "a level of a room that is not there": (
        "places.yaml",
        '"-1": [basement',
        '"-1": [basment',
        "rooms.-1: found 'basment'; accepted: a room or a tag of rooms.yaml; did you mean basement?",
    ),
    "a group of no domain": (
        "groups.yaml",
        "cover.blind:",
        "cover.blnd:",
        "found 'cover.blnd'; accepted: a domain, or a domain and device class such as cover.blind",
    ),
    "a kind of sensor without a group": (
        "groups.yaml",
        "binary_sensor.window:",
        "binary_sensor.sound:",
        "given twice",
    ),
    "a word of agreement that a group lacks": (
        "groups.yaml",
        'forms: {base: lights}, states: {on: "on"',
        'forms: {base: lights}, states: {on: "on{device}"',
        "light: found {device}; accepted: a word of agreement",
    ),
    "a device class that a domain lacks": (
        "nouns.yaml",
        "device_class: blind}",
        "device_class: blnd}",
        "device_class: found 'blnd'",
    ),
    "a binary sensor without a class": (
        "nouns.yaml",
        "motion sensor: {class: sg, rooms: any, device_class: motion}",
        "motion sensor: {class: sg, rooms: any}",
        "binary_sensor.motion sensor: device_class: missing; accepted: battery, ",
    ),
    "a timer that says something else": (
        "grammar.yaml",
        '{base: "{label} timer", the: "the {label} timer"}',
        '{base: "{label} timer", the: "the {name} timer"}',
        "timers.named.0: the: the {name} timer: accepted: {label}, and nothing else",
    ),
    "an answer that says what the request has not": (
        "timers.txt",
        "I've paused {timer:the}.",
        "I've paused {timer:the} for {duration}.",
        "found {duration}; accepted: {timer}",
    ),
    "a request that spares nothing": (
        "fixed.txt",
        "turn on everything but {device:the}",
        "turn on everything but the rest",
        "{device} or {room} is missing",
    ),
    "a question about a group that is not there": (
        "status.txt",
        "[any: person]",
        "[any: persons]",
        "found 'persons'; accepted: a group of groups.yaml; did you mean person?",
    ),
    "too few words for numbers": (
        "values.yaml",
        "  zero, one, two,",
        "  zero, two,",
        "words: ",
    ),
    "a filler without its request": (
        "grammar.yaml",
        '"{request} for me"',
        '"do it for me"',
        "grammar.yaml:22: fillers.3: found 'do it for me'; accepted: text with {request}",
    ),
}


@pytest.mark.parametrize("mistake", BROKEN)
def test_a_mistake_in_a_folder_is_named(broken: Callable[..., list[str]], mistake: str) -> None:
    file, old, new, expected = BROKEN[mistake]
    lines = broken(file, old, new)
    assert any(expected in line for line in lines), lines[:5]
    assert lines[-1] != "english: complete"


def test_a_missing_file_and_too_few_phrases_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "english"
    shutil.copytree(ENGLISH, folder)
    (folder / "status.txt").unlink()
    assert check_language(folder).lines()[0] == f"{folder / 'status.txt'}: no such file"
    text = (ENGLISH / "status.txt").read_text().splitlines()
    wanted = [line for line in text if not line.startswith(("tell me", "is {device", "what", "how"))]
    (folder / "status.txt").write_text("\n".join(wanted))
    report = check_language(folder)
    assert report.too_few == ["status questions"]
    assert any(line.startswith("status questions: ") and "too few" in line for line in report.lines())


def test_a_language_folder_may_be_anywhere(tmp_path: Path) -> None:
    shutil.copytree(ENGLISH, tmp_path / "elsewhere")
    assert check_language(tmp_path / "elsewhere").lines()[-1] == "elsewhere: complete"
