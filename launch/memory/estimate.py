"""Peak bytes of one GPU, by part: the largest of the few moments of a step at which memory can peak."""

from collections.abc import Mapping
from dataclasses import dataclass

from hatrain.contract.plan import NOT_TENSORS, Sharding
from hatrain.contract.spec import Dpo, JobSpec
from launch.memory.activations import BYTES, FP32, WRITTEN_OUT, kept
from launch.memory.structure import Adapters, Structure, adapters, quantized_bytes

MIB = 2**20
LOGIT_BYTES = 2**29
"""Bytes of fp32 logits at a time, as in hatrain/train/log_probabilities.py."""
TEST_ROWS = 8
"""Test rows in a forward pass, as in hatrain/train/trainer.py."""
CONTEXT = 800 * MIB
"""Of CUDA: the driver's context, the kernels that are loaded, and cuBLAS' work space: 750 to 780 MiB on an H200."""
NCCL = 700 * MIB
"""Buffers of a communicator over several GPUs."""
FRAGMENTATION = 0.03
"""Of what is allocated: free space that the allocator holds and cannot use."""
DDP_BUCKETS = 1
"""Copies of the gradients that DDP keeps for its all-reduce."""
ZERO_BUCKET = 4 * 50_000_000
"""Bytes of one communication buffer of DeepSpeed, as in launch/distributed.py."""
SHARDED: dict[str, tuple[str, ...]] = {
    "none": (),
    "ddp": (),
    "fsdp": ("weights", "gradients", "optimizer"),
    "zero1": ("optimizer",),
    "zero2": ("gradients", "optimizer"),
    "zero3": ("weights", "gradients", "optimizer"),
}
"""What each strategy divides by the number of ranks."""


@dataclass(frozen=True)
class Layout:
    """How a job runs, as far as memory depends on it."""

    micro_batch: int
    """Rows of one rank."""
    accumulation: int
    """Micro-batches of a step."""
    checkpointing: bool
    sharding: Sharding = "none"
    ranks: int = 1
    offload: str = "none"


@dataclass(frozen=True)
class Estimate:
    """Bytes of one GPU at the moment of a step that needs most, by part."""

    parts: Mapping[str, int]
    moment: str

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    @property
    def allocated(self) -> int:
        """What torch.cuda.max_memory_allocated reports."""
        return sum(size for name, size in self.parts.items() if name not in NOT_TENSORS)


def estimate(
    model: Structure, job: JobSpec, layout: Layout, *, tokens: int | None = None, labels: int | None = None
) -> Estimate:
    """Return the peak of a job on one GPU.

    `tokens` are those of a micro-batch, by default as many as it may hold; `labels` those that are predicted, by
    default all of them. Raises NotKnown for modules whose size is not known.
    """
    method, dtype = job.method, BYTES[job.model.dtype]
    lora = method.lora
    adapted = adapters(model, lora) if lora else None
    sides = 2 if isinstance(method, Dpo) else 1
    tokens = tokens or sides * layout.micro_batch * method.ctx_size
    labels = min(labels or tokens, tokens)
    trained = adapted.weights(model.layers) if adapted else model.weights
    held = _weights(model, job, adapted)
    optimizer = _optimizer(model, job, adapted, trained)
    gradients = FP32 * trained
    divide = dict.fromkeys(SHARDED[layout.sharding], layout.ranks)
    held = {name: size // divide.get("weights", 1) for name, size in held.items()}
    optimizer //= divide.get("optimizer", 1)
    if layout.offload != "none":
        optimizer = 0
    if layout.offload == "all":
        held = dict.fromkeys(held, 0)
    layout_share = divide.get("gradients", 1)
    gradients //= divide.get("gradients", 1)
    state = {**held, "optimizer": optimizer}
    sharing = {"communication": _communication(model, layout, trained, dtype)}
    shapes = _Shapes(model, job, layout, adapted, tokens, labels, dtype)
    steady = {**state, **sharing}
    moments = {
        "end of the forward pass": {
            **steady,
            "gradients": gradients if layout.accumulation > 1 else 0,
            "copies of weights": shapes.copies,
            "activations": shapes.kept,
            "logits": shapes.logits(10),
        },
        "backward pass of the output head": {
            **steady,
            "gradients": (gradients if layout.accumulation > 1 else 0) + shapes.head_gradient(2),
            "copies of weights": shapes.head_copy if layout.checkpointing else shapes.copies,
            "activations": shapes.kept,
            "logits": shapes.logits(12),
        },
        "backward pass of the last layer": {
            **steady,
            "gradients": (gradients + shapes.tied_gradient if layout.accumulation > 1 else shapes.head_gradient(FP32)),
            "copies of weights": shapes.layer_copy if layout.checkpointing else shapes.copies,
            "activations": shapes.kept + shapes.recomputed(shapes.last_layer) + shapes.backward(labels),
        },
        "backward pass of the layer before the last": {
            **steady,
            "gradients": (gradients + shapes.tied_gradient if layout.accumulation > 1 else shapes.head_gradient(FP32)),
            "copies of weights": shapes.layer_copy if layout.checkpointing else shapes.copies,
            "activations": shapes.kept_before_last + shapes.recomputed(shapes.layer) + shapes.backward(tokens),
        },
        "backward pass of the first layer": {
            **steady,
            "gradients": gradients - (0 if layout.accumulation > 1 else shapes.not_computed_yet // layout_share),
            "copies of weights": shapes.layer_copy,
            "activations": shapes.layer + shapes.backward(tokens),
        },
        "end of the backward pass": {
            **steady,
            "gradients": gradients + (shapes.embedding_gradient if layout.accumulation > 1 or model.tied else 0),
        },
    }
    if job.data.test or sides == 2:
        for part, size in shapes.test(sides).items():
            moments[f"test loss, {part}"] = {**steady, "copies of weights": shapes.copies, part: size}
    name = max(moments, key=lambda moment: sum(moments[moment].values()))
    return Estimate({**_ordered(moments[name]), **_outside(moments[name], layout)}, name)


_ORDER = (
    "weights",
    "adapters",
    "gradients",
    "optimizer",
    "copies of weights",
    "activations",
    "logits",
    "communication",
)


def _ordered(parts: Mapping[str, int]) -> dict[str, int]:
    return {name: parts[name] for name in _ORDER if parts.get(name)}


def _outside(parts: Mapping[str, int], layout: Layout) -> dict[str, int]:
    outside = {"CUDA context": CONTEXT, "fragmentation": round(FRAGMENTATION * sum(parts.values()))}
    return {**outside, "NCCL": NCCL} if layout.ranks > 1 else outside


# --- what stays through the run -----------------------------------------------------------------------------


def _weights(model: Structure, job: JobSpec, adapted: Adapters | None) -> dict[str, int]:
    """Bytes of all weights. Frozen ones are in the dtype of the job, trained ones in fp32."""
    dtype = BYTES[job.model.dtype]
    if adapted is None:
        return {"weights": FP32 * model.weights}
    quantization = job.model.quantization
    untied = model.embedding if model.tied and adapted.ends else 0
    base = model.weights + untied
    frozen = dtype * base
    if quantization:
        double = getattr(quantization, "double", True)
        frozen = dtype * (base - model.linear_weights) + quantized_bytes(model, quantization.kind, double=double)
    return {"weights": frozen, "adapters": FP32 * adapted.weights(model.layers)}


def _optimizer(model: Structure, job: JobSpec, adapted: Adapters | None, trained: int) -> int:
    """Bytes of the optimizer's state."""
    match job.method.optimizer:
        case "adamw":
            return 2 * FP32 * trained
        case "adafactor":
            return _factored(model, adapted)
    # bitsandbytes keeps embeddings in 32 bits (transformers asks it to), and tensors below 4,096 numbers.
    embedding = 0 if adapted else model.embedding
    norms = 0 if adapted else model.layers * model.norm_weights + model.final_norm
    rest = trained - embedding - norms
    if job.method.optimizer == "paged_adamw_8bit":
        return 0
    return 2 * FP32 * (embedding + norms) + 2 * rest + 2 * FP32 * (rest // 256)


def _factored(model: Structure, adapted: Adapters | None) -> int:
    """Adafactor keeps a number for each row and each column of a matrix."""
    if adapted:
        return FP32 * adapted.weights(model.layers) // 8
    rows = model.layers * sum(module.inputs + module.outputs for module in model.linears)
    ends = (1 if model.tied else 2) * (model.vocabulary + model.width)
    return FP32 * (rows + ends + model.layers * model.norm_weights)


def _communication(model: Structure, layout: Layout, trained: int, dtype: int) -> int:
    """Bytes that sharding and the reduction of gradients need beside the state."""
    ends = model.embedding + model.head
    match layout.sharding:
        case "ddp":
            return DDP_BUCKETS * FP32 * trained
        case "fsdp":
            # Two layers gathered, the ends gathered to the end of the step, and a layer's gradients in both dtypes.
            return dtype * (2 * model.layer + ends) + (dtype + FP32) * max(model.layer, ends)
        case "zero1" | "zero2":
            # DeepSpeed keeps its own fp32 copy of the rank's part of the weights.
            return 3 * ZERO_BUCKET + (FP32 * trained // layout.ranks if layout.offload == "none" else 0)
        case "zero3":
            own = FP32 * trained // layout.ranks if layout.offload == "none" else 0
            return 3 * ZERO_BUCKET + own + FP32 * (2 * model.layer + max(model.layer, ends))
    return 0


# --- what comes and goes in a step --------------------------------------------------------------------------


class _Shapes:
    """Bytes of what a micro-batch needs, at its moments."""

    def __init__(
        self,
        model: Structure,
        job: JobSpec,
        layout: Layout,
        adapted: Adapters | None,
        tokens: int,
        labels: int,
        dtype: int,
    ):
        self.model, self.job, self.adapted, self.dtype = model, job, adapted, dtype
        self.micro_batch = layout.micro_batch
        self.tokens, self.labels = tokens, labels
        self.trains_head = adapted is None or model.family.head in adapted.saved_ends
        trains_base = adapted is None
        gathers = layout.sharding in ("fsdp", "zero3")
        self.stream = FP32 if trains_base else dtype
        of_token = kept(model, job.method.lora, job.model.dtype, padded=job.method.packing == "off")
        self.layer = of_token.layer * tokens
        self.last_layer = of_token.before * tokens + of_token.mlp * labels
        casts = dtype != FP32 and not gathers
        matrices = sum(module.weights for module in model.linears)
        self.layer_copy = dtype * matrices if casts and trains_base else 0
        self.head_copy = dtype * model.embedding if casts and self.trains_head else 0
        own = dtype * (adapted.layer * model.layers) if adapted and casts else 0
        self.copies = self.layer_copy * model.layers + self.head_copy + own
        ends = (self.stream + FP32) * model.width * tokens + (self.stream + dtype) * model.width * labels
        if layout.checkpointing:
            inputs = self.stream * model.width * tokens
            self.kept_before_last = inputs * (model.layers - 1)
            self.kept = self.kept_before_last + inputs + ends
        else:
            self.kept_before_last = self.layer * (model.layers - 1)
            self.kept = self.kept_before_last + self.last_layer + ends
        self.checkpointing = layout.checkpointing

    def recomputed(self, layer: int) -> int:
        """What a layer keeps, in its backward pass, where that is computed again."""
        return layer if self.checkpointing else 0

    def backward(self, tokens: int) -> int:
        """What the MLP of a layer needs for a time, beside what the layer keeps: in the backward pass the gradients
        between its products, or, where it is larger, what dropout makes of the input of an adapter, in fp32."""
        model, lora = self.model, self.job.method.lora
        if model.activation in WRITTEN_OUT:
            inner = 3 * FP32
        else:
            # The input of the output module is freed by then.
            inner = (3 if model.family.gated else 2) * self.dtype - (0 if lora else self.dtype)
        if lora and lora.dropout and self.dtype < FP32:
            inner = max(inner, self.dtype + 2 * FP32)
        return tokens * ((self.stream + self.dtype) * model.width + inner * model.inner)

    @property
    def _chunk(self) -> int:
        """Labels whose logits are computed at a time."""
        return min(self.labels, max(1, LOGIT_BYTES // (FP32 * self.model.vocabulary)))

    def logits(self, bytes_each: int) -> int:
        """`bytes_each` in fp16 or bf16: logits, their fp32 copy, log-probabilities and gradients."""
        return (bytes_each + (0 if self.dtype < FP32 else 2)) * self._chunk * self.model.vocabulary

    def head_gradient(self, bytes_each: int) -> int:
        return bytes_each * self.model.embedding if self.trains_head else 0

    @property
    def tied_gradient(self) -> int:
        """Of the head, held until the embedding's is there to be added, where both are one matrix."""
        return FP32 * self.model.embedding if self.trains_head and self.model.tied else 0

    @property
    def not_computed_yet(self) -> int:
        """Gradients that are not there when that of the first layer's last matrix is: of the rest of the layer, and of
        the embedding."""
        rest = self.model.layer - self.model.linears[-1].weights if self.adapted is None else 0
        return FP32 * rest + self.embedding_gradient

    @property
    def embedding_gradient(self) -> int:
        """A whole matrix, before it is added to that of the micro-batches before."""
        trained = self.adapted is None or self.model.family.embedding in self.adapted.saved_ends
        return FP32 * self.model.embedding if trained else 0

    def test(self, sides: int) -> dict[str, int]:
        """A forward pass over test rows: what one layer holds at a time, and the logits."""
        model = self.model
        tokens = sides * max(TEST_ROWS, self.micro_batch) * self.job.method.ctx_size
        width = 2 * self.stream + FP32 + 2 * self.dtype
        mlp = width * model.width + 3 * self.dtype * model.inner
        attention = width * model.width + self.dtype * 2 * (2 * model.queries + 2 * model.keys)
        chunk = max(1, LOGIT_BYTES // (FP32 * model.vocabulary))
        return {"activations": tokens * max(mlp, attention), "logits": 10 * min(tokens, chunk) * model.vocabulary}
