"""What bench/gpu.sh measured becomes the table that plans read."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.gpu import efficiency
from hatrain.contract.gpus import GIB


@pytest.mark.parametrize(
    ("device", "gib", "name"),
    [
        ("NVIDIA H200", 139.8, "h200-141gb"),
        ("NVIDIA H100 80GB HBM3", 79.2, "h100-80gb"),
        ("NVIDIA H100 80GB HBM3", None, "h100-80gb"),
        ("NVIDIA A100-SXM4-40GB", None, "a100-40gb"),
        ("NVIDIA A100-SXM4-80GB", 79.3, "a100-80gb"),
        ("NVIDIA A10", 22.5, "a10-24gb"),
        ("NVIDIA L40S", 44.5, "l40s-48gb"),
        ("NVIDIA L4", 22.2, "l4-24gb"),
        ("NVIDIA GeForce RTX 4060 Ti", 15.9, "rtx4060ti-16gb"),
        ("NVIDIA RTX 6000 Ada Generation", 47.5, "rtx6000ada-48gb"),
        ("NVIDIA RTX A6000", 47.5, "a6000-48gb"),
        ("Tesla V100-SXM2-16GB", None, "v100-16gb"),
        ("Something else", 80, None),
    ],
)
def test_a_gpu_is_known_by_what_its_driver_calls_it(device, gib, name):
    assert efficiency.gpu_name(device, gib and round(gib * GIB)) == name


def results(**changes):
    turn = {"weights": 10**9, "compiled": False, "training": "all weights"}
    items = [
        {**turn, "item": "SFT: hatrain, turn 1", "tokens_per_second": 49_450},
        {"item": "SFT: TRL, turn 1", "tokens_per_second": 1, "weights": 10**9},
        {**turn, "item": "SFT: hatrain, turn 2", "tokens_per_second": 52_748},
        {**turn, "item": "compiled", "tokens_per_second": 70_000, "compiled": True},
        {**turn, "item": "LoRA", "tokens_per_second": 74_175, "training": "lora"},
        {"item": "SFT by prefix: hatrain, turn 1", "tokens_per_second": 400_000, "weights": 10**9, "compiled": False},
        {"item": "DPO", "note": "skipped: 3 s left"},
    ]
    part = {"number": 2, "items": items}
    return {"gpu": "NVIDIA H200", "gpu_memory": 140 * GIB, "short": False, "parts": [part], **changes}


def test_the_median_of_hatrains_turns_is_the_share():
    found = {(entry["training"], entry["compiled"]): entry["share"] for entry in efficiency.shares(results())}
    assert found == {("all weights", False): 0.31, ("all weights", True): 0.425, ("lora", False): 0.3}
    assert {entry["gpu"] for entry in efficiency.shares(results())} == {"h200-141gb"}


@pytest.mark.parametrize("changes", [{"short": True}, {"gpu": None}, {"gpu": "Something else"}])
def test_nothing_is_learnt_from_a_short_form_or_an_unknown_gpu(changes, tmp_path):
    table = tmp_path / "efficiency.json"
    assert efficiency.renew(results(**changes), table) == 0
    assert not table.exists()


def test_entries_of_other_gpus_and_trainings_stay(tmp_path):
    table = tmp_path / "efficiency.json"
    earlier = [
        {"gpu": "a100-80gb", "training": "lora", "compiled": False, "share": 0.4},
        {"gpu": "h200-141gb", "training": "dpo all weights", "compiled": False, "share": 0.2},
        {"gpu": "h200-141gb", "training": "lora", "compiled": False, "share": 0.1},
    ]
    table.write_text(json.dumps(earlier))
    assert efficiency.renew(results(), table) == 3
    found = {
        (entry["gpu"], entry["training"], entry["compiled"]): entry["share"] for entry in json.loads(table.read_text())
    }
    assert len(found) == 5
    assert found["h200-141gb", "lora", False] == 0.3
    assert found["h200-141gb", "dpo all weights", False] == 0.2
    assert found["a100-80gb", "lora", False] == 0.4


def test_a_file_that_is_no_result_is_one_line(tmp_path):
    (tmp_path / "results.json").write_text("{}")
    command = [sys.executable, "-m", "bench.gpu.efficiency", str(tmp_path / "results.json")]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1 and "results.json: is no result of bench/gpu.sh" in ended.stderr
