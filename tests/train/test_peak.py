"""A lack of GPU memory is explained by the prediction, and what was measured can be collected."""

import torch

from hatrain.cli import main
from hatrain.contract.gpus import GIB
from hatrain.contract.plan import Memory
from hatrain.contract.run import RunDirectory
from hatrain.train import peak
from tests.plans import a_plan


def memory(**changes):
    values = {
        "parts": {"weights": 5 * GIB, "optimizer": 10 * GIB, "logits": GIB // 100},
        "moment": "end of the forward pass",
        "gpu": 16 * GIB,
        "host": GIB,
        "disk": GIB,
        "why": "",
        "remedies": ("--set method.micro_batch_size=1", "--set hardware.gpu=a6000-48gb"),
    }
    return Memory.model_validate(values | changes)


ERROR = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")


def test_out_of_memory_names_the_parts_and_the_smallest_change_in_one_line(tmp_path):
    plan = a_plan(tmp_path).model_copy(update={"memory": memory()})
    line = peak.out_of_memory(plan, ERROR)
    assert line.startswith("out of GPU memory: predicted were 15.0 of 16 GiB (weights 5.0, optimizer 10.0)")
    assert "; add --set method.micro_batch_size=1 (CUDA out of memory. Tried to allocate 2 GiB)" in line
    assert "\n" not in line and "a6000" not in line


def test_without_a_prediction_the_usual_remedies_are_named(tmp_path):
    line = peak.out_of_memory(a_plan(tmp_path), ERROR)
    assert "lower method.micro_batch_size or ctx_size" in line


def test_what_torch_does_not_count_is_left_out_of_the_comparison(tmp_path):
    parts = {"weights": 7, "CUDA context": 5, "NCCL": 3, "fragmentation": 2}
    plan = a_plan(tmp_path).model_copy(update={"memory": memory(parts=parts)})
    assert peak.tensors(plan) == {"weights": 7}


def test_the_report_puts_predictions_beside_peaks(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HATRAIN_RUNS", str(tmp_path / "runs"))
    assert main(["memory", "report"]) == 0
    assert "no run has recorded a peak" in capsys.readouterr().out
    for name, predicted, allocated, ended in (("a", 11, 10, "trained"), ("b", 9, 6, "out of memory")):
        plan = a_plan(tmp_path, name=name)
        run = RunDirectory(tmp_path / "runs" / name)
        run.adopt(plan, {})
        run.record(
            "memory",
            attempt=1,
            ended=ended,
            device="a GPU",
            predicted=predicted * GIB,
            allocated=allocated * GIB,
            reserved=12 * GIB,
        )
    assert main(["memory", "report"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == [
        "a",
        "1",
        "a",
        "GPU",
        "11.00",
        "GiB",
        "10.00",
        "GiB",
        "12.00",
        "GiB",
        "+10.0%",
        "trained",
    ]
    assert lines[2].endswith("+50.0%  out of memory")
    assert lines[3] == "median error 10.0% of 1"
