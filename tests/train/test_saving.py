"""Saving beside training: the files of a save in the foreground, invisible until whole, and told when it fails."""

import errno
import threading

import pytest
import torch

from hatrain.contract.checkpoint_size import next_checkpoint
from hatrain.contract.run import Exit
from hatrain.runtime import checkpoints, memory, seal
from hatrain.train import saving
from tests.train.conftest import metrics, weights

LORA = {"rank": 2, "modules": ["q_proj", "embed_tokens"]}


def sealed(run):
    return [event for event in run.events() if event["event"] == "checkpoint sealed"]


@pytest.mark.parametrize("lora", [None, LORA], ids=["all weights", "lora"])
def test_a_checkpoint_from_a_copy_holds_what_one_in_the_foreground_holds(workplace, monkeypatch, lora):
    copied = workplace.attempt(workplace.plan("copied", method__lora=lora, data__test=None), stop_at=3).run
    monkeypatch.setattr(memory, "available", lambda: 0)
    plain = workplace.attempt(workplace.plan("plain", method__lora=lora, data__test=None), stop_at=3).run
    one, other = (run.checkpoints / "checkpoint-3" for run in (copied, plain))
    names = {path.relative_to(one) for path in one.rglob("*")}
    assert names == {path.relative_to(other) for path in other.rglob("*")}
    for name in names:
        if name.suffix in (".safetensors", ".json") and name.name not in (seal.MANIFEST, "trainer_state.json"):
            assert (one / name).read_bytes() == (other / name).read_bytes(), name
    states = [torch.load(folder / "optimizer.pt", weights_only=True) for folder in (one, other)]
    assert states[0]["param_groups"] == states[1]["param_groups"]
    for key, state in states[0]["state"].items():
        assert all(torch.equal(tensor, states[1]["state"][key][name]) for name, tensor in state.items())
    assert [event["waited"] < event["seconds"] for event in (*sealed(copied), *sealed(plain))] == [True, False]


def test_training_goes_on_while_a_checkpoint_is_sealed_and_sees_it_only_whole(workplace, monkeypatch):
    seen, trainers = [], []
    save, original = saving.Saver.save, seal.seal
    gone_on = threading.Event()

    def saved(self):
        trainers.append(self.trainer)
        save(self)

    def sealing(partial, final, **facts):
        if facts.get("step") == 3:
            while trainers[0].state.global_step < 4:
                assert not gone_on.wait(0.01)
            seen.append(final.exists())
        original(partial, final, **facts)

    monkeypatch.setattr(saving.Saver, "save", saved)
    monkeypatch.setattr(seal, "seal", sealing)
    tried = workplace.attempt(workplace.plan(data__test=None))
    assert tried.code is Exit.FINISHED
    assert seen == [False]
    assert checkpoints.newest(tried.run.checkpoints, tried.run.plan().identity).name == "checkpoint-8"


def test_a_stop_waits_until_its_checkpoint_is_sealed(workplace, monkeypatch):
    original = seal.seal

    def slowly(*arguments, **facts):
        threading.Event().wait(0.5)
        original(*arguments, **facts)

    monkeypatch.setattr(seal, "seal", slowly)
    tried = workplace.attempt(workplace.plan(data__test=None), stop_at=5)
    assert tried.code is Exit.REQUEUE
    assert seal.verify(tried.run.checkpoints / "checkpoint-5") is None


@pytest.mark.parametrize("where", ["in the thread", "in the foreground"])
def test_a_disk_that_is_full_while_saving_is_told_and_leaves_the_newest_checkpoint(workplace, monkeypatch, where):
    def full(*arguments, **facts):
        if facts.get("step") == 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(*arguments, **facts)

    original = seal.seal
    if where == "in the foreground":
        monkeypatch.setattr(memory, "available", lambda: 0)
    plan = workplace.plan(data__test=None)
    with monkeypatch.context() as patch:
        patch.setattr(seal, "seal", full)
        tried = workplace.attempt(plan)
    assert tried.code is Exit.REQUEUE
    assert f"the disk of {tried.run.folder} is full" in tried.reason
    assert tried.reason.endswith("checkpoint-3 is whole")
    assert [path.name for path in tried.run.checkpoints.iterdir()] == ["checkpoint-3"]
    whole = workplace.attempt(workplace.plan("whole", data__test=None)).run
    again = workplace.attempt(plan)
    assert again.code is Exit.FINISHED
    one, other = weights(whole.model), weights(again.run.model)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_saving_cost_is_in_the_metrics_and_in_the_record(workplace):
    tried = workplace.attempt(workplace.plan(data__test=None))
    lines = {line["step"]: line for line in metrics(tried.run)}
    assert [step for step in lines if "saving_seconds" in lines[step]] == [4, 7]
    for event in sealed(tried.run):
        assert 0 < event["waited"] <= event["seconds"]
        folder = tried.run.checkpoints / f"checkpoint-{event['step']}"
        assert event["bytes"] == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_save_steps_auto_saves_early_and_then_as_often_as_the_cluster_fails(workplace, capsys):
    plan = workplace.plan(checkpoints__save_steps="auto", data__test=None, method__epochs=4)
    tried = workplace.attempt(plan)
    assert tried.code is Exit.FINISHED
    steps = [event["step"] for event in sealed(tried.run)]
    assert steps[:2] == [1, 2]
    assert steps[-1] == 32
    assert len(steps) < 6
    assert "the next checkpoint follows after" in capsys.readouterr().out


def test_a_start_knows_how_large_the_first_checkpoint_will_be(workplace):
    plan = workplace.plan(data__test=None)
    predicted = next_checkpoint(workplace.attempt(plan, stop_at=1).run, None)
    other = workplace.plan("other", data__test=None)
    from hatrain.contract.run import RunDirectory

    run = RunDirectory(workplace.folder / "runs" / "other")
    files = predicted - 12 * sum(tensor.numel() for tensor in weights(workplace.inputs / "base").values())
    assert next_checkpoint(run, other) == pytest.approx(predicted - files, rel=0.05)
    assert 0 < files < 200_000
