"""A short form of `make chaos`: a real run, killed twice at random points, ends with the bits of one that was not."""

import random

import pytest

from bench.chaos.__main__ import chaos, table
from bench.chaos.jobs import KINDS, adopt, make_inputs, plan_of
from bench.chaos.runner import Tally, Wrong, check_same, disturb, undisturbed


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chaos") / "inputs"
    make_inputs(folder)
    return folder


def test_a_run_that_is_killed_twice_ends_with_the_same_bits_and_one_other_bit_is_seen(inputs, tmp_path):
    kind, runs = KINDS["LoRA"], tmp_path / "runs"
    whole = undisturbed(kind, inputs, runs)
    tally, draw = Tally(), random.Random(3)
    while tally.strikes < 2:
        disturb(kind, whole, inputs, draw, 2, tally, print)
    assert (tally.strikes, tally.bytes_lost) == (2, 0)
    assert tally.finished >= 1
    assert tally.resumes >= 1
    assert "| LoRA | 2 |" in table({"LoRA": tally})
    # A harness that cannot fail proves nothing.
    last = adopt(plan_of(kind, inputs, runs, f"lora-{tally.finished}"))
    check_same(last, whole)
    file = next(last.adapter.glob("*.safetensors"))
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(Wrong, match="differs from that of whole-lora"):
        check_same(last, whole)


@pytest.mark.long
def test_every_kind_of_run_survives_kills_damage_a_full_disk_a_stopped_rank_and_nan(tmp_path):
    tallies, total = dict[str, Tally](), Tally()
    chaos(tmp_path, kills=8, seed=1, tallies=tallies)

    for tally in tallies.values():
        total += tally
    assert (total.strikes, total.bytes_lost) == (8, 0)
