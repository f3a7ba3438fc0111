"""Peak bytes of one GPU, by part: the largest of the few moments of a step at which memory can peak."""

from collections.abc import Mapping
from dataclasses import dataclass

from hatrain.contract.plan import NOT_TENSORS
from hatrain.contract.spec import Dpo, JobSpec
from launch.distributed import BUCKET
from launch.memory.activations import BYTES, FP32
from launch.memory.layout import Layout
from launch.memory.shapes import Shapes
from launch.memory.structure import Adapters, Structure, adapters_of, quantized_bytes

MIB = 2**20
CONTEXT = 800 * MIB
"""Of CUDA: the driver's context, the kernels that are loaded, and cuBLAS' work space: 750 to 780 MiB on an H200."""
NCCL = 700 * MIB
"""Buffers of a communicator over several GPUs."""
FRAGMENTATION = 0.03
"""Of what is allocated: free space that the allocator holds and cannot use."""
DDP_BUCKETS = 1
"""Copies of the gradients that DDP keeps for its all-reduce."""
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
    """Return the peak of a job on one GPU: the moment that needs most. See `moments`."""
    found = moments(model, job, layout, tokens=tokens, labels=labels)
    name = max(found, key=lambda moment: sum(found[moment].values()))
    return Estimate({**_ordered(found[name]), **_outside(found[name], layout)}, name)


def moments(
    model: Structure, job: JobSpec, layout: Layout, *, tokens: int | None = None, labels: int | None = None
) -> dict[str, dict[str, int]]:
    """Return the bytes of tensors at each moment of a step at which memory can peak, by part.

    `tokens` are those of a micro-batch, by default as many as it may hold; `labels` those that are predicted, by
    default all of them. Raises NotKnown for modules whose size is not known.
    """
    method, dtype = job.method, BYTES[job.model.dtype]
    adapted = adapters_of(model, job)
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
    of_gradients = divide.get("gradients", 1)
    gradients //= of_gradients
    communication = _communication(model, layout, trained, dtype)
    shapes = Shapes(model, job, layout, adapted, tokens, labels, dtype)
    steady = {**held, "optimizer": optimizer, "communication": communication}
    found = {
        "end of the forward pass": {
            **steady,
            "gradients": gradients if layout.accumulation > 1 else 0,
            "copies of weights": shapes.copies,
            "activations": shapes.kept,
            "logits": shapes.logits(10),
        },
        "backward pass of the output head": {
            **steady,
            "gradients": (gradients if layout.accumulation > 1 else 0) + shapes.head_gradient(2) + shapes.rows_of_head,
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
            "gradients": gradients - (0 if layout.accumulation > 1 else shapes.not_computed_yet // of_gradients),
            "copies of weights": shapes.layer_copy,
            "activations": shapes.layer + shapes.backward(tokens),
        },
        "end of the backward pass": {
            **steady,
            "gradients": gradients
            + (shapes.embedding_gradient if layout.accumulation > 1 or model.tied else 0)
            + shapes.rows_of_embedding,
        },
    }
    if job.data.test or sides == 2:
        for part, size in shapes.test(sides).items():
            found[f"test loss, {part}"] = {**steady, "copies of weights": shapes.copies, part: size}
    return found


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
            return 3 * FP32 * BUCKET + (FP32 * trained // layout.ranks if layout.offload == "none" else 0)
        case "zero3":
            own = FP32 * trained // layout.ranks if layout.offload == "none" else 0
            return 3 * FP32 * BUCKET + own + FP32 * (2 * model.layer + max(model.layer, ends))
    return 0
