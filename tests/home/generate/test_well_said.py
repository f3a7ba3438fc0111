"""What people and assistants would not say: needless toggles, confessions of no mistake, statements for questions,
doors where there is none."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from hatrain.home.generate.dataset import Recipe
from hatrain.home.generate.wording import Wording
from hatrain.home.language.load import find_language, load_language
from tests.home.generate.test_rows import calls_in, turns

Rows = Callable[..., list[dict[str, Any]]]


def corrections(language: str) -> set[str]:
    """The constant beginnings of what an assistant says that had named a device which does not exist."""
    sections = load_language(find_language(language)).sections
    texts = (template.text for section in sections if section.scope == "correction" for template in section.templates)
    return {text.partition("{")[0].strip() for text in texts} - {""}


def test_a_toggle_is_seldom_requested(make_rows: Rows, language_name: str) -> None:
    rows = make_rows(Recipe((language_name,)), "train", 2048)
    single = [calls for row in rows for answer in turns(row, "gpt") if len(calls := calls_in(answer)) == 1]
    toggles = Counter(calls[0]["service"].endswith(".toggle") for calls in single)
    assert 0 < toggles[True] < 0.05 * len(single)


def test_no_mistake_is_confessed_that_was_not_made(make_rows: Rows, language_name: str) -> None:
    # In a fence the call was right; the user says that nothing happened.
    rows = make_rows(Recipe((language_name,)), "train", 2048)
    said = [turns(row, "gpt")[1] for row in rows if row["kind"] == "failure"]
    assert len(said) > 20
    assert not [text for text in said if text.startswith(tuple(corrections(language_name)))]


def test_a_wrong_name_is_confessed(make_rows: Rows, language_name: str) -> None:
    rows = make_rows(Recipe((language_name,), format="messages"), "train", 2048)
    failures = [row["messages"] for row in rows if row["kind"] == "failure"]
    after = [
        "".join(part["text"] for part in messages[number + 1]["content"])
        for messages in failures
        for number, message in enumerate(messages)
        if message["role"] == "tool" and messages[number + 1].get("tool_calls")
    ]
    assert len(after) > 20
    assert len([text for text in after if text.startswith(tuple(corrections(language_name)))]) > len(after) / 3


@pytest.mark.parametrize(("language", "question"), [("spanish", "¿Está la luz?"), ("french", "C'est prêt\u00a0?")])
def test_a_question_that_would_read_as_a_statement_keeps_its_mark(language: str, question: str) -> None:
    wording = Wording(load_language(find_language(language)))
    asked = {wording.request(lambda look=look: look / 100, question) for look in range(100)}
    assert asked == {question, question.lower().lstrip("¿")}


def test_in_english_it_may_be_left_out() -> None:
    wording = Wording(load_language(find_language("english")))
    assert wording.request(lambda: 0.3, "Is the light on?") == "is the light on"


def test_all_the_doors_are_doors(make_rows: Rows) -> None:
    rows = [row for kind in ("train", "test") for row in make_rows(Recipe(("english",)), kind, 2500)]
    targets = {
        call["target_device"]
        for row in rows
        for asked, answer in zip(turns(row, "human"), turns(row, "gpt"), strict=True)
        if "the doors" in asked.casefold() or "every door" in asked.casefold()
        for call in calls_in(answer)
        if call["service"] in ("lock.lock", "lock.unlock")
    }
    assert targets
    assert all("door" in target or "deadbolt" in target for target in targets), targets
