"""Preference pairs: the chosen answer is right, the rejected one is wrong in one of six ways."""

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


def way(row: dict[str, Any]) -> str:
    """Return in which way a rejected answer is wrong."""
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


def test_rejected_answers_are_wrong_in_each_of_six_ways(make_rows: Rows) -> None:
    rows = make_rows(Recipe(), "dpo", 3000)
    ways = Counter()
    for row in rows:
        assert list(row) == ["system", "question", "chosen", "rejected"]
        entity_ids = re.findall(r"^(\w+\.\w+) '", row["system"], re.MULTILINE)
        assert not [
            problem for call in calls_in(row["chosen"]) for problem in call_problems(call, entity_ids)
        ]
        assert row["chosen"] != row["rejected"]
        ways[way(row)] += 1
    assert len(rows) == 3000
    assert len(ways) == 6 and min(ways.values()) > 100, ways


def test_a_rejected_answer_says_the_same_words(make_rows: Rows) -> None:
    for row in make_rows(Recipe(), "dpo", 512):
        assert FENCE.sub("", row["chosen"]) == FENCE.sub("", row["rejected"])
