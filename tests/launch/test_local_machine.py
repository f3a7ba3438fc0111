"""This machine is asked before a job is submitted to it, as a scheduler is: GPUs, their memory, main memory."""

import pytest

from hatrain.cli import main
from hatrain.contract.gpus import GIB
from hatrain.contract.plan import Memory
from hatrain.doctor.gpus import Facts
from hatrain.errors import BadInput
from hatrain.runtime import memory
from launch.backends.local import machine
from tests.plans import a_plan

NO_DRIVER = Facts(library=False, cuda=None, error=None, gpus=(), kernel=None)


def gpus(*found: tuple[str, float]) -> Facts:
    listed = tuple({"name": name, "memory": int(size * GIB), "capability": [8, 0]} for name, size in found)
    return Facts(library=True, cuda=13000, error=None, gpus=listed, kernel="580.1")


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Ask a machine with such GPUs about a job for an a100-80gb that needs so many GiB."""

    def ask(facts: Facts, needed: float = 20, host: float = 1, **changes: object) -> list[str]:
        monkeypatch.setattr(machine, "ask_driver", lambda: facts)
        monkeypatch.setattr("hatrain.doctor.gpus.torch_cuda", lambda: "13.0")
        need = Memory(
            parts={"weights": int(needed * GIB)},
            moment="a step",
            gpu=80 * GIB,
            host=int(host * GIB),
            checkpoint=1,
            disk=1,
            why="",
        )
        plan = a_plan(tmp_path, hardware__gpu="a100-80gb", **changes)
        return machine.check([plan.model_copy(update={"memory": need})])

    return ask


def refused(asked, *arguments, **changes) -> str:
    with pytest.raises(BadInput) as raised:
        asked(*arguments, **changes)
    (line,) = raised.value.problems
    return line


def test_a_machine_without_a_gpu_refuses_a_job_that_needs_one(asked):
    line = refused(asked, NO_DRIVER)
    assert line.startswith("hardware.gpu: no NVIDIA driver")
    assert "set hardware.gpu: cpu" in line
    assert line.endswith("to run it elsewhere: --cluster NAME (hatrain clusters lists them)")


def test_too_few_gpus_are_refused(asked):
    line = refused(asked, gpus(("NVIDIA A100-SXM4-80GB", 80)), hardware__gpus_per_node=2)
    assert line.startswith("hardware.gpu: 1 for 2 ranks")


def test_a_gpu_with_too_little_memory_is_refused_with_its_name(asked):
    line = refused(asked, gpus(("NVIDIA GeForce RTX 3060", 12)))
    assert line.startswith(
        "hardware.gpu: the run needs 20.0 GiB of a100-80gb, and this machine has NVIDIA GeForce RTX 3060 with 12.0 "
        "GiB; --set hardware.gpu=rtx3060-12gb plans for it"
    )


def test_the_smallest_of_the_gpus_that_are_used_counts(asked):
    mixed = gpus(("NVIDIA A100-SXM4-80GB", 80), ("NVIDIA GeForce RTX 3060", 12))
    assert asked(mixed) == []
    assert "RTX 3060" in refused(asked, mixed, hardware__gpus_per_node=2)


def test_another_gpu_that_has_room_is_noted(asked):
    assert asked(gpus(("NVIDIA H200", 140))) == [
        "hardware.gpu: a100-80gb, but this machine has NVIDIA H200 with 140.0 GiB; --set hardware.gpu=h200-141gb plans "
        "for it"
    ]


def test_the_gpu_of_the_job_is_not_mentioned(asked):
    assert asked(gpus(("NVIDIA A100-SXM4-80GB", 80))) == []


def test_too_little_main_memory_is_refused(asked, monkeypatch):
    monkeypatch.setattr(memory, "total", lambda: 4 * GIB)
    line = refused(asked, gpus(("NVIDIA A100-SXM4-80GB", 80)), host=9)
    assert line.startswith("main memory: the run needs 9.0 GiB, and this machine has 4.0 with its swap")


def test_a_job_for_processors_asks_no_driver(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "ask_driver", lambda: pytest.fail("asked"))
    assert machine.check([a_plan(tmp_path)]) == []


@pytest.mark.parametrize("verb", ["submit", "train"])
def test_nothing_is_written_where_the_machine_refuses(verb, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(machine, "ask_driver", lambda: NO_DRIVER)
    (tmp_path / "rows.jsonl").write_text('{"text": "hello"}\n' * 8)
    (tmp_path / "base").mkdir()
    (tmp_path / "base/config.json").write_text("{}")
    (tmp_path / "job.yaml").write_text(
        "name: x\nmodel: {base: ./base}\ndata: {train: rows.jsonl}\nhardware: {gpu: a100-80gb}\n"
    )
    assert main([verb, "job.yaml"]) == 2
    out, err = capsys.readouterr()
    assert "is submitted" not in out
    assert err.splitlines()[-1].startswith("hardware.gpu: no NVIDIA driver")
    assert not (tmp_path / "runs").exists()


def test_what_is_missing_and_what_the_machine_lacks_are_said_together(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine, "ask_driver", lambda: NO_DRIVER)
    (tmp_path / "job.yaml").write_text(
        "name: x\nmodel: {base: ./base}\ndata: {train: rows.jsonl}\nhardware: {gpu: a100-80gb}\n"
    )
    assert main(["submit", "job.yaml"]) == 78
    keys = [line.split(":")[0] for line in capsys.readouterr().err.splitlines() if not line.startswith("note")]
    assert keys == ["data.train", "model.base", "hardware.gpu"]


def test_plan_submit_and_train_say_what_is_missing_in_the_same_words(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.yaml").write_text(
        "name: x\nmodel: {base: ./base}\ndata: {train: rows.jsonl}\nhardware: {gpu: cpu}\n"
    )
    said = {}
    for verb, code in (("plan", 0), ("submit", 78), ("train", 78)):
        assert main([verb, "job.yaml"]) == code
        lines = capsys.readouterr().err.splitlines()
        said[verb] = [line.removeprefix("note: not on this machine: ") for line in lines if "such" in line]
    assert len(said["plan"]) == 2
    assert said["plan"] == said["submit"] == said["train"]
