"""Every run of the training guide, in small: the job file itself, on a tiny random base of its own family and a few
dozen rows. What is replaced is what a machine of two cores needs, and nothing else."""

import importlib.util
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from hatrain.load import load_job
from hatrain.model.prepare import keep_layout
from hatrain.plan import Plan
from hatrain.run import Exit, RunDirectory
from hatrain.spec import Dpo, LoraSpec
from hatrain.train import flow
from hatrain.train.trainer import StepTrainer
from launch.cluster import load_cluster
from launch.planner import plan as planned
from tests.models import tiny_base
from tests.train.conftest import Workplace, house_rows, metrics, weights, write_rows

REPOSITORY = Path(__file__).parents[2]

FAMILY = {
    "home-phi3-mini": "phi3",
    "home-3b": "phi",
    "home-1b": "phi",
    "stablehome-1_6b": "stablelm2",
    "stablehome-3b": "stablelm",
    "stablehome-3b-lora": "stablelm",
    "llamahome-8b": "llama3",
    "mistralhome-bielik": "mistral",
    "tinyhome": "tinyllama",
    "tinyhome-qwen": "qwen2",
    "tinyhome-polish": "polka",
    "home-llama-3.2-3b": "llama3.2",
}
DPO = {"stablehome-3b-dpo": "stablehome-3b", "tinyhome-dpo": "tinyhome"}
"""Each run of preference training, and the job whose method trains its base."""


# --- the workplace ------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def bases(tmp_path_factory):
    """Makes each family's base once."""
    folder = tmp_path_factory.mktemp("bases")

    def base(family: str) -> Path:
        there = folder / family
        return there if there.is_dir() else tiny_base(family, there)

    return base


def small(workplace: Workplace, job: str, *settings: str) -> Plan:
    """The plan of a guide's job on this machine, with rows of the test's own."""
    rows, test = (workplace.folder / f"{job}-{part}.jsonl" for part in ("train", "test"))
    own = load_job(str(REPOSITORY / "jobs" / f"{job}.yaml"))
    make = house_pairs if isinstance(own.method, Dpo) else house_rows
    write_rows(rows, make(24, 1))
    write_rows(test, make(8, 2))
    rate = "2e-2" if own.method.lora else "1e-2"
    spec = load_job(
        str(REPOSITORY / "jobs" / f"{job}.yaml"),
        [
            f"data.train={rows}",
            *([f"data.test={test}"] if own.data.test else []),
            "method.batch_size=8",
            f"method.learning_rate={rate}",
            "method.epochs=3",
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
    """Rows of two answers, of which one says no."""
    pairs = []
    for row in house_rows(count, seed):
        (system, question, right, *_) = [turn["value"] for turn in row["conversations"]]
        pairs.append({"system": system, "question": question, "chosen": right, "rejected": f"no {right}"})
    return pairs


@dataclass
class Seen:
    """What a run looked like from inside."""

    model: Any = None
    first: dict[str, torch.Tensor] = field(default_factory=dict)
    """Every parameter before the first step."""
    trained: set[str] = field(default_factory=set)
    dtypes: dict[str, torch.dtype] = field(default_factory=dict)
    run: RunDirectory | None = None
    plan: Plan | None = None

    @property
    def changed(self) -> set[str]:
        """The parameters that training changed."""
        return {name for name, now in self.model.named_parameters() if not torch.equal(now, self.first[name])}


def trained(workplace: Workplace, plan: Plan) -> Seen:
    """Make an attempt at a plan, and look at the model before the first step and at the end."""
    seen = Seen(plan=plan)
    step, finish = StepTrainer.training_step, flow.finish

    def training_step(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        if not seen.first:
            parameters = dict(model.named_parameters())
            seen.first = {name: tensor.detach().clone() for name, tensor in parameters.items()}
            seen.dtypes = {name: tensor.dtype for name, tensor in parameters.items()}
            seen.trained = {name for name, tensor in parameters.items() if tensor.requires_grad}
        return step(self, model, *args, **kwargs)

    def finishing(trainer: StepTrainer, *args: Any) -> None:
        finish(trainer, *args)
        seen.model = trainer.model.eval()

    with workplace.monkeypatch.context() as patch:
        patch.setattr(StepTrainer, "training_step", training_step)
        patch.setattr(flow, "finish", finishing)
        tried = workplace.attempt(plan)
    assert (tried.code, tried.reason) == (Exit.FINISHED, "trained")
    seen.run = tried.run
    return seen


# --- what is asked of every run -----------------------------------------------------------------------------


def prompt(tokenizer: Any) -> torch.Tensor:
    """The ids of a request, `[1, tokens]`, in the chat format that was saved with the model."""
    turns = [
        {"role": "system", "content": "Rooms: hall attic"},
        {"role": "user", "content": "turn on the light"},
    ]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])


@torch.no_grad()
def answer(model: Any, tokenizer: Any) -> tuple[torch.Tensor, str]:
    """The logits of a request's last position, and the greedy answer to it, computed as training computes."""
    ids = prompt(tokenizer)
    with torch.autocast("cpu", torch.bfloat16, enabled=model.dtype == torch.bfloat16):
        logits = model(ids).logits[0, -1].float()
        said = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
    return logits, tokenizer.decode(said[0, ids.shape[1] :])


def check_falls(run: RunDirectory) -> None:
    losses = [line["loss"] for line in metrics(run) if "loss" in line]
    assert sum(losses[-3:]) / 3 < 0.85 * losses[0]
    told = {event["when"]: event["loss"] for event in run.events() if event["event"] == "test loss"}
    assert not told or told["after"] < 0.9 * told["before"]


def check_same(model: Any, other: Any, tokenizer: Any) -> None:
    """Two models answer a request alike: logits and greedy text."""
    (logits, said), (expected, meant) = answer(model, tokenizer), answer(other, tokenizer)
    torch.testing.assert_close(logits, expected)
    assert said == meant


def rounded(model: torch.nn.Module) -> Any:
    """The model itself, its weights in the dtype that they are saved in."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16)
    return model


def check_all_weights(seen: Seen) -> None:
    """Every parameter was trained in fp32, and what was saved is what was in memory, in the job's dtype."""
    assert seen.trained == set(seen.first) == seen.changed
    assert set(seen.dtypes.values()) == {torch.float32}
    saved = AutoModelForCausalLM.from_pretrained(seen.run.model)
    assert saved.dtype == torch.bfloat16
    assert not seen.run.adapter.exists()
    check_same(saved, rounded(seen.model), AutoTokenizer.from_pretrained(seen.run.model))


def check_adapter(seen: Seen, base: Path) -> None:
    """Adapters and saved modules were trained in fp32; the base stayed what it is on disk; plain PEFT loads it."""
    model, lora = seen.plan.job.model, seen.plan.job.method.lora
    assert seen.trained == seen.changed == adapter_parameters(seen.model, lora)
    assert {seen.dtypes[name] for name in seen.trained} == {torch.float32}
    options = {}
    if model.quantization:
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16, **options)
    keep_layout(plain)
    own = dict(plain.named_parameters())
    frozen = {name: tensor for name, tensor in seen.model.named_parameters() if name not in seen.trained}
    for name, tensor in frozen.items():
        before = own[
            name.removeprefix("base_model.model.").replace(".base_layer", "").replace(".original_module", "")
        ]
        assert tensor.dtype == before.dtype
        assert torch.equal(tensor, before) or "original_module" in name, name
    loaded = PeftModel.from_pretrained(plain, str(seen.run.adapter)).eval()
    check_same(loaded, seen.model, AutoTokenizer.from_pretrained(seen.run.adapter))


def adapter_parameters(model: Any, lora: LoraSpec) -> set[str]:
    """The parameters that a job's LoRA asks to train, by the names of the model's own modules."""
    wanted = set()
    for path, _ in model.named_modules():
        parent, _, last = path.rpartition(".")
        if last in ("lora_A", "lora_B") and parent.rpartition(".")[2] in lora.modules:
            wanted.add(f"{path}.default.weight")
        elif last == "modules_to_save" and parent.rpartition(".")[2] in (lora.modules_to_save or ()):
            inner = model.get_submodule(path)["default"]
            wanted |= {f"{path}.default.{name}" for name, _ in inner.named_parameters()}
    return wanted


def check_merged(seen: Seen, base: Path) -> None:
    """The merged model is the adapter on a full-precision base, within float error; on disk in the job's dtype."""
    tokenizer = AutoTokenizer.from_pretrained(seen.run.model)
    adapted = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), str(seen.run.adapter)
    ).eval()
    apart, _ = answer(adapted, tokenizer)
    whole = adapted.merge_and_unload()
    together, _ = answer(whole, tokenizer)
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)
    saved = AutoModelForCausalLM.from_pretrained(seen.run.model)
    assert saved.dtype == torch.bfloat16
    check_same(saved, rounded(whole), tokenizer)


# --- the runs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("job", FAMILY)
def test_a_supervised_run_of_the_guide_trains(workplace, bases, job):
    base = bases(FAMILY[job])
    seen = trained(workplace, small(workplace, job, f"model.base={base}"))
    check_falls(seen.run)
    if seen.plan.job.method.lora is None:
        check_all_weights(seen)
    else:
        check_adapter(seen, base)
        assert seen.run.model.exists() == seen.plan.job.method.lora.merge
        if seen.plan.job.method.lora.merge:
            check_merged(seen, base)


@pytest.mark.parametrize("job", DPO)
def test_a_preference_run_of_the_guide_trains_on_what_a_supervised_run_left(workplace, bases, job):
    """The base is the job's own: models/NAME, as the run of that name leaves it."""
    name = load_job(str(REPOSITORY / "jobs" / f"{job}.yaml")).after
    supervised = small(
        workplace, DPO[job], f"name={name}", f"model.base={bases(FAMILY[DPO[job]])}", "method.epochs=1"
    )
    first = trained(workplace, supervised)
    first.run.link_model(Path(supervised.paths.models), first.run.model)
    seen = trained(workplace, small(workplace, job))
    assert seen.plan.job.model.base == f"models/{name}"
    started = weights(first.run.model)
    assert all(torch.equal(seen.first[key], tensor.float()) for key, tensor in started.items())
    losses = [line["loss"] for line in metrics(seen.run) if "loss" in line]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-3)
    assert sum(losses[-3:]) / 3 < 0.8 * losses[0]
    check_all_weights(seen)


@pytest.mark.skipif(importlib.util.find_spec("gptqmodel") is not None, reason="gptqmodel is here")
def test_the_run_on_a_gptq_base_names_the_command_that_installs_what_it_needs(workplace, bases):
    tried = workplace.attempt(small(workplace, "home-7b-gptq", f"model.base={bases('llama2')}"))
    assert tried.code is Exit.FATAL
    assert tried.reason.startswith("model.quantization: gptq needs gptqmodel and optimum")
    assert tried.reason.endswith("make gptq")
