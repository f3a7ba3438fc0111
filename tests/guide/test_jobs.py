"""The fifteen jobs have the settings of the guide's runs."""

from pathlib import Path

import pytest

from hatrain.contract.gpus import GPUS
from hatrain.contract.load import load_job
from hatrain.contract.spec import Dpo, FourBit, Gptq, JobSpec, LoraSpec

REPOSITORY = Path(__file__).parents[2]
SFT_ROWS, TEST_ROWS, DPO_ROWS = (f"data/home_assistant_{kind}.jsonl" for kind in ("train", "test", "dpo"))
MLP_AND_ATTENTION = ("up_proj", "down_proj", "q_proj", "v_proj", "o_proj")

# job: run name, base model, learning rate, batch / micro, and everything that differs from the defaults.
TABLE: dict[str, tuple[str, str, float, str, dict]] = {
    "home-phi3-mini": (
        "home-phi3-mini-rev1",
        "microsoft/Phi-3-mini-4k-instruct",
        5e-6,
        "32/8",
        {"order": "by_length", "test": True, "save": 100, "keep": 10},
    ),
    "home-3b": (
        "Home-3B-v2_ha-GGUF",
        "microsoft/phi-2",
        1e-5,
        "8/2",
        {
            "lora": LoraSpec(
                rank=32,
                alpha=64,
                modules=("fc1", "fc2", "q_proj", "v_proj", "dense"),
                modules_to_save=("embed_tokens", "lm_head"),
                merge=True,
            ),
            "pad": True,
            "chatml": True,
            "save": 1000,
        },
    ),
    "home-1b": (
        "home-1b-rev6",
        "microsoft/phi-1_5",
        1e-5,
        "8/4",
        {"pad": True, "chatml": True, "test": True, "save": 200},
    ),
    "stablehome-1_6b": (
        "stablehome-1_6b-rev3",
        "stabilityai/stablelm-2-zephyr-1_6b",
        1e-5,
        "32/2",
        {"order": "by_length", "test": True, "save": 100, "keep": 20},
    ),
    "stablehome-3b": (
        "stablehome-3b-rev10",
        "stabilityai/stablelm-zephyr-3b",
        1e-5,
        "64/2",
        {
            "gpus": 2,
            "sharding": "fsdp",
            "order": "by_length",
            "save": 50,
            "keep": 10,
            "eval": 100,
            "log": 2,
        },
    ),
    "stablehome-3b-dpo": (
        "stablehome-3b-rev9-dpo",
        "models/stablehome-3b-rev9",
        2e-7,
        "16/1",
        {"dpo": True, "after": "stablehome-3b-rev9", "save": 50, "keep": 10, "eval": 100, "log": 2},
    ),
    "stablehome-3b-lora": (
        "stablehome-3b-rev8",
        "stabilityai/stablelm-zephyr-3b",
        1e-5,
        "128/8",
        {
            "lora": LoraSpec(rank=64, alpha=128, modules=MLP_AND_ATTENTION, merge=True),
            "epochs": 2,
            "test": True,
            "save": 50,
            "keep": 20,
            "eval": 100,
            "log": 2,
        },
    ),
    "llamahome-8b": (
        "llamahome-8b-rev1",
        "NousResearch/Meta-Llama-3-8B-Instruct",
        1e-5,
        "64/2",
        {
            "lora": LoraSpec(rank=32, alpha=64, modules=MLP_AND_ATTENTION),
            "warmup": 0.03,
            "order": "by_length",
            "test": True,
            "save": 25,
            "keep": 20,
            "eval": 100,
            "log": 2,
        },
    ),
    "home-7b-gptq": (
        "home-7b-rev2",
        "TheBloke/Llama-2-7B-GPTQ",
        2e-5,
        "8/4",
        {"lora": LoraSpec(), "quantization": Gptq(kind="gptq"), "pad": True, "test": True},
    ),
    "mistralhome-bielik": (
        "mistralhome-bielik-rev1",
        "speakleash/Bielik-7B-Instruct-v0.1",
        1e-5,
        "64/4",
        {
            "lora": LoraSpec(rank=32, alpha=64, modules=MLP_AND_ATTENTION),
            "quantization": FourBit(kind="4bit", type="nf4", double=True),
            "warmup": 0.03,
            "order": "by_length",
            "test": True,
            "save": 50,
            "keep": 20,
            "eval": 200,
            "log": 1,
        },
    ),
    "tinyhome": (
        "tinyhome-rev4",
        "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
        2e-5,
        "32/8",
        {"order": "by_length", "test": True, "save": 100, "keep": 10},
    ),
    "tinyhome-qwen": (
        "tinyhome-qwen-rev3",
        "Qwen/Qwen2-0.5B-Instruct",
        2e-5,
        "64/8",
        {"order": "by_length", "test": True, "save": 1000},
    ),
    "tinyhome-polish": (
        "tinyhome-polish-rev1",
        "eryk-mazus/polka-1.1b-chat",
        2e-5,
        "32/8",
        {"order": "by_length", "test": True, "save": 100, "keep": 10},
    ),
    "tinyhome-dpo": (
        "tinyhome-rev2-dpo",
        "models/tinyhome-rev2",
        5e-7,
        "16/2",
        {
            "dpo": True,
            "after": "tinyhome-rev2",
            "warmup": 0.03,
            "save": 50,
            "keep": 10,
            "eval": 100,
            "log": 2,
        },
    ),
    "home-llama-3.2-3b": (
        "Home-Llama-3.2-3B-rev1",
        "meta-llama/Llama-3.2-3B-Instruct",
        1e-5,
        "64/2",
        {
            "checkpointing": False,
            "warmup": 0.03,
            "test": True,
            "save": 200,
            "keep": 3,
            "eval": 100,
            "log": 2,
        },
    ),
}


def settings(job: JobSpec) -> dict:
    """Flatten a job, without its GPU, into the names of the table."""
    method = job.method
    return {
        "name": job.name,
        "seed": job.seed,
        "base": job.model.base,
        "revision": job.model.revision,
        "dtype": job.with_dtype().model.dtype,
        "quantization": job.model.quantization,
        "pad": job.model.add_pad_token,
        "chatml": job.model.add_chatml_tokens,
        "train": [(rows.path, rows.weight) for rows in job.data.train],
        "test": job.data.test,
        "order": job.data.order,
        "dpo": isinstance(method, Dpo),
        "beta and loss": (method.beta, method.loss) if isinstance(method, Dpo) else None,
        "learning rate": method.learning_rate,
        "warmup": method.learning_rate_warmup,
        "schedule": method.learning_rate_schedule,
        "optimizer": method.optimizer,
        "weight decay": method.weight_decay,
        "clip": method.gradient_clip,
        "epochs": method.epochs,
        "batch": f"{method.batch_size}/{method.micro_batch_size}",
        "ctx": method.ctx_size,
        "checkpointing": method.gradient_checkpointing,
        "lora": method.lora,
        "nodes": job.hardware.nodes,
        "gpus": job.hardware.gpus_per_node,
        "sharding": job.hardware.sharding,
        "save": job.checkpoints.save_steps,
        "keep": job.checkpoints.save_total_limit,
        "eval": job.evaluation.eval_steps,
        "log": job.logging.logging_steps,
        "after": job.after,
    }


def expected(job: str) -> dict:
    """Return a row of the table, with defaults for what it does not set."""
    name, base, rate, batch, more = TABLE[job]
    defaults = {
        "name": name,
        "seed": 42,
        "base": base,
        "revision": None,
        "dtype": "bf16",
        "quantization": None,
        "pad": False,
        "chatml": False,
        "train": [(DPO_ROWS if more.get("dpo") else SFT_ROWS, 1.0)],
        "test": None,
        "order": "shuffled",
        "dpo": False,
        "beta and loss": (0.1, "sigmoid") if more.get("dpo") else None,
        "learning rate": rate,
        "warmup": 0.0,
        "schedule": "cosine",
        "optimizer": "adamw",
        "weight decay": 0.1,
        "clip": 1.0,
        "epochs": 1.0,
        "batch": batch,
        "ctx": 2048,
        "checkpointing": True,
        "lora": None,
        "nodes": 1,
        "gpus": 1,
        "sharding": "auto",
        "save": None,
        "keep": 1,
        "eval": 200,
        "log": 5,
        "after": None,
    }
    if more.get("test"):
        more = {**more, "test": TEST_ROWS}
    return {**defaults, **more}


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)


@pytest.mark.parametrize("name", TABLE)
def test_a_job_has_the_settings_of_its_row(name):
    assert settings(load_job(name)) == expected(name)


@pytest.mark.parametrize("name", TABLE)
def test_a_job_opens_with_what_it_needs_and_the_command_that_runs_it(name):
    text = (REPOSITORY / "jobs" / f"{name}.yaml").read_text(encoding="utf-8")
    header = [line for line in text.splitlines() if line.startswith("#")]
    assert header[0] == "# yaml-language-server: $schema=schema.json"
    assert any(line.startswith("#     ") and line.endswith(f"hatrain submit {name}") for line in header)
    memory = GPUS[load_job(name).hardware.gpu].name.rpartition("-")[2].removesuffix("gb")
    assert f"with {memory} GB" in " ".join(header), "the header names another memory than hardware.gpu"
    assert any("With less memory:" in line for line in header)


def test_the_base_without_a_chat_template_gets_llama_2s():
    import jinja2

    template = jinja2.Template(Path(load_job("home-7b-gptq").model.chat_template).read_text(encoding="utf-8"))
    turns = [
        ("system", "Be brief."),
        ("user", "hi"),
        ("assistant", "yes?"),
        ("user", "on"),
        ("assistant", "done"),
    ]
    messages = [{"role": role, "content": content} for role, content in turns]
    marks = {"bos_token": "<s>", "eos_token": "</s>"}
    assert template.render(messages=messages, **marks) == (
        "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nhi [/INST] yes? </s><s>[INST] on [/INST] done </s>"
    )
    assert template.render(messages=messages[1:3], **marks) == "<s>[INST] hi [/INST] yes? </s>"


@pytest.mark.parametrize("name", TABLE)
def test_a_job_plans(name, tmp_path):
    from launch.cluster_files import load_cluster
    from launch.planner import plan

    job = load_job(name)
    name_of_cluster, cluster = load_cluster("local")
    planned = plan(job, cluster, name_of_cluster, workdir=tmp_path, runs_root=tmp_path / "runs")
    batch = planned.batch
    assert batch.rows_per_step == job.method.batch_size
    assert batch.micro_batch_size * batch.accumulation * batch.ranks == job.method.batch_size
    assert planned.world_size == (2 if name == "stablehome-3b" else 1)
    assert planned.sharding == ("fsdp" if name == "stablehome-3b" else "none")


def test_the_gated_model_names_the_page_to_request_access():
    text = (REPOSITORY / "jobs" / "home-llama-3.2-3b.yaml").read_text(encoding="utf-8")
    assert "https://huggingface.co/meta-llama/Llama-3.2-3B-Instruct" in text
    assert "HF_TOKEN" in text
    assert "--language english german french spanish" in text
