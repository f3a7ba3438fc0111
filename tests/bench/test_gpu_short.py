"""The whole of bench/gpu.sh on the CPU, with tiny shapes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "bench" / "gpu.sh"


@pytest.mark.long
def test_the_short_form_measures_every_part_on_the_cpu(tmp_path: Path) -> None:
    (wheels := tmp_path / "wheels").mkdir()  # none: this environment has all packages
    result = subprocess.run(
        [SCRIPT, "--short", "--minutes", "60", "--wheels", str(wheels), "--out", str(tmp_path)],
        env={**os.environ, "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    measured = json.loads((tmp_path / "results-gpu-short.json").read_text())
    parts = {part["name"]: part for part in measured["parts"]}
    assert {name: part["state"] for name, part in parts.items()} == dict.fromkeys(
        ("parity", "full", "more", "stops", "strategies", "memory", "profile"), "done"
    )
    items = {name: {item["item"]: item for item in part["items"]} for name, part in parts.items()}
    assert items["parity"]["cpu fp32 eager"]["verdict"] == "equal"
    for name in ("hatrain, turn 2", "TRL tried, packed (bfd), sdpa"):
        assert items["full"][f"SFT tiny, all weights: {name}"]["rows_per_second"] > 0
    for title in ("SFT tiny, LoRA", "DPO tiny, all weights"):
        assert items["more"][f"{title}: hatrain, turn 2"]["tokens_per_second"] > 0
        assert any(name.startswith(f"{title}: TRL, turn 2") for name in items["more"])
    stopped = items["stops"]["stopped, resumed, killed and resumed, against undisturbed"]
    assert stopped["verdict"] == "equal"  # the CPU's kernels are deterministic
    assert "resumes, ends with model/" in items["strategies"]["ddp"]["note"]
    assert "needs CUDA" in items["strategies"]["fsdp"]["note"]
    assert len(items["memory"]) == 12
    assert sum("calls" in item for item in items["profile"].values()) == 10
    page = (tmp_path / "RESULTS-gpu-short.md").read_text(encoding="utf-8")
    assert "not measured" not in page.partition("## 1.")[2]
