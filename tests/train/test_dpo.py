"""Preference training, for real, on a model of a few thousand weights."""

import json
import random
from typing import Any

import pytest

from hatrain.run import Exit
from tests.train.conftest import ROOMS, metrics, weights, write_rows


def house_pairs(count: int, seed: int) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    pairs = []
    for _ in range(count):
        room, other = draw.sample(ROOMS, 2)
        device, state = draw.choice(["light", "fan"]), draw.choice(["on", "off"])
        pairs.append(
            {
                "system": "Rooms: " + " ".join(draw.sample(ROOMS, draw.randint(1, 5))),
                "question": f"turn {state} the {device} in the {room}",
                "chosen": f"{room} {device} {state}",
                "rejected": f"{other} {device}",
            }
        )
    return pairs


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    write_rows(folder / "train.jsonl", house_pairs(40, 1))
    write_rows(folder / "test.jsonl", house_pairs(12, 2))
    return folder


@pytest.fixture
def dpo_plan(workplace, pairs):
    def plan(name="run", **changes):
        return workplace.plan(
            name,
            **{
                "data__train": str(pairs / "train.jsonl"),
                "data__test": str(pairs / "test.jsonl"),
                "method__kind": "dpo",
                **changes,
            },
        )

    return plan


def test_smoke(workplace, dpo_plan):
    tried = workplace.attempt(dpo_plan())
    print(tried)
    print(json.dumps(metrics(tried.run), indent=1))
    assert 0
