"""A lack of GPU memory is explained by the prediction, and what was measured can be collected."""

import torch
from transformers.models.llama.modeling_llama import LlamaMLP

from hatrain.cli import main
from hatrain.contract.gpus import GIB
from hatrain.contract.plan import Memory
from hatrain.contract.run import Exit, RunDirectory
from hatrain.train import build, flow, peak
from hatrain.train.sft import SftTrainer
from tests.plans import a_plan

PARTS = (5 * GIB, 10 * GIB, GIB // 100)


def memory(**changes):
    values = {
        "parts": dict(zip(("weights", "optimizer", "logits"), PARTS, strict=True)),
        "moment": "end of the forward pass",
        "gpu": 16 * GIB,
        "host": GIB,
        "checkpoint": GIB,
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


def test_a_peak_is_recorded_beside_what_torch_counts_of_the_prediction(tmp_path, monkeypatch):
    for name, value in (
        ("is_available", True),
        ("get_device_name", "a GPU"),
        ("max_memory_allocated", 6),
        ("max_memory_reserved", 9),
    ):
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    memory_of = memory(parts={"weights": 7, "CUDA context": 5})
    plan = a_plan(tmp_path, name="run").model_copy(update={"memory": memory_of, "device": "cuda"})
    run = RunDirectory(tmp_path / "run")
    run.adopt(plan, {})
    attempt = run.new_attempt()
    peak.record(plan.model_copy(update={"device": "cpu"}), run, attempt, ended="trained")
    peak.record(plan, run, attempt, ended="trained")
    (event,) = [event for event in run.events() if event["event"] == "memory"]
    found = {key: event[key] for key in ("attempt", "ended", "device", "predicted", "allocated", "reserved")}
    assert found == {
        "attempt": 1,
        "ended": "trained",
        "device": "a GPU",
        "predicted": 7,
        "allocated": 6,
        "reserved": 9,
    }


def test_every_attempt_records_its_peak_and_how_it_ended(workplace):
    recorded: list[str] = []
    workplace.monkeypatch.setattr(peak, "record", lambda plan, run, attempt, *, ended: recorded.append(ended))
    assert workplace.attempt(workplace.plan("whole")).code is Exit.FINISHED

    def full(self, model, batch):
        raise ERROR

    workplace.monkeypatch.setattr(SftTrainer, "micro_batch_loss", full)
    assert workplace.attempt(workplace.plan("full", data__test=None)).code is Exit.FATAL
    assert recorded == ["trained", "out of memory"]


def test_a_lack_of_memory_in_a_forward_pass_ends_the_run_with_its_peak_in_record_and_report(
    workplace, monkeypatch, capsys
):
    """Everything is real but the GPU: the error comes out of a layer, as CUDA's allocator raises it."""
    plan = workplace.plan("full", data__test=None).model_copy(update={"memory": memory(), "device": "cuda"})
    monkeypatch.setattr(flow, "device", lambda plan: "cpu")
    monkeypatch.setattr(build, "precision_and_device", lambda plan: {"bf16": False, "fp16": False, "use_cpu": True})
    seen = []

    def forward(self, *args, **kwargs):
        seen.append(self)
        if len(seen) < 12:
            return original(self, *args, **kwargs)
        figures = {"is_available": True, "get_device_name": "a GPU"}
        figures |= {"max_memory_allocated": 17 * GIB, "max_memory_reserved": 18 * GIB}
        for name, value in figures.items():
            monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
        raise ERROR

    original = LlamaMLP.forward
    monkeypatch.setattr(LlamaMLP, "forward", forward)
    tried = workplace.attempt(plan)
    assert tried.code is Exit.FATAL == 78
    assert len(tried.reason.splitlines()) == 1
    assert tried.reason.startswith("out of GPU memory: predicted were 15.0 of 16 GiB (weights 5.0, optimizer 10.0)")
    assert "; the peak was 17.0 GiB; add --set method.micro_batch_size=1 (CUDA out of memory." in tried.reason
    assert "Traceback" not in capsys.readouterr().err
    (event,) = [event for event in tried.run.events() if event["event"] == "memory"]
    assert (event["ended"], event["allocated"], event["predicted"]) == ("out of memory", 17 * GIB, sum(PARTS))
    monkeypatch.setenv("HATRAIN_RUNS", str(tried.run.folder.parent))
    assert main(["memory", "report"]) == 0
    line = capsys.readouterr().out.splitlines()[1].split()
    assert (line[0], line[4], line[6], line[-3:]) == ("full", "15.01", "17.00", ["out", "of", "memory"])


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
