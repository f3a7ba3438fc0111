"""Which sharding strategies work with which settings: one table of what is tested, the decision for a job, and refusals
that name what works instead. tests/train/test_strategies.py trains every combination that the table allows."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hatrain.contract.gpus import CPU
from hatrain.contract.plan import Sharding
from hatrain.contract.spec import JobSpec
from launch import token_rows

STRATEGIES = ("ddp", "fsdp", "zero1", "zero2", "zero3")
"""Strategies for several ranks. One rank shards nothing, and works with every setting except offload."""
ZERO = ("zero1", "zero2", "zero3")


@dataclass(frozen=True)
class Setting:
    """A setting that a job may have, and the strategies that are tested with it."""

    key: str
    value: str
    """Short name of the value at that key."""
    phrase: str
    """The setting in a sentence: found fsdp with …"""
    applies: Callable[[JobSpec], bool]
    works: tuple[str, ...] = STRATEGIES
    why: str = ""
    """Why it does not work with the other strategies."""


def _quantized(kind: str) -> Callable[[JobSpec], bool]:
    return lambda job: job.model.quantization is not None and job.model.quantization.kind == kind


SETTINGS = (
    Setting("method.lora", "all weights", "all weights trained", lambda job: job.method.lora is None),
    Setting("method.lora", "lora", "lora", lambda job: job.method.lora is not None),
    Setting(
        "method.lora.modules_to_save",
        "modules_to_save",
        "modules_to_save",
        lambda job: job.method.lora is not None and job.method.lora.modules_to_save is not None,
    ),
    Setting("method.kind", "sft", "kind: sft", lambda job: job.method.kind == "sft"),
    Setting("method.kind", "dpo", "kind: dpo", lambda job: job.method.kind == "dpo"),
    Setting(
        "model.add_chatml_tokens",
        "new tokens",
        "new tokens",
        lambda job: job.model.add_chatml_tokens or job.model.add_pad_token,
    ),
    Setting(
        "model.add_chatml_tokens",
        "rows of new tokens",
        "lora that trains the rows of new tokens alone",
        token_rows.trained,
        ("ddp", "fsdp", "zero1", "zero2"),
        "because it shards the matrices that they are rows of; modules_to_save: [embeddings] trains those whole",
    ),
    Setting(
        "model.quantization",
        "no quantization",
        "a base without quantization",
        lambda job: job.model.quantization is None,
    ),
    Setting(
        "model.quantization",
        "8bit",
        "an 8bit base",
        _quantized("8bit"),
        ("ddp", "zero1", "zero2"),
        "whose weights it does not shard",
    ),
    Setting(
        "model.quantization",
        "4bit",
        "a 4bit base",
        _quantized("4bit"),
        ("ddp", "zero1", "zero2"),
        "whose weights it does not shard",
    ),
    Setting(
        "model.quantization",
        "gptq",
        "a gptq base",
        _quantized("gptq"),
        ("ddp",),
        "which is not tested with it",
    ),
    Setting("method.optimizer", "adamw", "optimizer: adamw", lambda job: job.method.optimizer == "adamw"),
    *(
        Setting(
            "method.optimizer",
            optimizer,
            f"optimizer: {optimizer}",
            lambda job, optimizer=optimizer: job.method.optimizer == optimizer,  # type: ignore[misc]
            ("ddp",),
            "whose steps differ between sharded and whole weights",
        )
        for optimizer in ("adamw_8bit", "paged_adamw_8bit", "adafactor")
    ),
    Setting("model.dtype", "bf16", "dtype: bf16", lambda job: job.model.dtype == "bf16"),
    Setting("model.dtype", "fp32", "dtype: fp32", lambda job: job.model.dtype == "fp32"),
    Setting(
        "model.dtype",
        "fp16",
        "dtype: fp16",
        lambda job: job.model.dtype == "fp16",
        (),
        "which is not tested over several ranks",
    ),
    Setting("hardware.offload", "none", "offload: none", lambda job: job.hardware.offload == "none"),
    Setting(
        "hardware.offload",
        "optimizer",
        "offload: optimizer",
        lambda job: job.hardware.offload == "optimizer",
        ZERO,
        "which only DeepSpeed supports",
    ),
    Setting(
        "hardware.offload",
        "all",
        "offload: all",
        lambda job: job.hardware.offload == "all",
        ("zero3",),
        "which needs weights that DeepSpeed shards",
    ),
    Setting("hardware.compile", "no compiled layers", "compile: false", lambda job: not job.hardware.compile),
    Setting(
        "hardware.compile",
        "compiled layers",
        "compile: true",
        lambda job: job.hardware.compile,
        (),
        "which is not tested over several ranks",
    ),
    Setting("checkpoints.state", "full", "state: full", lambda job: job.checkpoints.state == "full"),
    Setting(
        "checkpoints.state",
        "sharded",
        "state: sharded",
        lambda job: job.checkpoints.state == "sharded",
        ("fsdp", "zero3"),
        "because each rank has all weights",
    ),
    Setting("evaluation.keep", "best look", "keep: best", lambda job: job.evaluation.keep == "best"),
    Setting("evaluation.metric", "loss", "metric: loss", lambda job: not job.evaluation.asks),
    Setting(
        "evaluation.metric",
        "accuracy",
        "metric: accuracy",
        lambda job: job.evaluation.asks,
        ("ddp", "zero1", "zero2"),
        "where no rank has all weights to answer requests with",
    ),
    Setting(
        "hardware.gpu",
        "processors",
        "gpu: cpu",
        lambda job: job.hardware.gpu == CPU,
        ("ddp", *ZERO),
        "because it shards over GPUs only",
    ),
    Setting("hardware.nodes", "several nodes", "several nodes", lambda job: job.hardware.nodes > 1),
)
"""The table. `works` contains only strategies that a test trains with the setting."""


@dataclass(frozen=True)
class Pair:
    """One cell of the matrix: a strategy and a setting."""

    strategy: str
    key: str
    what: str
    """Short name of the value at `key`."""
    works: bool
    why: str
    """Why not, and what to write instead; empty if it works."""


def matrix() -> list[Pair]:
    return [
        Pair(strategy, setting.key, setting.value, strategy in setting.works, _instead(strategy, setting))
        for setting in SETTINGS
        for strategy in STRATEGIES
    ]


def ranks(job: JobSpec) -> int:
    """Processes that train, over all nodes."""
    return job.hardware.nodes * job.hardware.gpus_per_node


def decided(job: JobSpec) -> Sharding:
    """The strategy of a job.

    `auto` is ddp: if a model fits, nothing is faster, and only ddp works with every base and optimizer. Whether the
    model fits is not checked here, and which of the other strategies is fastest depends on the links between GPUs.
    """
    sharding = job.hardware.sharding
    if ranks(job) == 1:
        return "none"
    return "ddp" if sharding == "auto" else sharding


def refusals(job: JobSpec) -> Iterator[tuple[str, str]]:
    """(key, reason) of each setting that does not work with the job's strategy, with what does."""
    key, sharding, count, strategy = "hardware.sharding", job.hardware.sharding, ranks(job), decided(job)
    if count == 1:
        if job.hardware.offload not in ("none", "auto"):
            yield (
                "hardware.offload",
                f"found {job.hardware.offload} with one rank, which trains without DeepSpeed; write none, or several "
                f"ranks with {_joined(ZERO, 'or')}",
            )
        return
    if strategy == "none":
        yield (
            key,
            f"found none with {count} ranks, which would train {count} separate models; write "
            f"{_joined([*STRATEGIES, 'auto'], 'or')}",
        )
        return
    found = strategy if sharding == strategy else f"{sharding}, which is {strategy},"
    for setting in SETTINGS:
        if setting.applies(job) and strategy not in setting.works:
            yield key, f"found {found} with {setting.phrase}, {_instead(strategy, setting)}"


def _instead(strategy: str, setting: Setting) -> str:
    """Why a pair does not work, and the pairs that do."""
    if strategy in setting.works:
        return ""
    values = [other.value for other in SETTINGS if other.key == setting.key and strategy in other.works]
    pairs = [f"{strategy} works with {_joined(values, 'and')}"] if values else []
    pairs.append(
        f"{setting.value} with {_joined(setting.works, 'or')}"
        if setting.works
        else f"{setting.value} with one rank only"
    )
    return f"{setting.why}; {', and '.join(pairs)}"


def _joined(items: Sequence[str], conjunction: str) -> str:
    return f" {conjunction} ".join(part for part in (", ".join(items[:-1]), items[-1]) if part)
