"""bench/gpu.sh: its arithmetic, its time limits, its page, and what it refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.gpu import figures, inputs, report
from bench.gpu.__main__ import PARTS
from bench.gpu.inputs import Inputs
from bench.gpu.memory import configurations
from bench.gpu.part import Part as Running
from bench.gpu.processes import compared
from bench.gpu.runner import Budget, Part, last_line, run_part
from bench.gpu.speed import LORA, pair_columns, sft_method, sft_settings

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "bench" / "gpu.sh"


# --- arithmetic ---------------------------------------------------------------------------------------------


def test_mfu_is_six_operations_per_weight_and_token_of_the_peak() -> None:
    # 1.1e9 weights × 6 × 74,924 tokens in a second are half of 989 TFLOP/s.
    assert figures.mfu(1_100_000_000, 149_848, 2.0) == pytest.approx(0.5, rel=1e-4)


def test_mfu_of_lora_counts_four_operations() -> None:
    full = figures.mfu(10**9, 1000, 1.0)
    assert figures.mfu(10**9, 1000, 1.0, factor=figures.LORA) == pytest.approx(full * 4 / 6)


def test_kernels_that_overlap_count_once() -> None:
    assert figures.busy([(0, 4), (1, 2), (3, 6), (8, 9)]) == 7
    assert figures.busy([(8, 9), (0, 4)]) == 5
    assert figures.busy([]) == 0


def test_the_most_expensive_kernels_come_first_with_calls_and_share() -> None:
    events = [("copy", 0.0, 1.0), ("gemm", 1.0, 4.0), ("gemm", 4.0, 9.0), ("norm", 9.0, 10.0)]
    assert figures.most_expensive(events, 1) == [("gemm", 2, 8.0, 0.8)]
    assert figures.most_expensive([], 3) == []


def test_the_distance_of_weights_is_relative_to_their_norm() -> None:
    expected = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([4.0])}
    assert figures.distance(expected, expected) == 0
    assert figures.distance({"a": torch.tensor([3.0, 1.0]), "b": torch.tensor([4.0])}, expected) == pytest.approx(0.2)


def test_weights_of_different_names_are_not_compared() -> None:
    with pytest.raises(ValueError, match="different tensors: \\['b'\\]"):
        figures.distance({"a": torch.ones(1)}, {"a": torch.ones(1), "b": torch.ones(1)})


def test_weights_are_equal_only_to_the_last_bit() -> None:
    ones = {"a": torch.ones(3)}
    assert compared(ones, ones)["verdict"] == "equal"
    assert compared({"a": torch.nextafter(torch.ones(3), torch.full((3,), 2.0))}, ones)["verdict"] == "different"


def test_a_pair_keeps_its_tokens_in_the_columns_of_trl() -> None:
    # The last token is the line break that a template writes after an answer's end.
    chosen = SimpleNamespace(input_ids=[1, 2, 3, 4, 9], replies=[(2, 4)])
    rejected = SimpleNamespace(input_ids=[1, 2, 5, 9], replies=[(2, 3)])
    expected = {"prompt_ids": [1, 2], "chosen_ids": [3, 4], "rejected_ids": [5]}
    assert pair_columns(chosen, rejected) == expected


def test_memory_is_measured_in_twelve_configurations() -> None:
    assert len(set(configurations())) == 12


@pytest.mark.parametrize(
    ("method", "model"),
    [({}, {}), ({"lora": LORA}, {}), ({"lora": LORA}, {"quantization": "4bit"}), ({"kind": "dpo"}, {})],
)
def test_the_planner_accepts_what_the_long_form_trains(
    method: dict[str, Any], model: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "planned_gpu", lambda: "h100-80gb")
    monkeypatch.setattr(Inputs, "_rows", lambda self, part, count: str(tmp_path / "rows.jsonl"))
    these = Inputs(tmp_path, short=False)
    plan = these.plan("x", "base", {**sft_method(these), **method}, device="cuda", model=model)
    assert (plan.device, plan.world_size, plan.gradient_checkpointing) == ("cuda", 1, False)


def test_trl_trains_about_as_many_tokens_a_step_as_hatrain(tmp_path: Path) -> None:
    these = Inputs(tmp_path, short=False)
    for setting in sft_settings(these, tokens_per_row=600.0, ctx_size=2048, rows_per_step=32):
        tokens = setting.micro_batch * setting.accumulation * (2048 if setting.packing else 600)
        assert tokens == pytest.approx(32 * 600, rel=0.2)


# --- time ---------------------------------------------------------------------------------------------------


class FakeClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def parts_of(*shares: float) -> list[Part]:
    return [Part(number, f"part-{number}", "", "", share) for number, share in enumerate(shares, start=1)]


def test_time_is_divided_by_shares() -> None:
    first, *_ = parts = parts_of(1, 2, 1)
    assert Budget(400, parts, FakeClock()).limit(first) == 100


def test_time_that_a_part_leaves_over_goes_to_the_later_ones() -> None:
    clock = FakeClock()
    first, second, third = parts = parts_of(1, 2, 1)
    budget = Budget(400, parts, clock)
    assert budget.limit(first) == 100
    clock.now += 40
    assert budget.limit(second) == 240
    clock.now += 240
    assert budget.limit(third) == 120


def test_no_time_is_left_after_the_end() -> None:
    clock = FakeClock()
    (only,) = parts = parts_of(1)
    budget = Budget(10, parts, clock)
    clock.now += 11
    assert budget.limit(only) == 0


def test_the_parts_are_in_order_of_worth() -> None:
    assert [part.number for part in PARTS] == [1, 2, 3, 4, 5, 6, 7]
    assert sum(part.share for part in PARTS) <= 9 * 60


# --- parts in processes of their own ------------------------------------------------------------------------


def run(tmp_path: Path, code: str, limit: float = 600) -> tuple[tuple[str, str], list[dict[str, Any]]]:
    items: list[dict[str, Any]] = []
    lines = tmp_path / "lines.jsonl"
    command = [sys.executable, "-c", code, str(lines)]
    outcome = run_part(command, lines, limit, tmp_path / "log", os.environ, items.append)
    return outcome, items


WRITE = "import sys; open(sys.argv[1], 'a').write('{\"item\": \"first\"}\\n');"


def test_a_part_that_crashes_keeps_its_items_and_says_why(tmp_path: Path) -> None:
    outcome, items = run(tmp_path, f"{WRITE} raise ValueError('no kernel')")
    assert outcome == ("failed", "exit code 1: ValueError: no kernel")
    assert items == [{"item": "first"}]


def test_a_part_that_dies_of_a_signal_is_reported(tmp_path: Path) -> None:
    outcome, _ = run(tmp_path, "import os; os.kill(os.getpid(), 9)")
    assert outcome == ("failed", "exit code -9: no output")


def test_a_part_that_hangs_is_ended_with_what_it_started(tmp_path: Path) -> None:
    child = "import time, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(3600)"
    code = (
        f"{WRITE} import subprocess, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True);"
        "print(child.pid, flush=True); child.wait()"
    )
    outcome, items = run(tmp_path, code, limit=3)
    assert outcome == ("out of time", "stopped after 3 s")
    assert items == [{"item": "first"}]
    pid = last_line(tmp_path / "log")
    state = Path(f"/proc/{pid}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_an_item_is_reported_while_its_part_runs(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    code = f"{WRITE} import pathlib, time\nwhile not pathlib.Path({str(seen)!r}).exists(): time.sleep(0.01)"
    lines = tmp_path / "lines.jsonl"
    command = [sys.executable, "-c", code, str(lines)]
    outcome = run_part(command, lines, 600, tmp_path / "log", os.environ, lambda item: seen.touch())
    assert outcome == ("done", "")


def test_an_item_that_fails_does_not_stop_the_next(tmp_path: Path) -> None:
    part = Running("x", tmp_path, tmp_path / "lines", 600, short=True)

    def fail() -> None:
        raise RuntimeError("out of memory\nand more")

    part.each({"first": fail, "second": lambda: part.record("second", steps=2)}, 1)
    assert lines_of(part) == [
        {"item": "first", "failed": "RuntimeError: out of memory"},
        {"item": "second", "steps": 2},
    ]


def test_an_item_without_time_is_skipped_and_said(tmp_path: Path) -> None:
    part = Running("x", tmp_path, tmp_path / "lines", 0, short=True)
    part.each({"first": lambda: part.record("never")}, 5)
    assert lines_of(part) == [{"item": "first", "note": "skipped: 0 s left, it needs 5"}]


def lines_of(part: Running) -> list[dict[str, Any]]:
    return [json.loads(line) for line in part.lines.read_text().splitlines()]


# --- the page -----------------------------------------------------------------------------------------------

RESULTS: dict[str, Any] = {
    "gpu": "NVIDIA H100",
    "date": "2026-11-27T12:00:00+00:00",
    "command": "bench/gpu.sh --minutes 9",
    "commit": "abc",
    "versions": {"torch": "2.11.0"},
    "seconds": 530.0,
    "short": False,
    "parts": [
        {
            "number": 2,
            "name": "full",
            "state": "done",
            "note": "",
            "items": [
                {"item": "hatrain", "mfu": 0.4567, "peak_memory": 3 * 2**30, "rows_per_second": 1234.5},
                {"item": "a|b", "failed": "OutOfMemoryError: no"},
            ],
        },
        {"number": 5, "name": "strategies", "state": "failed", "note": "exit code 1: boom", "items": []},
    ],
}


def test_the_page_holds_what_was_measured_and_says_what_was_not() -> None:
    page = report.page(PARTS, RESULTS)
    assert "- GPU: NVIDIA H100\n" in page
    assert "- command: `bench/gpu.sh --minutes 9`\n" in page
    assert "| hatrain | 1,234.5 | 45.7% | 3.00 |  |" in page
    assert "| a\\|b |  |  |  | FAILED: OutOfMemoryError: no |" in page
    assert "## 5. FSDP2, ddp and ZeRO on one rank\n\nfailed: exit code 1: boom" in page
    assert page.count(report.NOT_MEASURED) == 5


def test_the_page_in_the_repository_says_not_measured_until_it_was() -> None:
    page = (REPOSITORY / "bench" / "RESULTS-gpu.md").read_text(encoding="utf-8")
    assert page == report.page(PARTS, None) or "- GPU: NVIDIA" in page


# --- the command --------------------------------------------------------------------------------------------


def gpu_sh(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PYTHON": sys.executable, **environment}
    return subprocess.run([SCRIPT, *arguments], env=variables, capture_output=True, text=True, timeout=600)


def test_without_a_gpu_the_long_form_refuses_in_one_line(tmp_path: Path) -> None:
    (wheels := tmp_path / "wheels").mkdir()
    (out := tmp_path / "out").mkdir()
    result = gpu_sh("--out", str(out), "--wheels", str(wheels), CUDA_VISIBLE_DEVICES="")
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        "bench/gpu.sh: torch sees no CUDA GPU here; --short runs tiny shapes on the CPU"
    ]
    assert not list(out.iterdir())


def test_a_folder_of_wheels_that_is_not_there_is_refused(tmp_path: Path) -> None:
    result = gpu_sh("--wheels", str(tmp_path / "none"))
    assert (result.returncode, result.stderr) == (2, f"bench/gpu.sh: --wheels: {tmp_path}/none: no such folder\n")


def test_a_wheel_that_cannot_be_installed_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "other-1-cp27-cp27m-win32.whl").touch()
    result = gpu_sh("--wheels", str(tmp_path))
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"bench/gpu.sh: {tmp_path}: cannot be installed for Python 3.")
    assert "other-1-cp27-cp27m-win32.whl is not a supported wheel" in line


def test_more_than_60_mb_of_wheels_are_refused(tmp_path: Path) -> None:
    with (tmp_path / "big-1-py3-none-any.whl").open("wb") as stream:
        stream.truncate(61_000_000)
    result = gpu_sh("--wheels", str(tmp_path))
    assert result.returncode == 2
    assert result.stderr == (
        f"bench/gpu.sh: {tmp_path} holds 61 MB, accepted: at most 60; leave bitsandbytes out first\n"
    )
