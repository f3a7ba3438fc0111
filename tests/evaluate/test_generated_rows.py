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
from hatrain.home.language.load import find_language, load_language
from tests.families import build_tokenizer

_ROWS = 100

RECIPES = {
    "sharegpt": (Recipe(), "chatml"),
    "no system role": (Recipe(system_role="none"), "llama2"),
    "raw": (Recipe(format="raw"), "chatml"),
    "services as tools": (Recipe(format="messages"), "qwen2"),
    "intents as tools": (Recipe(format="messages", tools="hass"), "qwen2"),
    "assist": (Recipe(client="assist", languages=("german",)), "qwen2"),
    "assist, in another template": (Recipe(client="assist", single_calls=True), "llama3"),
    "home-llm": (Recipe(client="home-llm", languages=("french",)), "qwen2"),
    "home-llm-legacy": (Recipe(client="home-llm-legacy", languages=("polish",)), "chatml"),
    "spanish": (Recipe(languages=("spanish",)), "chatml"),
}


def test_training_rows_that_carry_no_devices_can_be_judged_too(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    rows = itertools.islice(rows_of(Recipe(client="assist"), "train"), 50)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for request in read_requests(read_rows(path), ReplyFinder(build_tokenizer("qwen2"))):
        assert judge(request.case, read_answer(request.reply, forms=request.forms)).strict
        if request.expected.calls:
            assert not judge(request.case, read_answer("Hm.", forms=request.forms)).strict


@pytest.mark.parametrize("form", RECIPES)
def test_every_expected_answer_is_right_known_and_could_be_executed(form, tmp_path: Path):
    recipe, family = RECIPES[form]
    path = tmp_path / "rows.jsonl"
    rows = itertools.islice(rows_of(recipe, "test" if recipe.client != "guide" else "train"), _ROWS)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    requests = read_requests(read_rows(path), ReplyFinder(build_tokenizer(family)))
    assert len(requests) >= _ROWS
    for request in requests:
        judged = judge(request.case, read_answer(request.reply, forms=request.forms))
        assert judged.strict, (request.where, judged.problems)
        assert judged.points == judged.possible_points
        assert judged.known_targets == judged.targeted_calls
        assert judged.known_services == judged.called_services
        assert request.known.entities
        assert request.known.services or recipe.client == "home-llm-legacy"
        assert judged.same_calls and judged.executed_calls == judged.calls, (request.where, request.reply)
        assert load_language(find_language(request.language)).name == recipe.languages[0]
        assert request.kind != "unnamed" and "unnamed" not in request.device_types
