"""What the generator holds for right, the judge does too: two rooms that were built apart agree on every row."""

import itertools
import json
from pathlib import Path

import pytest

from hatrain.data.replies import ReplyFinder
from hatrain.data.rows import read_rows
from hatrain.evaluate.requests import read_requests
from hatrain.home.calls.answer import read_answer
from hatrain.home.generate.dataset import Recipe, rows_of
from hatrain.home.judge.judge import judge
from tests.families import build_tokenizer

_ROWS = 200

RECIPES = {
    "sharegpt": (Recipe(), "chatml"),
    "no system role": (Recipe(system_role="none"), "llama2"),
    "raw": (Recipe(format="raw"), "chatml"),
    "services as tools": (Recipe(format="messages"), "qwen2"),
    "intents as tools": (Recipe(format="messages", tools="hass"), "qwen2"),
}


@pytest.mark.parametrize("form", RECIPES)
def test_every_expected_answer_is_right_known_and_could_be_executed(form, tmp_path: Path):
    recipe, family = RECIPES[form]
    path = tmp_path / "rows.jsonl"
    rows = itertools.islice(rows_of(recipe, "train"), _ROWS)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    requests = read_requests(read_rows(path), ReplyFinder(build_tokenizer(family)))
    assert len(requests) >= _ROWS
    for request in requests:
        judged = judge(request.case, read_answer(request.reply, forms=request.forms))
        assert judged.strict, (request.where, judged.problems)
        assert judged.points == judged.possible_points
        assert judged.known_targets == judged.targeted_calls
        assert judged.known_services == judged.called_services
        assert request.known.entities and request.known.services
        assert judged.same_calls and judged.executed_calls == judged.calls, (request.where, request.reply)
        assert request.language == "en"
        assert request.kind != "unnamed" and "unnamed" not in request.device_types
