"""A job's settings reach transformers: clipping and decay are compared with a training loop in plain torch."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainingArguments

from hatrain.contract.run import RunDirectory
from hatrain.train.build import CHECKPOINTING, one_gpu, training_arguments
from hatrain.train.step_dataset import epoch_rows
from tests.train.conftest import house_rows, weights, write_rows
from tests.train.pairs import LORA
from tests.train.test_sft import ids_and_labels, without_dropout

RATE = 5e-3


def train_with_torch(base: str, rows: list, clip: float, decay: float) -> dict[str, torch.Tensor]:
    """AdamW at a constant learning rate, one step for every 8 rows; matrices decay, norms do not."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE)
    for start in range(0, len(rows), 8):
        loss, count = torch.zeros(()), 0
        for row in rows[start : start + 8]:
            ids, labels = ids_and_labels(tokenizer, row)
            logits = model(torch.tensor([ids])).logits[0, :-1]
            loss = loss + F.cross_entropy(logits, torch.tensor(labels[1:]), reduction="sum")
            count += sum(label != -100 for label in labels[1:])
        (loss / count).backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
        optimizer.zero_grad()
    return model.state_dict()


@pytest.mark.parametrize(("clip", "decay"), [(0, 0.0), (0.02, 0.0), (1.0, 0.0), (0.02, 2.0)])
def test_gradient_clip_and_weight_decay_decide_the_weights(workplace, clip, decay):
    base, rows = without_dropout(workplace), house_rows(32, 1)
    write_rows(workplace.folder / "few.jsonl", rows)
    plan = workplace.plan(
        model__base=base,
        data__train=str(workplace.folder / "few.jsonl"),
        data__test=None,
        method__learning_rate=RATE,
        method__learning_rate_schedule="constant",
        method__gradient_clip=clip,
        method__weight_decay=decay,
    )
    trained = weights(workplace.attempt(plan).run.model)
    ordered = [rows[row] for row in epoch_rows([32], [1.0], plan.job.seed, 0)]
    expected = train_with_torch(base, ordered, clip, decay)
    for name, tensor in trained.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("sharding", "lora", "reentrant"), [("zero3", LORA, True), ("zero3", None, False), ("zero2", LORA, False)]
)
def test_adapters_under_zero3_are_checkpointed_reentrantly(workplace, sharding, lora, reentrant):
    """DeepSpeed needs it: huggingface/trl#2514."""
    plan = workplace.plan(hardware__sharding=sharding, hardware__gpus_per_node=2, method__lora=lora)
    arguments = training_arguments(plan, RunDirectory(workplace.folder / "run"), rows=60)
    assert arguments[f"{CHECKPOINTING}_kwargs"] == {"use_reentrant": reentrant}


def test_a_single_rank_uses_one_gpu_of_several(tmp_path):
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    arguments._n_gpu = 4
    assert one_gpu(arguments).n_gpu == 1
