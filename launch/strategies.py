"""Which sharding strategy goes with what a job asks for: one table of what is shown to work; what is decided for a job
from it, and what is refused, with the pairs that work. tests/train/test_strategies.py trains every pair it grants."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from hatrain.contract.gpus import CPU
from hatrain.contract.plan import Sharding
from hatrain.contract.spec import JobSpec

STRATEGIES = ("ddp", "fsdp", "zero1", "zero2", "zero3")
"""The ways to spread a run over several ranks. One rank spreads nothing and goes with everything but offload."""
ZERO = ("zero1", "zero2", "zero3")


@dataclass(frozen=True)
class Ask:
    """One thing that a job may ask for, and the strategies that are shown to work with it."""

    key: str
    """The key of a job that asks for it."""
    value: str
    """What stands at that key, in a word."""
    what: str
    """The same, as a sentence says it: found fsdp with …"""
    of: Callable[[JobSpec], bool]
    """Whether a job asks for it."""
    works: tuple[str, ...] = STRATEGIES
    why: str = ""
    """Why it does not go with the others."""


def _quantized(kind: str) -> Callable[[JobSpec], bool]:
    return lambda job: job.model.quantization is not None and job.model.quantization.kind == kind


ASKS = (
    Ask("method.lora", "all weights", "all weights trained", lambda job: job.method.lora is None),
    Ask("method.lora", "lora", "lora", lambda job: job.method.lora is not None),
    Ask(
        "method.lora.modules_to_save",
        "modules_to_save",
        "modules_to_save",
        lambda job: job.method.lora is not None and job.method.lora.modules_to_save is not None,
    ),
    Ask("method.kind", "sft", "kind: sft", lambda job: job.method.kind == "sft"),
    Ask("method.kind", "dpo", "kind: dpo", lambda job: job.method.kind == "dpo"),
    Ask(
        "model.add_chatml_tokens",
        "new tokens",
        "new tokens",
        lambda job: job.model.add_chatml_tokens or job.model.add_pad_token,
    ),
    Ask(
        "model.quantization",
        "no quantization",
        "a base that is not quantised",
        lambda job: job.model.quantization is None,
    ),
    Ask(
        "model.quantization",
        "8bit",
        "an 8bit base",
        _quantized("8bit"),
        ("ddp", "zero1", "zero2"),
        "whose weights it would not shard",
    ),
    Ask(
        "model.quantization",
        "4bit",
        "a 4bit base",
        _quantized("4bit"),
        ("ddp", "zero1", "zero2"),
        "whose weights it would not shard",
    ),
    Ask(
        "model.quantization",
        "gptq",
        "a gptq base",
        _quantized("gptq"),
        ("ddp",),
        "which is not shown to work",
    ),
    Ask("method.optimizer", "adamw", "optimizer: adamw", lambda job: job.method.optimizer == "adamw"),
    *(
        Ask(
            "method.optimizer",
            optimizer,
            f"optimizer: {optimizer}",
            lambda job, optimizer=optimizer: job.method.optimizer == optimizer,  # type: ignore[misc]
            ("ddp",),
            "which takes another step on parts of weights than on whole ones",
        )
        for optimizer in ("adamw_8bit", "paged_adamw_8bit", "adafactor")
    ),
    Ask("model.dtype", "bf16", "dtype: bf16", lambda job: job.model.dtype == "bf16"),
    Ask("model.dtype", "fp32", "dtype: fp32", lambda job: job.model.dtype == "fp32"),
    Ask(
        "model.dtype",
        "fp16",
        "dtype: fp16",
        lambda job: job.model.dtype == "fp16",
        (),
        "which is not shown to work over several ranks",
    ),
    Ask("hardware.offload", "none", "offload: none", lambda job: job.hardware.offload == "none"),
    Ask(
        "hardware.offload",
        "optimizer",
        "offload: optimizer",
        lambda job: job.hardware.offload == "optimizer",
        ZERO,
        "which DeepSpeed alone does",
    ),
    Ask(
        "hardware.offload",
        "all",
        "offload: all",
        lambda job: job.hardware.offload == "all",
        ("zero3",),
        "which takes weights that are spread by DeepSpeed",
    ),
    Ask("checkpoints.state", "full", "state: full", lambda job: job.checkpoints.state == "full"),
    Ask(
        "checkpoints.state",
        "sharded",
        "state: sharded",
        lambda job: job.checkpoints.state == "sharded",
        ("fsdp", "zero3"),
        "for each rank has all weights",
    ),
    Ask(
        "hardware.gpu",
        "processors",
        "gpu: cpu",
        lambda job: job.hardware.gpu == CPU,
        ("ddp", *ZERO),
        "and it shards over GPUs alone",
    ),
    Ask("hardware.nodes", "several nodes", "several nodes", lambda job: job.hardware.nodes > 1),
)
"""The table. A pair that no test trains stands in no `works`."""


@dataclass(frozen=True)
class Pair:
    """One cell of the matrix."""

    strategy: str
    key: str
    what: str
    """The value at `key`, in a word."""
    works: bool
    why: str
    """Why not, and what to write instead; empty where it works."""


def matrix() -> list[Pair]:
    """Return every pair of a strategy and something that a job may ask for, in the order of the table."""
    return [
        Pair(strategy, ask.key, ask.value, strategy in ask.works, _instead(strategy, ask))
        for ask in ASKS
        for strategy in STRATEGIES
    ]


def ranks(job: JobSpec) -> int:
    """Return the processes that train, over all nodes."""
    return job.hardware.nodes * job.hardware.gpus_per_node


def decided(job: JobSpec) -> Sharding:
    """Return the strategy of a job; one rank shards nothing.

    auto is ddp: where a model fits, nothing is faster, and it alone goes with every base and optimizer. Whether it fits
    is not looked at here, and which of the others costs least depends on the links between GPUs.
    """
    asked = job.hardware.sharding
    if ranks(job) == 1:
        return "none"
    return "ddp" if asked == "auto" else asked


def refusals(job: JobSpec) -> Iterator[tuple[str, str]]:
    """Yield (key, reason) of what a job's strategy does not go with, with the pairs that work."""
    key, asked, count, strategy = "hardware.sharding", job.hardware.sharding, ranks(job), decided(job)
    if count == 1:
        if job.hardware.offload != "none":
            yield (
                "hardware.offload",
                f"found {job.hardware.offload} with one rank, which trains without DeepSpeed; write none, or several "
                f"ranks with {_or(ZERO)}",
            )
        return
    if strategy == "none":
        yield (
            key,
            f"found none with {count} ranks, which would train {count} models apart; write "
            f"{_or([*STRATEGIES, 'auto'])}",
        )
        return
    found = strategy if asked == strategy else f"{asked}, which is {strategy},"
    for ask in ASKS:
        if ask.of(job) and strategy not in ask.works:
            yield key, f"found {found} with {ask.what}, {_instead(strategy, ask)}"


def _instead(strategy: str, ask: Ask) -> str:
    """Return why a pair does not work, and the pairs that do."""
    if strategy in ask.works:
        return ""
    beside = [other.value for other in ASKS if other.key == ask.key and strategy in other.works]
    pairs = [f"{strategy} goes with {_and(beside)}"] if beside else []
    pairs.append(f"{ask.value} with {_or(ask.works)}" if ask.works else f"{ask.value} with one rank alone")
    return f"{ask.why}; {', and '.join(pairs)}"


def _and(words: Iterable[str]) -> str:
    return _listed(list(words), "and")


def _or(words: Iterable[str]) -> str:
    return _listed(list(words), "or")


def _listed(words: list[str], word: str) -> str:
    return f" {word} ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)
