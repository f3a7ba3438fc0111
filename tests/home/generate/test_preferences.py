"""Preference pairs: the chosen answer is correct, the rejected one has one of six errors."""

import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from hatrain.home.devices.services import call_problems
from hatrain.home.generate.dataset import Recipe

Rows = Callable[..., list[dict[str, Any]]]
FENCE = re.compile(r"\n```homeassistant\n(.*)\n```\Z", re.DOTALL)


def calls_in(answer: str) -> list[dict[str, Any]]:
    fence = FENCE.search(answer)
    return [json.loads(line) for line in fence[1].splitlines()] if fence else []


def error_of(row: dict[str, Any]) -> str:
    entity_ids = re.findall(r"^(\w+\.\w+) '", row["system"], re.MULTILINE)
    chosen, rejected = calls_in(row["chosen"]), calls_in(row["rejected"])
    if len(rejected) != len(chosen):
        return "missing call" if not rejected else "spurious call"
    ((right, wrong),) = [pair for pair in zip(chosen, rejected, strict=True) if pair[0] != pair[1]]
    if wrong["target_device"] not in entity_ids:
        return "hallucinated name"
    if wrong["target_device"] != right["target_device"]:
        return "wrong device"
    return "wrong service" if wrong["service"] != right["service"] else "wrong value"


def test_rejected_answers_have_each_of_six_errors(make_rows: Rows) -> None:
    rows = make_rows(Recipe(), "dpo", 3000)
    errors = Counter()
    for row in rows:
        assert list(row)[:4] == ["system", "question", "chosen", "rejected"]
        entity_ids = re.findall(r"^(\w+\.\w+) '", row["system"], re.MULTILINE)
        assert not [problem for call in calls_in(row["chosen"]) for problem in call_problems(call, entity_ids)]
        assert row["chosen"] != row["rejected"]
        errors[error_of(row)] += 1
    assert len(rows) == 3000
    assert len(errors) == 6 and min(errors.values()) > 100, errors


def test_a_rejected_answer_has_the_text_of_the_chosen_one(make_rows: Rows) -> None:
    for row in make_rows(Recipe(), "dpo", 512):
        assert FENCE.sub("", row["chosen"]) == FENCE.sub("", row["rejected"])
