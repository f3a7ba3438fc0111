"""The guide's jobs at small scale, with a look at the model before and after training. For the tests of this folder."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from hatrain.contract.load import load_job
from hatrain.contract.plan import Plan
from hatrain.contract.run import Exit, RunDirectory
from hatrain.contract.spec import Dpo, LoraSpec
from hatrain.train import flow
from hatrain.train.trainer import StepTrainer
from launch.cluster_files import load_cluster
from launch.planner import plan as planned
from tests.train.conftest import Workplace, house_rows, metrics, write_rows

REPOSITORY = Path(__file__).parents[2]


def job_file(job: str) -> str:
    return str(REPOSITORY / "jobs" / f"{job}.yaml")


def small(workplace: Workplace, job: str, *settings: str) -> Plan:
    """The plan of a guide's job on this machine, with a few rows of the test."""
    rows, test = (workplace.folder / f"{job}-{part}.jsonl" for part in ("train", "test"))
    own = load_job(job_file(job))
    make = house_pairs if isinstance(own.method, Dpo) else house_rows
    write_rows(rows, make(24, 1))
    write_rows(test, make(8, 2))
    rate = "2e-2" if own.method.lora else "1e-2"
    spec = load_job(
        job_file(job),
        [
            f"data.train={rows}",
            *([f"data.test={test}"] if own.data.test else []),
            *([f"model.chat_template={REPOSITORY / own.model.chat_template}"] if own.model.chat_template else []),
            "method.batch_size=8",
            f"method.learning_rate={rate}",
            "method.epochs=3",
            f"model.dtype={own.with_dtype().model.dtype}",  # of the job's own GPUs
            "hardware={gpu: cpu}",
            "checkpoints.save_steps=5",
            "evaluation.eval_steps=5",
            "logging.logging_steps=1",
            *settings,
        ],
    )
    name, cluster = load_cluster("local")
    return planned(spec, cluster, name, workdir=workplace.folder, runs_root=workplace.folder / "runs")


def house_pairs(count: int, seed: int) -> list[dict[str, Any]]:
    """Rows with a right answer and a wrong one."""
    pairs = []
    for row in house_rows(count, seed):
        (system, question, right, *_) = [turn["value"] for turn in row["conversations"]]
        pairs.append({"system": system, "question": question, "chosen": right, "rejected": f"no {right}"})
    return pairs


@dataclass
class Seen:
    """The model of a run, before and after training."""

    model: Any = None
    first: dict[str, torch.Tensor] = field(default_factory=dict)
    """Every parameter and buffer before the first step."""
    dtypes: dict[str, torch.dtype] = field(default_factory=dict)
    """Of every parameter in training."""
    trained: set[str] = field(default_factory=set)
    """The parameters with requires_grad."""
    run: RunDirectory | None = None
    plan: Plan | None = None

    @property
    def changed(self) -> set[str]:
        """The tensors that training changed."""
        return {name for name, now in tensors(self.model).items() if not torch.equal(now, self.first[name])}


def tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Every parameter and buffer by name."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def trained(workplace: Workplace, plan: Plan) -> Seen:
    """Make an attempt at a plan, and record the model before the first step and at the end."""
    seen = Seen(plan=plan)
    step, save_model = StepTrainer.training_step, flow.save_model

    def training_step(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        if not seen.first:
            parameters = dict(model.named_parameters())
            seen.first = {name: tensor.detach().clone() for name, tensor in tensors(model).items()}
            seen.dtypes = {name: tensor.dtype for name, tensor in parameters.items()}
            seen.trained = {name for name, tensor in parameters.items() if tensor.requires_grad}
        return step(self, model, *args, **kwargs)

    def saving(trainer: StepTrainer, *args: Any) -> None:
        save_model(trainer, *args)
        seen.model = trainer.model.eval()

    with workplace.monkeypatch.context() as patch:
        patch.setattr(StepTrainer, "training_step", training_step)
        patch.setattr(flow, "save_model", saving)
        tried = workplace.attempt(plan)
    assert (tried.code, tried.reason) == (Exit.FINISHED, "trained")
    seen.run = tried.run
    return seen


def prompt(tokenizer: Any) -> torch.Tensor:
    """The ids of a request, `[1, tokens]`, in the chat format of the saved model."""
    turns = [
        {"role": "system", "content": "Rooms: hall attic"},
        {"role": "user", "content": "turn on the light"},
    ]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])


@torch.no_grad()
def answer(model: Any, tokenizer: Any) -> tuple[torch.Tensor, str]:
    """The logits of a request's last position, and the greedy answer, in the precision of training."""
    ids = prompt(tokenizer)
    with torch.autocast("cpu", torch.bfloat16, enabled=model.dtype == torch.bfloat16):
        logits = model(ids).logits[0, -1].float()
        generated = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
    return logits, tokenizer.decode(generated[0, ids.shape[1] :])


def check_loss_falls(run: RunDirectory) -> None:
    losses = [line["loss"] for line in metrics(run) if "loss" in line]
    assert sum(losses[-3:]) / 3 < 0.85 * losses[0]
    test_loss = {event["when"]: event["loss"] for event in run.events() if event["event"] == "test loss"}
    assert not test_loss or test_loss["after"] < 0.9 * test_loss["before"]


def check_same(model: Any, other: Any, tokenizer: Any) -> None:
    """Two models give the same logits and greedy text."""
    (logits, text), (expected, expected_text) = answer(model, tokenizer), answer(other, tokenizer)
    torch.testing.assert_close(logits, expected)
    assert text == expected_text


def rounded(model: torch.nn.Module) -> Any:
    """The model itself, with its weights in the dtype that they are saved in."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16)
    return model


def adapter_parameters(model: Any, lora: LoraSpec) -> set[str]:
    """The parameters that a job's LoRA trains, by the names of the model's modules."""
    wanted = set()
    for path, _ in model.named_modules():
        parent, _, last = path.rpartition(".")
        if last in ("lora_A", "lora_B") and parent.rpartition(".")[2] in lora.modules:
            wanted.add(f"{path}.default.weight")
        elif last == "modules_to_save" and parent.rpartition(".")[2] in (lora.modules_to_save or ()):
            inner = model.get_submodule(path)["default"]
            wanted |= {f"{path}.default.{name}" for name, _ in inner.named_parameters()}
    return wanted
