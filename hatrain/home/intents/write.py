"""Writes the test set of a clone of home-assistant/intents, and its card."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hatrain.errors import BadInput
from hatrain.home.clients import CLIENTS
from hatrain.home.intents import ATTRIBUTION
from hatrain.home.intents.clone import read_sentences
from hatrain.home.intents.rows import MOST_OF_A_BLOCK, MOST_OF_A_LANGUAGE, Picked, pick_rows
from hatrain.home.language.load import find_language, load_language
from hatrain.runtime import seal
from hatrain.text import count

ROWS, CARD = "home_assistant_intents.jsonl", "home_assistant_intents.md"


@dataclass(frozen=True)
class Written:
    """The files of a test set, and what was left out, a line for each language and reason."""

    rows: Path
    card: Path
    notes: tuple[str, ...]


def write_test_set(folder: Path, languages: Sequence[str], client: str, out: Path, seed: int) -> Written:
    """Write the rows of some languages for a client, and the card with the attribution.

    Raises BadInput for a folder that is no clone, and for a language that it has no tests of.
    """
    picked: dict[str, Picked] = {}
    for name in languages:
        language = load_language(find_language(name))
        tests = read_sentences(folder, language.code)
        picked[language.code] = pick_rows(tests, CLIENTS[client], language, seed)
    rows = [row for each in picked.values() for row in each.rows]
    if not rows:
        raise BadInput(f"--intents: {folder}: no sentence that {client} can be tested with")
    out.mkdir(parents=True, exist_ok=True)
    seal.write_text(out / ROWS, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    seal.write_text(out / CARD, _card(picked, client))
    return Written(out / ROWS, out / CARD, tuple(_notes(picked)))


def _notes(picked: Mapping[str, Picked]) -> Iterator[str]:
    for language, each in picked.items():
        yield f"{language}: {count(len(each.rows), 'sentence')}, left out: {_left_out(each)}"


def _left_out(picked: Picked) -> str:
    by_intent: Counter[str] = Counter()
    for (intent, _), sentences in picked.left_out.items():
        by_intent[intent] += sentences
    return ", ".join(f"{intent} {number}" for intent, number in by_intent.most_common()) or "nothing"


def _card(picked: Mapping[str, Picked], client: str) -> str:
    lines = [
        "---",
        "license: cc-by-4.0",
        f"language: [{', '.join(picked)}]",
        "---",
        "",
        "# Home Assistant's own test sentences, as a test set",
        "",
        ATTRIBUTION,
        "",
        f"Written for the client `{client}`. Do not train on it: `hatrain data --audit TRAIN {ROWS}` shows whether a "
        "dataset has its sentences.",
        "",
        f"At most {MOST_OF_A_BLOCK} sentences of a test block and {MOST_OF_A_LANGUAGE} of a language, intents in turn. "
        "The home is the tests' own fixtures; a device that a request would not change is put into the opposite state. "
        "What is expected follows from the slots of the test, and for a question from its response. "
        "`covered` says whether the data that hatrain generates has such requests.",
        "",
        "| language | sentences | covered | left out |",
        "|---|---|---|---|",
    ]
    for language, each in picked.items():
        covered = sum(row["covered"] for row in each.rows)
        lines.append(f"| {language} | {len(each.rows)} | {covered} | {sum(each.left_out.values())} |")
    lines += ["", "Left out, in sentences:", ""]
    for language, each in picked.items():
        reasons = sorted(each.left_out.items(), key=lambda entry: (-entry[1], entry[0]))
        lines += [f"- {language}: {intent}, {number}: {reason}" for (intent, reason), number in reasons]
    return "\n".join(lines) + "\n"
