"""Preference training, for real, on a model of a few thousand weights, against TRL's own trainer and by hand."""

import json
import math
import random
import shutil
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from datasets import Dataset
from peft import PeftModel
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

from hatrain.run import Exit
from hatrain.spec import Dpo
from hatrain.train.steps import epoch_rows
from tests.train.conftest import ROOMS, metrics, weights, write_rows

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
                "rejected": f"{other} {device}"
                if draw.random() < 0.5
                else f"no {device} in the {room} {state}",
            }
        )
    return pairs


TRAIN, TEST = house_pairs(40, 1), house_pairs(12, 2)


@pytest.fixture(scope="session")
def store(tmp_path_factory, shelf) -> Path:
    """Pairs, and a base without dropout whose chat format ends with a reply's end of turn, as TRL's completions do."""
    store = tmp_path_factory.mktemp("pairs")
    write_rows(store / "train.jsonl", TRAIN)
    write_rows(store / "test.jsonl", TEST)
    base = shutil.copytree(shelf / "base", store / "base")
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
    """log p(reply and its end of turn | prompt), worked out with nothing but transformers: the format by hand."""
    prompt = (
        f"<|im_start|>system\n{pair['system']}<|im_end|><|im_start|>user\n{pair['question']}<|im_end|>"
        "<|im_start|>assistant\n"
    )
    before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    reply = tokenizer(pair[side] + "<|im_end|>", add_special_tokens=False)["input_ids"]
    ids = torch.tensor([before + reply])
    with torch.no_grad():
        said = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])
    return said[len(before) - 1 :].sum()


def rewards_by_hand(model, reference, tokenizer, pairs, beta: float = BETA) -> torch.Tensor:
    """[pairs, 2]: what each side has gained over the reference."""
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


def test_losses(run) -> dict[str, float]:
    return {event["when"]: event["loss"] for event in run.events() if event["event"] == "test loss"}


test_losses.__test__ = False  # type: ignore[attr-defined]


# --- training -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lora", [None, LORA], ids=["all weights", "lora"])
def test_a_run_learns_to_prefer_and_says_what_plain_transformers_says(workplace, dpo_plan, store, lora):
    plan = dpo_plan(
        method__lora=lora, method__epochs=2, evaluation__eval_steps=10, method__micro_batch_size=2
    )
    run = workplace.attempt(plan).run
    told = test_losses(run)
    assert told["before"] == pytest.approx(math.log(2), abs=1e-6)
    assert told["after"] < 0.8 * told["before"]
    base = AutoModelForCausalLM.from_pretrained(store / "base")
    if lora:
        model = PeftModel.from_pretrained(
            AutoModelForCausalLM.from_pretrained(store / "base"), str(run.adapter)
        )
        assert not run.model.exists()
        assert not (run.adapter / "ref").exists()
    else:
        model = AutoModelForCausalLM.from_pretrained(run.model)
    model.eval()
    tokenizer = AutoTokenizer.from_pretrained(store / "base")
    rewards = rewards_by_hand(model, base, tokenizer, TEST)
    margins = rewards[:, 0] - rewards[:, 1]
    assert told["after"] == pytest.approx(-F.logsigmoid(margins).mean().item(), abs=1e-5)
    (look,) = [line for line in metrics(run) if "test_loss" in line]
    assert look["step"] == 10
    assert look["test_loss"] == pytest.approx(told["after"], abs=1e-6)
    assert look["test_rewards/margins"] == pytest.approx(margins.mean().item(), abs=1e-5)
    assert look["test_rewards/chosen"] == pytest.approx(rewards[:, 0].mean().item(), abs=1e-5)
    assert look["test_rewards/rejected"] == pytest.approx(rewards[:, 1].mean().item(), abs=1e-5)
    assert look["test_rewards/accuracies"] == pytest.approx((margins > 0).float().mean().item())


class InOrder(DPOTrainer):
    """TRL's own trainer, on its rows as they come."""

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


def trl_alone(folder: Path, base: Path, pairs: list[dict[str, Any]], loss: str, smoothing: float) -> InOrder:
    """Train with nothing of ours: TRL tokenizes, and asks a second model for the reference at every step."""
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
        activation_checkpointing=False,
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


def compare(run, trainer: InOrder) -> None:
    """Require the same losses and rewards at every step, and the same weights at the end."""
    ours = [line for line in metrics(run) if "loss" in line]
    theirs = [line for line in trainer.state.log_history if "loss" in line]
    assert len(ours) == len(theirs) > 2
    for name in ("loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"):
        assert [line[name] for line in ours] == pytest.approx(
            [line[name] for line in theirs], rel=1e-5, abs=1e-5
        )
    trained = weights(run.model)
    expected = trainer.model.state_dict()
    for name, tensor in trained.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-4)


SMOOTHING = {"exo_pair": 1e-3, "robust": 0.1}


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_is_the_one_that_trl_computes_beside_a_second_model(workplace, dpo_plan, store, loss):
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
    compare(
        tried.run, trl_alone(workplace.folder / "trl", store / "base", pairs, loss, SMOOTHING.get(loss, 0.0))
    )


@pytest.mark.parametrize("micro", [1, 3, 8])
def test_how_pairs_share_passes_changes_no_result(workplace, dpo_plan, store, micro):
    plan = dpo_plan(
        data__test=None, method__batch_size=8 if micro != 3 else 6, method__micro_batch_size=micro
    )
    run = workplace.attempt(plan).run
    assert run
