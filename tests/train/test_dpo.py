"""Preference training of a model with a few thousand weights, compared with TRL's trainer and with plain torch."""

import inspect
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from accelerate import Accelerator
from datasets import Dataset
from peft import PeftModel
from safetensors.numpy import load_file as load_arrays
from safetensors.torch import load_file
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

from hatrain.contract.run import Exit, RunDirectory
from hatrain.contract.spec import Dpo
from hatrain.runtime import counting, seal
from hatrain.runtime.stop import Stop
from hatrain.train import dpo, reference
from hatrain.train.build import CHECKPOINTING
from hatrain.train.dpo import DpoTrainer
from hatrain.train.step_dataset import epoch_rows
from hatrain.train.stop import StopFlag
from tests.train.conftest import ROOMS, metrics, weights, write_rows

REPOSITORY = Path(__file__).parents[2]
LOSSES = get_args(Dpo.model_fields["loss"].annotation)
LORA = {"rank": 8, "alpha": 16, "modules": ["q_proj", "v_proj", "down_proj"]}
BETA = 0.1


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
                "rejected": f"{other} {device}" if draw.random() < 0.5 else f"no {device} in the {room} {state}",
            }
        )
    return pairs


TRAIN, TEST = house_pairs(40, 1), house_pairs(12, 2)


@pytest.fixture(scope="session")
def store(tmp_path_factory, inputs) -> Path:
    """Pairs, and a base without dropout whose template ends at a reply's end of turn, as TRL's completions do."""
    store = tmp_path_factory.mktemp("pairs")
    write_rows(store / "train.jsonl", TRAIN)
    write_rows(store / "test.jsonl", TEST)
    base = shutil.copytree(inputs / "base", store / "base")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "attention_dropout": 0.0}))
    template = base / "chat_template.jinja"
    template.write_text(template.read_text().replace("<|im_end|>\n", "<|im_end|>"))
    return store


@pytest.fixture
def dpo_plan(workplace, store):
    """A plan of preference training; `changes` as in `Workplace.plan`."""

    def plan(name: str = "run", **changes: Any) -> Any:
        return workplace.plan(
            name,
            **{
                "model__base": str(store / "base"),
                "data__train": str(store / "train.jsonl"),
                "data__test": str(store / "test.jsonl"),
                "method__kind": "dpo",
                "method__beta": BETA,
                "evaluation__sample": len(TEST),
                "evaluation__eval_steps": 5,
                **changes,
            },
        )

    return plan


def reply_log_probability(model, tokenizer, pair, side) -> torch.Tensor:
    """log p(reply and its end of turn | prompt), with nothing but transformers and the format written out."""
    prompt = (
        f"<|im_start|>system\n{pair['system']}<|im_end|><|im_start|>user\n{pair['question']}<|im_end|>"
        "<|im_start|>assistant\n"
    )
    before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    reply = tokenizer(pair[side] + "<|im_end|>", add_special_tokens=False)["input_ids"]
    ids = torch.tensor([before + reply])
    with torch.no_grad():
        log_probabilities = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])
    return log_probabilities[len(before) - 1 :].sum()


def rewards_by_hand(model, reference, tokenizer, pairs, beta: float = BETA) -> torch.Tensor:
    """[pairs, 2]: beta × (log-probability − the reference's) of each side."""
    return beta * torch.tensor(
        [
            [
                reply_log_probability(model, tokenizer, pair, side)
                - reply_log_probability(reference, tokenizer, pair, side)
                for side in ("chosen", "rejected")
            ]
            for pair in pairs
        ]
    )


def losses_on_the_test_set(run) -> dict[str, float]:
    return {event["when"]: event["loss"] for event in run.events() if event["event"] == "test loss"}


# --- training -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lora", [None, LORA], ids=["all weights", "lora"])
def test_a_run_learns_and_logs_the_rewards_that_plain_transformers_gives(workplace, dpo_plan, store, lora):
    rate = {"method__lora": lora, "method__learning_rate": 2e-2} if lora else {}
    plan = dpo_plan(**rate, method__epochs=2, evaluation__eval_steps=10, method__micro_batch_size=2)
    run = workplace.attempt(plan).run
    test_loss = losses_on_the_test_set(run)
    assert test_loss["before"] == pytest.approx(math.log(2), abs=1e-6)
    assert test_loss["after"] < 0.95 * test_loss["before"]
    base = AutoModelForCausalLM.from_pretrained(store / "base")
    if lora:
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(store / "base"), str(run.adapter))
        assert not run.model.exists()
        assert not (run.adapter / "ref").exists()
    else:
        model = AutoModelForCausalLM.from_pretrained(run.model)
    model.eval()
    tokenizer = AutoTokenizer.from_pretrained(store / "base")
    rewards = rewards_by_hand(model, base, tokenizer, TEST)
    margins = rewards[:, 0] - rewards[:, 1]
    assert test_loss["after"] == pytest.approx(-F.logsigmoid(margins).mean().item(), abs=1e-5)
    (line,) = [line for line in metrics(run) if "test_loss" in line]
    assert line["step"] == 10
    assert line["test_loss"] == pytest.approx(test_loss["after"], abs=1e-6)
    assert line["test_rewards/margins"] == pytest.approx(margins.mean().item(), abs=1e-5)
    assert line["test_rewards/chosen"] == pytest.approx(rewards[:, 0].mean().item(), abs=1e-5)
    assert line["test_rewards/rejected"] == pytest.approx(rewards[:, 1].mean().item(), abs=1e-5)
    assert line["test_rewards/accuracies"] == pytest.approx((margins > 0).float().mean().item())


class InOrder(DPOTrainer):
    """TRL's trainer, without shuffling."""

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


def trl_alone(folder: Path, base: Path, pairs: list[dict[str, Any]], loss: str, smoothing: float) -> InOrder:
    """Train with TRL only: it tokenizes, and computes the reference with a second model at every step."""
    rows = [
        {
            "prompt": [
                {"role": "system", "content": pair["system"]},
                {"role": "user", "content": pair["question"]},
            ],
            "chosen": [{"role": "assistant", "content": pair["chosen"]}],
            "rejected": [{"role": "assistant", "content": pair["rejected"]}],
        }
        for pair in pairs
    ]
    arguments = DPOConfig(
        output_dir=str(folder),
        loss_type=[loss],
        beta=BETA,
        label_smoothing=smoothing,
        max_length=None,
        learning_rate=5e-3,
        lr_scheduler_type="cosine",
        weight_decay=0.1,
        num_train_epochs=1,
        per_device_train_batch_size=8,
        **{CHECKPOINTING: False},
        bf16=False,
        use_cpu=True,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    model, reference = (AutoModelForCausalLM.from_pretrained(base) for _ in range(2))
    tokenizer = AutoTokenizer.from_pretrained(base)
    trainer = InOrder(
        model, reference, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
    )
    trainer.train()
    return trainer


def compare(run: RunDirectory, other: RunDirectory | InOrder) -> None:
    """Require the same losses and rewards at every step, and the same weights at the end."""
    ours = [line for line in metrics(run) if "loss" in line]
    if isinstance(other, InOrder):
        history, expected = other.state.log_history, other.model.state_dict()
    else:
        history, expected = metrics(other), weights(other.model)
    theirs = [line for line in history if "loss" in line]
    assert len(ours) == len(theirs) > 2
    for name in ("loss", "rewards/chosen", "rewards/rejected", "rewards/margins"):
        assert [line[name] for line in ours] == pytest.approx([line[name] for line in theirs], rel=1e-5, abs=1e-5)
    # Before the first update rewards are rounding alone, and so is which is larger.
    assert [line["rewards/accuracies"] for line in ours[1:]] == [line["rewards/accuracies"] for line in theirs[1:]]
    for name, tensor in weights(run.model).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-4)


def test_the_job_accepts_every_loss_of_trl_by_its_name():
    assert set(LOSSES) == set(re.findall(r'loss_type == "(\w+)"', inspect.getsource(DPOTrainer._compute_loss)))


SMOOTHING = {"exo_pair": 1e-3, "robust": 0.1}


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_equals_trls_with_a_second_model(workplace, dpo_plan, store, loss):
    write_rows(workplace.folder / "few.jsonl", TRAIN[:24])
    plan = dpo_plan(
        data__train=str(workplace.folder / "few.jsonl"),
        data__test=None,
        method__loss=loss,
        method__micro_batch_size=8,
    )
    tried = workplace.attempt(plan)
    assert tried.code is Exit.FINISHED
    order = epoch_rows([24], [1.0], plan.job.seed, 0)
    pairs = [TRAIN[row] for row in order]
    compare(tried.run, trl_alone(workplace.folder / "trl", store / "base", pairs, loss, SMOOTHING.get(loss, 0.0)))


def test_micro_batch_size_and_checkpointing_change_no_result(workplace, dpo_plan):
    """The loss is weighted over the whole step."""
    few = {"data__test": None}
    one = workplace.attempt(dpo_plan("one", **few, method__micro_batch_size=1, method__gradient_checkpointing=True))
    compare(one.run, workplace.attempt(dpo_plan("eight", **few, method__micro_batch_size=8)).run)


def test_pairs_give_the_same_results_as_trees_as_packs_and_padded(workplace, dpo_plan):
    runs = [workplace.attempt(dpo_plan(kind, method__packing=kind)).run for kind in ("off", "plain", "tree")]
    for run in runs[1:]:
        compare(run, runs[0])
        assert losses_on_the_test_set(run) == pytest.approx(losses_on_the_test_set(runs[0]), abs=1e-5)


def test_a_pair_stays_in_one_pack_and_its_prompt_goes_through_the_model_once(workplace, dpo_plan):
    seen: list[tuple[int, int]] = []
    original = DpoTrainer.micro_batch_loss

    def micro_batch_loss(self, model, batch):
        seen.append((batch["model"]["input_ids"].numel(), len(batch["answers"])))
        return original(self, model, batch)

    workplace.monkeypatch.setattr(DpoTrainer, "micro_batch_loss", micro_batch_loss)
    few = {"data__test": None, "method__micro_batch_size": 1, "method__ctx_size": 128}
    tokens = {}
    for kind in ("plain", "tree"):
        seen.clear()
        assert workplace.attempt(dpo_plan(kind, **few, method__packing=kind)).code is Exit.FINISHED
        assert all(sides % 2 == 0 and length <= 2 * 128 for length, sides in seen)
        assert sum(sides for _, sides in seen) == 2 * len(TRAIN)
        tokens[kind] = sum(length for length, _ in seen)
    assert tokens["tree"] < 0.75 * tokens["plain"]


def test_nothing_is_gathered_in_a_micro_batch(workplace, dpo_plan):
    """Ranks may hold different numbers of pairs, where gathering would hang."""
    original = DpoTrainer.micro_batch_loss

    def refuse(self, tensor):
        raise AssertionError("gathered in a micro-batch")

    def micro_batch_loss(self, model, batch):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Accelerator, "gather", refuse)
            patch.setattr(Accelerator, "gather_for_metrics", refuse)
            return original(self, model, batch)

    workplace.monkeypatch.setattr(DpoTrainer, "micro_batch_loss", micro_batch_loss)
    tried = workplace.attempt(dpo_plan())
    assert (tried.code, tried.reason) == (Exit.FINISHED, "trained")


@pytest.mark.long
def test_two_ranks_give_the_results_of_one(workplace, dpo_plan):
    # The last step has three micro-batches for two ranks, so one of them adds one that does not count. The test set has
    # two micro-batches, of eight pairs and four.
    write_rows(workplace.folder / "odd.jsonl", TRAIN[:38])
    odd = {"data__train": str(workplace.folder / "odd.jsonl"), "method__micro_batch_size": 2}
    alone = workplace.attempt(dpo_plan("alone", **odd)).run
    plan = dpo_plan("together", **odd, hardware__gpus_per_node=2)
    together = RunDirectory(Path(plan.paths.run))
    together.adopt(plan, {})
    number = together.new_attempt().number
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    subprocess.run(
        [*command, "-m", "hatrain.train", str(together.folder)],
        env={**os.environ, "HATRAIN_ATTEMPT": str(number), "PYTHONPATH": str(REPOSITORY)},
        check=True,
    )
    compare(together, alone)
    test_lines = [[line for line in metrics(run) if "test_loss" in line] for run in (alone, together)]
    for one, other in zip(*test_lines, strict=True):
        for name in one:
            if "test" in name:
                assert one[name] == pytest.approx(other[name], abs=1e-5)


# --- stopping, resuming, the reference ----------------------------------------------------------------------


@pytest.mark.parametrize("lora", [None, LORA], ids=["all weights", "lora"])
def test_a_resumed_run_ends_with_the_same_weights_to_the_bit(workplace, dpo_plan, lora):
    # This base has dropout in its attention, so the random state has to be restored too.
    changes = {"model__base": str(workplace.inputs / "base"), "method__lora": lora}
    whole = workplace.attempt(dpo_plan("whole", **changes)).run
    torch.seed()  # what came before in this process must not matter
    plan = dpo_plan("parts", **changes)
    assert workplace.attempt(plan, stop_at=2).code is Exit.REQUEUE
    finished = workplace.attempt(plan)
    assert finished.code is Exit.FINISHED
    one, other = (
        load_file(run.adapter / "adapter_model.safetensors") if lora else weights(run.model)
        for run in (whole, finished.run)
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    one, other = ([line for line in metrics(run) if "loss" in line] for run in (whole, finished.run))
    assert [line["loss"] for line in one] == [line["loss"] for line in other]
    assert [line["rewards/margins"] for line in one] == [line["rewards/margins"] for line in other]


def flip(path):
    """Change the last bit of the last log-probability: safetensors reads the file without complaint."""
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


DAMAGES = {
    "gone": (Path.unlink, "no such file"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:99]), "cannot be read"),
    "a flipped bit": (flip, "cannot be read: it has another checksum"),
}


def test_a_damaged_reference_costs_nothing_for_each_checkpoint_has_a_copy(workplace, dpo_plan):
    whole = workplace.attempt(dpo_plan("whole")).run
    plan = dpo_plan("parts")
    run = workplace.attempt(plan, stop_at=1).run
    flip(run.folder / "reference.safetensors")
    assert workplace.attempt(plan).code is Exit.FINISHED
    one, other = weights(whole.model), weights(run.model)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_past_its_first_checkpoint_is_refused_without_any_reference(workplace, dpo_plan):
    """Checkpoints of earlier versions have no copy."""
    plan = dpo_plan()
    run = workplace.attempt(plan, stop_at=1).run
    (checkpoint,) = run.checkpoints.glob("checkpoint-*")
    facts = seal.facts(checkpoint)
    shutil.rmtree(checkpoint / "reference")
    seal.seal(checkpoint, checkpoint.with_name("checkpoint-0"), **facts)
    (run.checkpoints / "checkpoint-0").rename(checkpoint)
    file = run.folder / "reference.safetensors"
    whole = file.read_bytes()
    for damage, problem in DAMAGES.values():
        file.write_bytes(whole)
        damage(file)
        tried = workplace.attempt(plan)
        assert tried.code is Exit.FATAL
        assert f"{file}: {problem}" in tried.reason
        assert "--fresh" in tried.reason


def test_before_the_first_checkpoint_the_reference_is_computed_again(workplace, dpo_plan):
    plan = dpo_plan()
    run = workplace.attempt(plan, stop_at=1).run
    shutil.rmtree(run.checkpoints)
    (run.folder / "reference.safetensors").unlink()
    assert workplace.attempt(plan).code is Exit.FINISHED
    assert losses_on_the_test_set(run)["before"] == pytest.approx(math.log(2), abs=1e-6)


def test_a_stop_interrupts_the_reference(workplace, dpo_plan):
    plan = dpo_plan()
    original = DpoTrainer.load_reference

    def load_reference(self, path):
        self.context.attempt.request_stop(Stop("early", requeue=True))
        original(self, path)

    with workplace.monkeypatch.context() as patch:
        patch.setattr(DpoTrainer, "load_reference", load_reference)
        tried = workplace.attempt(plan)
    assert (tried.code, tried.reason) == (Exit.REQUEUE, "stopped before the first step: early")
    assert not (tried.run.folder / "reference.safetensors").exists()
    assert workplace.attempt(plan).code is Exit.FINISHED


def test_an_interrupted_reference_is_kept_and_goes_on(workplace, dpo_plan, capsys):
    workplace.monkeypatch.setattr(dpo, "STORED_EVERY", 1)
    plan = dpo_plan("parts", method__packing="off")
    original = StopFlag.poll
    polls = []

    def poll(self):
        polls.append(1)
        if len(polls) == 3:
            self.attempt.request_stop(Stop("early", requeue=True))
        return original(self)

    with workplace.monkeypatch.context() as patch:
        patch.setattr(StopFlag, "poll", poll)
        assert workplace.attempt(plan).code is Exit.REQUEUE
    file = RunDirectory(Path(plan.paths.run)).folder / "reference.safetensors"
    first = load_arrays(file)
    have = np.isfinite(first["train"][:, 0])
    assert 0 < have.sum() < len(have)
    capsys.readouterr()
    parts = workplace.attempt(plan)
    assert parts.code is Exit.FINISHED
    last = load_arrays(file)
    assert np.array_equal(last["train"][have], first["train"][have])
    computed = int(re.search(r"reference computed for (\d+) pairs", capsys.readouterr().out)[1])
    assert computed == sum(map(len, last.values())) - have.sum()
    whole = workplace.attempt(dpo_plan("whole", method__packing="off"))
    for name, tensor in weights(whole.run.model).items():
        assert torch.equal(tensor, weights(parts.run.model)[name]), name


def test_the_reference_of_other_pairs_is_computed_anew(tmp_path):
    sums = {"train": np.ones((3, 2), dtype=np.float32)}
    reference.write(tmp_path / "file", sums, "these")
    assert np.array_equal(reference.begun(tmp_path / "file", {"train": 3}, "these")["train"], sums["train"])
    assert np.isnan(reference.begun(tmp_path / "file", {"train": 3}, "others")["train"]).all()
    assert np.isnan(reference.begun(tmp_path / "none", {"train": 3}, "these")["train"]).all()
    (tmp_path / "file").write_bytes(b"damaged")
    assert np.isnan(reference.begun(tmp_path / "file", {"train": 3}, "these")["train"]).all()


def test_only_pairs_that_the_run_sees_have_a_reference(workplace, dpo_plan, capsys):
    workplace.monkeypatch.setattr(counting, "FIRST_SECONDS", 0.0)
    seen = []
    original = DpoTrainer.micro_batch_loss

    def micro_batch_loss(self, model, batch):
        if model.training:
            seen.extend(batch["trl"]["ref_chosen_logps"].tolist())
        return original(self, model, batch)

    workplace.monkeypatch.setattr(DpoTrainer, "micro_batch_loss", micro_batch_loss)
    run = workplace.attempt(dpo_plan(method__epochs=0.3, method__packing="off")).run
    sums = load_arrays(run.folder / "reference.safetensors")["train"]
    assert 0 < np.isfinite(sums[:, 0]).sum() == len(seen) < len(sums)
    assert all(np.isfinite(seen))
    assert re.search(rf"^reference: \d+ of {len(seen)} pairs, ", capsys.readouterr().out, re.MULTILINE)


def test_no_second_model_is_held(workplace, dpo_plan):
    seen = []
    original = DpoTrainer.load_reference

    def load_reference(self, path):
        original(self, path)
        seen.append((self.ref_model, list(getattr(self.model, "peft_config", {}))))

    workplace.monkeypatch.setattr(DpoTrainer, "load_reference", load_reference)
    workplace.attempt(dpo_plan("whole"))
    workplace.attempt(dpo_plan("lora", method__lora=LORA))
    assert seen == [(None, []), (None, ["default"])]


# --- adapters and bases -------------------------------------------------------------------------------------


def test_modules_to_save_are_trained_and_saved(workplace, dpo_plan, store):
    plan = dpo_plan(method__lora={**LORA, "modules_to_save": ["embeddings"]}, method__learning_rate=2e-2)
    run = workplace.attempt(plan).run
    base = AutoModelForCausalLM.from_pretrained(store / "base")
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(store / "base"), str(run.adapter))
    embedding = model.get_input_embeddings().weight
    assert not torch.equal(embedding, base.get_input_embeddings().weight)
    tokenizer = AutoTokenizer.from_pretrained(store / "base")
    rewards = rewards_by_hand(model.eval(), base, tokenizer, TEST)
    expected = -F.logsigmoid(rewards[:, 0] - rewards[:, 1]).mean().item()
    assert losses_on_the_test_set(run)["after"] == pytest.approx(expected, abs=1e-5)


def test_an_adapter_on_the_output_head_is_refused_by_name(workplace, dpo_plan):
    tried = workplace.attempt(dpo_plan(method__lora={**LORA, "modules": ["attention", "lm_head"]}))
    assert tried.code is Exit.FATAL
    assert tried.reason.startswith("method.lora.modules: lm_head is the output head")
    assert "modules_to_save" in tried.reason


def test_adapters_on_a_quantised_base_learn_preferences(workplace, dpo_plan):
    changes = {"model__quantization": "8bit", "method__lora": LORA, "method__learning_rate": 2e-2}
    test_loss = losses_on_the_test_set(workplace.attempt(dpo_plan(**changes, method__epochs=2)).run)
    assert test_loss["before"] == pytest.approx(math.log(2), abs=1e-6)
    assert test_loss["after"] < 0.97 * test_loss["before"]


def test_the_model_of_a_supervised_run_can_be_the_base(workplace, dpo_plan):
    supervised = workplace.attempt(workplace.plan("first")).run
    run = workplace.attempt(dpo_plan("then", model__base="first")).run
    test_loss = losses_on_the_test_set(run)
    assert test_loss["after"] < test_loss["before"] == pytest.approx(math.log(2), abs=1e-6)
    one, other = weights(supervised.model), weights(run.model)
    assert all(not torch.equal(one[name], other[name]) for name in one)


# --- rows ---------------------------------------------------------------------------------------------------


def test_bad_pairs_are_refused_by_file_and_line(workplace, dpo_plan):
    bad = workplace.folder / "bad.jsonl"
    write_rows(bad, [*TRAIN[:3], {**TRAIN[3], "rejected": TRAIN[3]["chosen"]}])
    tried = workplace.attempt(dpo_plan(data__train=str(bad)))
    assert (tried.code, tried.reason) == (Exit.FATAL, f"{bad}:4: chosen and rejected are the same")


def test_pairs_that_do_not_fit_are_dropped_and_counted(workplace, dpo_plan, capsys):
    tried = workplace.attempt(dpo_plan(method__ctx_size=44))
    assert tried.code is Exit.FINISHED
    match = re.search(r"^(\d+) training rows \((\d+) longer than ctx_size dropped", capsys.readouterr().out)
    kept, dropped = map(int, match.groups())
    assert min(kept, dropped) > 0
    assert kept + dropped == len(TRAIN)


def test_the_rows_of_new_tokens_are_trained_beside_the_adapters(workplace, dpo_plan, bases):
    changes = {"model__base": str(bases("tinyllama")), "model__add_chatml_tokens": True, "method__ctx_size": 1024}
    run = workplace.attempt(dpo_plan(**changes, method__lora=LORA, method__learning_rate=2e-2)).run
    saved = load_file(run.adapter / "adapter_model.safetensors")
    assert len([name for name in saved if "token_adapter" in name]) == 2
    losses = losses_on_the_test_set(run)
    # The reference is the model at the start, with the rows as they begin: no answer is preferred.
    assert losses["before"] == pytest.approx(math.log(2), abs=1e-5)
    assert losses["after"] < losses["before"]
