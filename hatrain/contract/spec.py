"""The schema of a job: which model, which method, which hardware. `load.py` reads files into it."""

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from hatrain.contract.gpus import CPU, GPUS, MPS
from hatrain.contract.trackers import TRACKERS
from hatrain.errors import nearest


class Model(BaseModel):
    """Base of every part of the contract: frozen, and unknown keys are refused."""

    # defer_build: a part is compiled once, inside the model that uses it, and not a second time on its own.
    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False, defer_build=True
    )


# --- values with several spellings ----------------------------------------------------------


def seconds(duration: str) -> int:
    """Return a duration in seconds: `24:00:00`, `1-12:00:00` (days), or a number with s, m, h or d.

    Raises ValueError for anything else. A bare number is refused: Slurm reads it as minutes, others as seconds.
    """
    text = duration.strip()
    if clock := re.fullmatch(r"(?:(\d+)-)?(\d{1,3}):(\d{2}):(\d{2})", text):
        days, hours, minutes, rest = (int(part or 0) for part in clock.groups())
        if minutes < 60 and rest < 60:
            return ((days * 24 + hours) * 60 + minutes) * 60 + rest
    elif unit := re.fullmatch(r"(\d+)\s*([smhd])", text):
        return int(unit[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit[2]]
    raise ValueError("a duration such as 24:00:00, 1-12:00:00, 90m, 24h or 2d (a bare number has no unit)")


def _duration(value: str) -> str:
    total = seconds(value)
    if total == 0:
        raise ValueError("a duration above zero")
    return f"{total // 3600:02d}:{total // 60 % 60:02d}:{total % 60:02d}"


def _name(value: str) -> str:
    if not re.fullmatch(_NAME, value):
        raise ValueError("up to 100 of letters, digits, '.', '_' and '-', the first a letter or a digit")
    return value


_GPU_NAMES = (*GPUS, CPU, MPS)


def _gpu(name: str) -> str:
    if name not in _GPU_NAMES:
        raise ValueError(f"one of {', '.join(_GPU_NAMES)}{nearest(name, _GPU_NAMES)}")
    return name


def _ids(value: Any) -> Any:
    """Accept the training guide's comma-separated token ids, also with blanks."""
    return re.split(r"\s*,\s*|\s+", value.strip()) if isinstance(value, str) else value


def _kind(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


def _path(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


def _paths(value: Any) -> Any:
    return [_path(item) for item in value] if isinstance(value, list | tuple) else [_path(value)]


def _words(value: Any) -> Any:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"

Name = Annotated[str, AfterValidator(_name), Field(json_schema_extra={"pattern": _NAME})]
Duration = Annotated[str, AfterValidator(_duration)]
TokenIds = Annotated[
    tuple[NonNegativeInt, ...],
    Field(min_length=1),
    BeforeValidator(_ids, json_schema_input_type=list[int] | str),
]
Words = Annotated[tuple[str, ...], Field(min_length=1), BeforeValidator(_words, json_schema_input_type=list[str] | str)]
Packing = Literal["tree", "plain", "off"]
Offload = Literal["none", "optimizer", "all"]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Rows = Annotated[int, Field(gt=0, le=1_000_000)]


# --- model --------------------------------------------------------------------------------------------------


class EightBit(Model):
    """LLM.int8() of bitsandbytes."""

    kind: Literal["8bit"]


class FourBit(Model):
    """4-bit weights of bitsandbytes."""

    kind: Literal["4bit"]
    type: Literal["nf4", "fp4"] = "nf4"
    """The 4-bit data type."""
    double: bool = True
    """Quantise the quantisation constants as well."""


class Gptq(Model):
    """A base that is already quantised with GPTQ, as its own configuration describes."""

    kind: Literal["gptq"]


Quantization = Annotated[
    EightBit | FourBit | Gptq,
    Field(discriminator="kind"),
    BeforeValidator(
        _kind,
        json_schema_input_type=Literal["8bit", "4bit", "gptq"]
        | Annotated[EightBit | FourBit | Gptq, Field(discriminator="kind")],
    ),
]


class ModelSpec(Model):
    """Which base model is trained, and how it is loaded."""

    base: Annotated[str, Field(min_length=1)]
    """Hub id, folder, or `runs/NAME` / `models/NAME` of an earlier run."""
    revision: str | None = None
    """Branch, tag or commit on the hub. The commit of the first attempt is recorded, and later attempts use it."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model."""
    dtype: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    """Of compute and of frozen weights. Trained weights are fp32. auto is bf16 on GPUs that have it, else fp32; a run
    keeps what it began with."""
    quantization: Quantization | None = None
    """Load the frozen base in fewer bits: 8bit, 4bit or gptq."""
    add_pad_token: bool = False
    """Give the tokenizer a pad token of its own."""
    add_chatml_tokens: bool = False
    """Add <|im_start|> and <|im_end|>, and the ChatML template. With method.lora their rows of the embeddings are
    trained and no others, unless modules_to_save trains the matrices."""
    chat_template: str | None = None
    """A Jinja file with the chat template, when the tokenizer has none."""
    chat_template_kwargs: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """Switches of the chat template, such as enable_thinking: true. Thinking is off unless it is set here."""


# --- data ---------------------------------------------------------------------------------------------------


class DatasetSpec(Model):
    """One file of rows."""

    path: Annotated[str, Field(min_length=1)]
    """JSON, JSON Lines (also gzip) or Parquet; relative to where the job was submitted."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """How often its rows are seen in an epoch, on average: 2 twice, 0.5 every second row."""


class DataSpec(Model):
    """Which rows are trained on, and how replies are found in them."""

    train: Annotated[
        tuple[DatasetSpec, ...],
        Field(min_length=1),
        BeforeValidator(_paths, json_schema_input_type=str | DatasetSpec | list[str | DatasetSpec]),
    ]
    """A path, or a list of {path, weight}."""
    test: str | None = None
    """Rows for the test loss and the evaluation. They are never trained on."""
    order: Literal["shuffled", "by_length", "by_prefix"] = "shuffled"
    """by_length puts rows of similar length into one step, which needs less padding; by_prefix puts rows that begin
    alike into one step, which tree packing trains faster."""
    prefix_ids: TokenIds | None = None
    """Token ids before a reply; found from the chat template when null."""
    suffix_ids: TokenIds | None = None
    """Token ids that end a reply; found from the chat template when null."""
    on_overlong: Literal["drop", "error"] = "drop"
    """What to do with a row longer than ctx_size. Rows are never truncated."""

    @model_validator(mode="after")
    def _both_ids(self) -> "DataSpec":
        if (self.prefix_ids is None) != (self.suffix_ids is None):
            raise ValueError("prefix_ids and suffix_ids together, or neither")
        return self


# --- method -------------------------------------------------------------------------------------------------


class LoraSpec(Model):
    """Low-rank adapters on a frozen base."""

    rank: Annotated[int, Field(gt=0, le=65_536)] = 4
    """Rank of each adapter."""
    alpha: Annotated[float, Field(gt=0)] = 32
    """Scale: an adapter's output is multiplied by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Dropout on an adapter's inputs."""
    modules: Words | None = None
    """Module names, or mlp, attention, embeddings; the architecture's default when null."""
    modules_to_save: Words | None = None
    """Modules trained whole and saved beside the adapter."""
    merge: bool = False
    """Merge the adapters into a full-precision base at the end, so that model/ loads without peft."""


class _Method(Model):
    learning_rate: Annotated[float, Field(gt=0)] = 1e-5
    """Peak learning rate."""
    learning_rate_warmup: Share = 0.0
    """Warm-up, as a share of all steps."""
    learning_rate_schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """After the warm-up; cosine and linear end at 0."""
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit", "adafactor"] = "adamw"
    """8-bit optimizers keep their state in a quarter of the memory."""
    weight_decay: NonNegativeFloat = 0.1
    """Decoupled weight decay."""
    gradient_clip: NonNegativeFloat = 1.0
    """Largest gradient norm; 0 does not clip."""
    skip_steps: NonNegativeInt = 0
    """Steps whose loss or gradient is not a finite number that a run may skip before it ends with an error."""
    epochs: Annotated[float, Field(gt=0, le=1_000_000)] = 1
    """Passes over the training rows."""
    max_steps: PositiveInt | None = None
    """Optimizer steps at most: a run ends after so many, also within an epoch; null trains all epochs."""
    batch_size: Rows = 8
    """Rows per optimizer step, over all GPUs."""
    micro_batch_size: Rows | Literal["auto"] = 2
    """Rows per GPU per micro-batch."""
    ctx_size: Annotated[int, Field(ge=8, le=10_000_000)] = 2048
    """Longest row in tokens."""
    gradient_checkpointing: bool | Literal["auto"] = True
    """Recompute activations in the backward pass: a quarter slower, far less memory."""
    packing: Literal[Packing, "auto"] = "auto"
    """How rows are laid out in a micro-batch: tree trains what several begin with once, plain packs rows without
    sharing, off pads them; auto is the fastest that is right for the model. It changes speed and no result."""
    lora: LoraSpec | None = None
    """Train low-rank adapters instead of all weights."""

    @property
    def mixes_rows(self) -> bool:
        """Whether the loss of a row depends on the rows beside it, so that packs would change the result."""
        return False


class Sft(_Method):
    """Supervised fine-tuning on the replies."""

    kind: Literal["sft"] = "sft"


MIXING_LOSSES = ("aot", "aot_unpaired", "sft")
"""TRL's losses that look at several pairs at once: the first two sort them, sft is a mean over tokens."""


class Dpo(_Method):
    """Direct preference optimization on pairs of a chosen and a rejected reply."""

    kind: Literal["dpo"]
    beta: Annotated[float, Field(gt=0)] = 0.1
    """How strongly the model is kept near the reference."""
    loss: Literal[
        "sigmoid",
        "hinge",
        "ipo",
        "exo_pair",
        "nca_pair",
        "robust",
        "bco_pair",
        "sppo_hard",
        "aot",
        "aot_unpaired",
        "apo_zero",
        "apo_down",
        "discopop",
        "sft",
        "sigmoid_norm",
    ] = "sigmoid"
    """TRL's name of the loss."""

    @property
    def mixes_rows(self) -> bool:
        return self.loss in MIXING_LOSSES


def _method(value: Any) -> Any:
    return {"kind": "sft", **value} if isinstance(value, dict) and "kind" not in value else value


Method = Annotated[
    Sft | Dpo,
    Field(discriminator="kind"),
    BeforeValidator(_method, json_schema_input_type=Annotated[Sft | Dpo, Field(discriminator="kind")]),
]


# --- hardware, and the rest of a run ------------------------------------------------------------------------


class HardwareSpec(Model):
    """What the job needs. A cluster file has the cluster's own names for it."""

    nodes: Annotated[int, Field(gt=0, le=100_000)] = 1
    """Machines."""
    gpus_per_node: Annotated[int, Field(gt=0, le=1024)] = 1
    """GPUs on each machine; the number of processes with `gpu: cpu`."""
    gpu: Annotated[str, AfterValidator(_gpu), Field(json_schema_extra={"enum": [*_GPU_NAMES]})]
    """A name with known memory and speed, or cpu; or mps, which is untested."""
    sharding: Literal["none", "ddp", "fsdp", "zero1", "zero2", "zero3", "auto"] = "auto"
    """How weights, gradients and optimizer state are sharded over the GPUs."""
    offload: Literal[Offload, "auto"] = "none"
    """Keep optimizer state, or weights too, in CPU memory: slower, and only with zero1 to zero3. auto does so where
    nothing else fits."""
    compile: bool = False
    """Compile the model's layers: faster steps with less memory, after a minute or so at the start. One rank only."""

    @property
    def is_cuda(self) -> bool:
        """Whether the job runs on GPUs whose memory and speed are known."""
        return self.gpu in GPUS


class CheckpointSpec(Model):
    """When checkpoints are saved, and how many are kept."""

    save_steps: PositiveInt | Literal["auto"] | None = None
    """Optimizer steps between checkpoints; null saves at the end of each epoch, auto as often as loses the least time
    at the cluster's mean time between failures."""
    save_total_limit: PositiveInt = 1
    """Newest checkpoints kept."""
    state: Literal["full", "sharded"] = "full"
    """sharded: each GPU writes its own part of the weights. Nothing is gathered, and the checkpoint cannot be
    evaluated."""
    sync_to: str | None = None
    """A folder or a bucket such as s3://NAME to copy checkpoints, the model and exported files to."""


class EvaluationSpec(Model):
    """How the test rows are used."""

    eval_steps: PositiveInt = 200
    """Optimizer steps between two test losses."""
    sample: PositiveInt | Literal["all"] = 256
    """Rows for the test loss before, during and after training, drawn at random once; all takes the whole test set."""
    requests: NonNegativeInt = 200
    """Test requests that the model answers before and after training; 0 for none."""
    keep: Literal["last", "best"] = "last"
    """Which weights become the model: those of the last step, or those of the best look by `metric`. A look is a test
    loss during training."""
    metric: Literal["loss", "accuracy"] = "loss"
    """What makes a look the best: the lowest test loss, or the highest strict accuracy of as many test requests as
    `requests`, which the model then answers at every look."""
    stop_after: PositiveInt | None = None
    """End training after so many looks in a row without gain; null trains all epochs."""

    @property
    def asks(self) -> bool:
        """Whether the model answers requests during training."""
        return self.metric == "accuracy"

    @property
    def chooses(self) -> bool:
        """Whether something depends on which look is the best."""
        return self.keep == "best" or self.stop_after is not None

    def ends_by(self) -> dict[str, Any]:
        """Return what decides when training ends, where `stop_after` is set."""
        keys = {"stop_after", "metric", "eval_steps", "requests" if self.asks else "sample"}
        return self.model_dump(mode="json", include=keys)


GGUF_TYPES = ("f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_k_s", "q4_0", "q3_k_m")
"""Types of GGUF files, the largest first: llama.cpp's names in lower case."""


def _gguf_type(name: str) -> str:
    if name not in GGUF_TYPES:
        raise ValueError(f"one of {', '.join(GGUF_TYPES)}{nearest(name, GGUF_TYPES)}")
    return name


def _largest_first(value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in GGUF_TYPES if name in value)


GgufTypes = Annotated[
    tuple[Annotated[str, AfterValidator(_gguf_type), Field(json_schema_extra={"enum": [*GGUF_TYPES]})], ...],
    Field(min_length=1),
    AfterValidator(_largest_first),
    BeforeValidator(_words, json_schema_input_type=list[str] | str),
]


class ExportSpec(Model):
    """What is written for llama.cpp and Ollama after the evaluation. It is checked and judged."""

    gguf: GgufTypes
    """Types of GGUF files, such as [f16, q8_0, q4_k_m]."""
    ollama: bool = False
    """Write a Modelfile for Ollama beside the smallest file."""
    requests: NonNegativeInt = 50
    """Test requests that the model and each file answer, to compare them; 0 for none."""


def _tracker(name: str) -> str:
    if name not in TRACKERS:
        raise ValueError(f"one of {', '.join(TRACKERS)}{nearest(name, TRACKERS)}")
    return name


def _each_once(value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value))


Trackers = Annotated[
    tuple[Annotated[str, AfterValidator(_tracker), Field(json_schema_extra={"enum": [*TRACKERS]})], ...],
    AfterValidator(_each_once),
    BeforeValidator(_words, json_schema_input_type=list[Literal["tensorboard", "wandb", "mlflow", "trackio"]] | str),
]


class LoggingSpec(Model):
    """How often metrics are logged, and where to."""

    logging_steps: PositiveInt = 5
    """Optimizer steps between two logged lines."""
    trackers: Trackers = ("tensorboard",)
    """Programs that show logged steps, beside the run's own metrics.jsonl: tensorboard, wandb, mlflow, trackio; [] for
    none. Their keys and addresses come from the environment."""


class LimitsSpec(Model):
    """How long an attempt may take, and how many there may be."""

    time: Duration | Literal["auto"] = "24:00:00"
    """Longest time of one attempt; auto is half as much again as the plan's estimate."""
    retries: NonNegativeInt = 3
    """Consecutive attempts after the first that may fail and seal no checkpoint. Those that a scheduler ended are
    counted apart."""
    hang: Duration | Literal["auto"] = "auto"
    """How long all ranks of a node may show no progress before the attempt ends as hung; auto is ten times the slowest
    step so far, and at least five minutes."""


class JobSpec(Model):
    """One run: which model, which method, which hardware."""

    name: Name
    """The run's name, and the name of its folder."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    """For the order of rows, dropout and new weights."""
    model: ModelSpec
    data: DataSpec
    method: Method = Field(default_factory=Sft)
    hardware: HardwareSpec
    checkpoints: CheckpointSpec = Field(default_factory=CheckpointSpec)
    evaluation: EvaluationSpec = Field(default_factory=EvaluationSpec)
    export: ExportSpec | None = None
    """GGUF files for llama.cpp and Ollama, after the evaluation; nothing when null."""
    logging: LoggingSpec = Field(default_factory=LoggingSpec)
    limits: LimitsSpec = Field(default_factory=LimitsSpec)
    after: Name | None = None
    """A run that must finish before this one starts."""

    def with_dtype(self, earlier: "JobSpec | None" = None) -> "JobSpec":
        """Decide `model.dtype: auto`: as in the `earlier` job of the run, else by the GPU."""
        if self.model.dtype != "auto":
            return self
        gpu = GPUS.get(self.hardware.gpu)
        dtype = earlier.with_dtype().model.dtype if earlier else "bf16" if gpu and gpu.bf16 else "fp32"
        return self.model_copy(update={"model": self.model.model_copy(update={"dtype": dtype})})

    def identity_parts(self) -> dict[str, Any]:
        """Return what changes the trained weights: two jobs that agree in it are the same run.

        A key that is not in `_IDENTITY_KEYS`, one that was added later, counts only where it differs from its default,
        so that new keys do not change the identity of old runs. With `evaluation.stop_after` the looks decide how long
        training lasts, and what they depend on counts too.
        """
        job = self.with_dtype()
        parts = job.model_dump(mode="json", include={"model", "data", "seed", "method"})
        parts = {name: _identity_of(getattr(job, name), part, name) for name, part in parts.items()}
        return parts | ({"evaluation": self.evaluation.ends_by()} if self.evaluation.stop_after else {})

    def identity(self) -> str:
        """Return the SHA-256 of `identity_parts`, in hexadecimal."""
        text = json.dumps(self.identity_parts(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


_IDENTITY_KEYS = {
    "model": "base revision trust_remote_code dtype quantization add_pad_token add_chatml_tokens chat_template",
    "model.quantization": "kind type double",
    "data": "train test order prefix_ids suffix_ids on_overlong",
    "data.train": "path weight",
    "method": "kind learning_rate learning_rate_warmup learning_rate_schedule optimizer weight_decay gradient_clip "
    "epochs batch_size ctx_size lora beta loss",
    "method.lora": "rank alpha dropout modules modules_to_save merge",
}
"""The keys of the first version's identity, which always count. Never change this table."""
_NOT_IDENTITY = {"method": ("micro_batch_size", "packing", "gradient_checkpointing")}
"""Matters of speed and memory alone."""


def _identity_of(value: Any, dumped: Any, key: str) -> Any:
    if isinstance(value, tuple):
        return [_identity_of(item, part, key) for item, part in zip(value, dumped, strict=True)]
    if not isinstance(value, Model):
        return dumped
    parts, dumped = {}, value.model_dump(mode="json")
    for name, field in type(value).model_fields.items():
        item, default = getattr(value, name), field.get_default(call_default_factory=True)
        later = name not in _IDENTITY_KEYS.get(key, "").split()
        if name in _NOT_IDENTITY.get(key, ()) or (later and item == default):
            continue
        parts[name] = _identity_of(item, dumped[name], f"{key}.{name}")
    return parts


SWEPT = ("model", "data", "method")
"""Parts of a job in which the runs of a sweep may differ, beside the seed."""


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of nested mappings. A list is one value."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from leaves(item, f"{key}.{name}" if key else name)
    else:
        yield key, value


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a job file, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **JobSpec.model_json_schema()}
