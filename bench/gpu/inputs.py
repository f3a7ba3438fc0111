"""Rows of our generator, a tokenizer for them, bases of random weights, and plans of our planner."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from hatrain.contract.gpus import GPUS
from hatrain.contract.plan import Plan
from hatrain.contract.run import RunDirectory
from hatrain.contract.spec import JobSpec
from hatrain.home.generate.dataset import Recipe, generate
from hatrain.model.tiny import build_tokenizer, texts_of
from launch import cluster_files, distributed, planner

VOCABULARY = 1024
"""Of the tokenizer: few enough tokens that rows are about as long as under the tokenizers of real models."""

SHAPES: dict[str, dict[str, Any]] = {
    # TinyLlama 1.1B
    "1.1b": {
        "vocab_size": 32000,
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 22,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
    },
    # Llama 3.2 3B
    "3b": {
        "vocab_size": 128256,
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 28,
        "num_attention_heads": 24,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "tie_word_embeddings": True,
    },
    # For parts that compare instead of measuring speed.
    "small": {
        "vocab_size": 2048,
        "hidden_size": 512,
        "intermediate_size": 1408,
        "num_hidden_layers": 6,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
    },
    # A head size of 16: flex_attention needs it.
    "tiny": {
        "vocab_size": 1088,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
}


class Inputs:
    """Inputs in one folder that all parts share; each is made once, by the part that needs it first."""

    def __init__(self, work: Path, short: bool):
        self.work, self.short = work, short
        self.device = "cuda" if torch.cuda.is_available() else "cpu"

    @property
    def train(self) -> str:
        """Few: every run tokenizes them. Epochs repeat them."""
        return self._rows("train", 64 if self.short else 1500)

    @property
    def homes(self) -> str:
        """Rows of which eight each are requests of one home."""
        return self._rows("train", 64 if self.short else 1500, requests_per_home=8)

    @property
    def pairs(self) -> str:
        """Few: the reference of every pair is computed before the first step."""
        return self._rows("dpo", 16 if self.short else 256)

    def _rows(self, part: Any, count: int, requests_per_home: int = 1) -> str:
        path = self.work / f"{part}-{requests_per_home}.jsonl"
        if not path.exists():
            recipe = Recipe(("english",), requests_per_home=requests_per_home)
            whole = generate(recipe, [part], path.with_suffix(""))[part]
            with whole.open(encoding="utf-8") as stream:
                lines = [line for line, _ in zip(stream, range(count), strict=False)]
            path.write_text("".join(lines), encoding="utf-8")
        return str(path)

    def longest(self, rows: int) -> str:
        """A file of one row, the longest, so many times: every micro-batch has the same shape."""
        path = self.work / f"longest-{rows}.jsonl"
        lines = Path(self.train).read_text(encoding="utf-8").splitlines()
        path.write_text(f"{max(lines, key=len)}\n" * rows, encoding="utf-8")
        return str(path)

    def shape(self, wanted: str) -> str:
        """The short form has one shape."""
        return "tiny" if self.short else wanted

    def base(self, shape: str) -> str:
        """Write a base of random weights, made on the GPU, and return its folder."""
        folder = self.work / "bases" / shape
        if not folder.exists():
            tokenizer = build_tokenizer(texts_of(Path(self.train)), VOCABULARY)
            config = LlamaConfig(
                **SHAPES[shape],
                max_position_embeddings=4096,
                bos_token_id=None,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
            torch.manual_seed(42)
            with torch.device(self.device):
                model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
            partial = folder.with_name(f".{shape}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            model.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
            partial.rename(folder)
            del model
        return str(folder)

    def plan(self, name: str, base: str, method: dict[str, Any], *, device: str | None = None, **job: Any) -> Plan:
        """Plan a run on this GPU, or on the CPU: no test rows, no evaluation, and no checkpoints unless `job` asks for
        them. `method` may hold a `train` file instead of the generator's rows."""
        method = dict(method)
        train = method.pop("train", self.pairs if method.get("kind") == "dpo" else self.train)
        written = {
            "name": name,
            "data": {"train": train, **job.pop("data", {})},
            "method": method,
            "hardware": {
                "gpu": "cpu" if (device or self.device) == "cpu" else planned_gpu(),
                **job.pop("hardware", {}),
            },
            "checkpoints": {"save_steps": NEVER},
            "evaluation": {"requests": 0},
            "logging": {"logging_steps": NEVER},
            **job,
            "model": {"base": base, **job.get("model", {})},
        }
        cluster_name, cluster = cluster_files.load_cluster("local")
        return planner.plan(
            JobSpec.model_validate(written),
            cluster,
            cluster_name,
            workdir=self.work,
            runs_root=self.work / "runs",
            force=True,  # rows are shorter than a plan has to assume
        )


NEVER = 10**9
"""Steps."""


def planned_gpu() -> str:
    """The GPU of the planner's table whose memory is nearest to this one's."""
    _, memory = torch.cuda.mem_get_info()
    return min((gpu for gpu in GPUS.values() if gpu.bf16), key=lambda gpu: abs(gpu.memory - memory)).name


def adopt(plan: Plan) -> RunDirectory:
    """Make the run directory of a plan, in place of an earlier one."""
    run = RunDirectory(Path(plan.paths.run))
    shutil.rmtree(run.folder, ignore_errors=True)
    run.adopt(plan, distributed.files(plan))
    return run


def last_step(run: RunDirectory) -> int:
    """The last step in metrics.jsonl; 0 without one."""
    try:
        lines = run.metrics.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return 0
    steps = [0]
    for line in lines:
        try:
            steps.append(json.loads(line)["step"])
        except ValueError:  # a line that is being written
            continue
    return max(steps)
