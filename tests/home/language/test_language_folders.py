"""Language folders: complete, in agreement, and told apart from broken ones line by line."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hatrain.home.devices.actions import ACTIONS, STATUS_SLOTS
from hatrain.home.generate.dataset import Recipe, Writer
from hatrain.home.language.check import MINIMA, check_language
from hatrain.home.language.grammar import several
from hatrain.home.language.load import LANGUAGES, Language, find_language, language_folders, load_language
from hatrain.home.language.phrase_groups import PhraseGroups, may_be_shared, phrase_key
from hatrain.home.language.templates import Pile
from tests.golden import matches

GOLDEN = Path(__file__).parent / "golden"
ENGLISH = LANGUAGES / "english"


def test_a_language_is_complete(language_name: str) -> None:
    report = check_language(LANGUAGES / language_name)
    assert report.good, "\n".join(report.lines())
    assert set(MINIMA) <= set(report.counts)


def test_every_template_agrees_with_every_noun_it_may_meet(language_name: str) -> None:
    language = load_language(find_language(language_name))
    by_domain: dict[str, list] = {}
    for name in language.names:
        by_domain.setdefault(name.domain, []).append(name)
    # Of each noun one name will do: rooms are only put in.
    for domain, names in by_domain.items():
        by_domain[domain] = list({name.noun.base: name for name in names}.values())
    checked = 0
    for pile in language.piles:
        domains = {key.partition(".")[0] for key in pile.key if "." in key} or set(by_domain)
        for template in pile.templates:
            values = {
                slot: language.values.say(slot, value, "C")[0] for slot, value in examples(language, pile)
            }
            for name in (name for domain in domains for name in by_domain[domain]):
                for said in name.said:
                    filled = template.text.format_map(
                        {"device": said, "room": name.room.forms if name.room else language.rooms[0].forms,
                         "entity_id": {"base": name.entity_id}, **values}
                    )  # fmt: skip
                    text = language.grammar.rules.finish(filled)
                    assert text.strip() and not set("{}[]") & set(text), (template.phrase.place, text)
                    assert "  " not in text and "  " not in filled, (template.phrase.place, text)
                    checked += 1
    assert checked > 20_000


def examples(language: Language, pile: Pile) -> list[tuple[str, Any]]:
    """Return a value for each placeholder that a pile's keys allow."""
    slots = {slot for key in pile.key if key in ACTIONS for slot in ACTIONS[key].slots}
    slots |= {slot for key in pile.key for slot in STATUS_SLOTS.get(key, ())} | {"count"}
    said = {
        "color": "red", "hvac_mode": "heat", "fan_mode": "low", "duration": "01:01:30", "remaining": "00:02:00",
        "title": language.values.titles[0], "temperature": 21.5, "item": language.values.choices("item", "C")[0],
    }  # fmt: skip
    return [(slot, said.get(slot, 5)) for slot in slots]


def test_words_agree_with_several_devices_together(language_name: str) -> None:
    language = load_language(find_language(language_name))
    grammar = language.grammar
    for one in grammar.classes:
        for other in grammar.classes:
            assert grammar.rules.list_class([one, other]) in grammar.classes
    first, second = language.names[0], language.names[-1]
    both = several(grammar, [first.said[0], second.said[0]])
    for form in grammar.styles[0].said[0]:
        assert first.said[0][form] in both[form] and second.said[0][form] in both[form]


def test_numbers_are_said_with_the_right_plural_and_mark(language_name: str) -> None:
    language = load_language(find_language(language_name))
    half = language.values.say("temperature", 21.5, "C")[0]["base"]
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
        for said in language.values.say("duration", value, "C"):
            assert all(text and not set("{}") & set(text) for text in said.values())


def test_no_phrase_of_one_language_stands_in_another() -> None:
    seen: dict[str, str] = {}
    for folder in language_folders().values():
        language = load_language(folder)
        for pile in language.piles:
            for template in pile.templates:
                key = phrase_key(pile, template)
                # Short ones may be alike by chance: "ok", "{device}: {volume}".
                if not may_be_shared(key) and sum(map(str.isalpha, re.sub(r"\{[^}]*\}", "", key))) > 22:
                    assert seen.setdefault(key, language.code) == language.code, template.phrase


def test_kin_phrases_are_those_that_could_be_said_in_the_same_words() -> None:
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
    """Return a page that a native reader can judge: some conversations of each kind, and one whole prompt."""
    writer = Writer(Recipe((language,), seed=1), "train")
    rows = [json.loads(line) for line in writer.stretch(0)[0].splitlines()]
    parts = [rows[0]["conversations"][0]["value"], ""]
    for kind in sorted({row["kind"] for row in rows}):
        parts.append(f"--- {kind}")
        for row in [row for row in rows if row["kind"] == kind][:6]:
            for turn in row["conversations"][1:]:
                mark = ">" if turn["from"] == "human" else "<"
                parts += [f"{mark} {line}" for line in turn["value"].splitlines() if "```" not in line]
            parts.append("")
    return "\n".join(parts)


def test_a_page_of_samples_reads_as_it_was_reviewed(language_name: str) -> None:
    matches(GOLDEN / f"{language_name}.txt", page(language_name))


@pytest.fixture
def broken(tmp_path: Path) -> Callable[..., list[str]]:
    """Change a copy of the English folder, and return what is said about it."""

    def change(file: str, old: str, new: str) -> list[str]:
        folder = tmp_path / "english"
        shutil.copytree(ENGLISH, folder, ignore=shutil.ignore_patterns("__pycache__"))
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new, 1))
        return check_language(folder).lines()

    return change


BROKEN = {
    "a placeholder that is none": (
        "requests.txt",
        "& turn on {device:the}\n",
        "& turn on {devise:the}\n",
        "requests.txt:5: turn on {devise:the}: {devise} cannot be filled here (accepted: device, room)",
    ),
    "a form that is none": (
        "requests.txt",
        "& turn on {device:the}\n",
        "& turn on {device:teh}\n",
        "{device:teh}: no such form",
    ),
    "a value that a request must name": (
        "requests.txt",
        "& dim {device:the} to {brightness}",
        "& dim {device:the}",
        "{brightness} is missing",
    ),
    "a header that is none": (
        "status.txt",
        "[lock.state]",
        "[lock.sate]",
        "[lock.sate]: not a header of this file; did you mean lock.state?",
    ),
    "a noun that is none": (
        "fixed.txt",
        "[switch.turn_on: kettle]",
        "[switch.turn_on: ketle]",
        "ketle: no such noun or kind; did you mean kettle?",
    ),
    "a brace left open": (
        "refusals.txt",
        "There is no {device} here.",
        "There is no {device here.",
        "a brace that is no placeholder",
    ),
    "a phrase said twice": (
        "status.txt",
        "what color {device:is} {device:the}?",
        "which color {device:is} {device:the} set to",
        "stands at status.txt:",
    ),
    "an unknown class": (
        "nouns.yaml",
        "lamp: {class: sg",
        "lamp: {class: f",
        "lamp: class: found f, accepted: sg, pl",
    ),
    "a room that is none": (
        "nouns.yaml",
        "rooms: [kitchen, lounge, passage]",
        "rooms: [kichen]",
        "rooms: kichen: no such room or tag; did you mean kitchen?",
    ),
    "a room's form that is missing": (
        "rooms.yaml",
        "{in: in the kitchen, tags:",
        "{tags:",
        "rooms.yaml:2: kitchen: form in is missing",
    ),
    "a class that a word lacks": (
        "grammar.yaml",
        "is: {sg: is, pl: are}",
        "is: {sg: is}",
        "agreement: is: class pl is missing",
    ),
    "a key of the file that is missing": (
        "grammar.yaml",
        'decimal: "."',
        "",
        "grammar.yaml: decimal: missing",
    ),
    "a key of the file that is unknown": (
        "grammar.yaml",
        "decimal:",
        "decimals:",
        "grammar.yaml:8: decimals: not a key of this file; did you mean decimal?",
    ),
    "a colour that is not said": (
        "values.yaml",
        "  teal: teal\n",
        "",
        "values.yaml: color: teal: missing, how is it said?",
    ),
    "a unit that is none": (
        "values.yaml",
        '"{n} {percent}"]',
        '"{n} {procent}"]',
        "{procent}: not one of the units; did you mean percent?",
    ),
    "a key given twice": ("rooms.yaml", "living room:", "kitchen:", "rooms.yaml:3: kitchen: given twice"),
    "a section that is missing": (
        "answers/neutral.txt",
        "[vacuum.locate]",
        "[vacuum.start]",
        "answers/neutral.txt: [vacuum.locate]: needs at least 2 phrases, has 0",
    ),
    "a function that is missing": (
        "grammar.py",
        "def finish(",
        "def end(",
        "grammar.py: finish: no such function",
    ),
    "a filler without its request": (
        "grammar.yaml",
        '"{request} for me"',
        '"do it for me"',
        "needs {request}, once each",
    ),
}


@pytest.mark.parametrize("mistake", BROKEN)
def test_a_mistake_in_a_folder_is_named(broken: Callable[..., list[str]], mistake: str) -> None:
    file, old, new, said = BROKEN[mistake]
    lines = broken(file, old, new)
    assert any(said in line for line in lines), lines[:5]
    assert lines[-1] != "english: complete"


def test_a_missing_file_and_too_small_a_pile_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "english"
    shutil.copytree(ENGLISH, folder)
    (folder / "status.txt").unlink()
    assert check_language(folder).lines()[0] == "status.txt: missing"
    text = (ENGLISH / "status.txt").read_text().splitlines()
    (folder / "status.txt").write_text("\n".join(line for line in text if not line.startswith("tell me")))
    report = check_language(folder)
    assert report.problems == () and set(report.short) == {"status questions"}
    assert any(line.startswith("status questions: ") and "too few" in line for line in report.lines())


def test_a_folder_anywhere_that_is_whole_is_complete(tmp_path: Path) -> None:
    shutil.copytree(ENGLISH, tmp_path / "elsewhere")
    assert check_language(tmp_path / "elsewhere").lines()[-1] == "elsewhere: complete"
