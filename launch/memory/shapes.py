"""What comes and goes in a step: activations, logits, and copies and gradients of weights."""

from hatrain.contract.spec import Dpo, JobSpec
from launch.memory.activations import FP32, WRITTEN_OUT, kept
from launch.memory.layout import Layout
from launch.memory.structure import Adapters, Structure

LOGIT_BYTES = 2**29
"""Bytes of fp32 logits at a time, as in hatrain/train/log_probabilities.py."""
TEST_ROWS = 8
"""Test rows in a forward pass, as in hatrain/train/trainer.py."""


class Shapes:
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
        row = tokens // layout.micro_batch // (2 if isinstance(job.method, Dpo) else 1)
        padded_to = row if layout.packing == "off" else 0
        of_token = kept(model, job.method.lora, job.model.dtype, padded_to=padded_to)
        self.layer = of_token.layer * tokens
        self.last_layer = of_token.before * tokens + of_token.mlp * labels
        casts = dtype != FP32 and not gathers
        matrices = sum(module.weights for module in model.linears)
        self.layer_copy = dtype * matrices if casts and trains_base else 0
        # PEFT copies a matrix whose rows it trains, in every pass, and computes the gradient of the whole copy.
        by_row = adapted.row_ends if adapted else ()
        self.rows_of_head, self.rows_of_embedding = (
            dtype * model.embedding if name in by_row else 0 for name in (model.family.head, model.family.embedding)
        )
        self.head_copy = dtype * model.embedding if casts and self.trains_head else self.rows_of_head
        own = dtype * (adapted.layer * model.layers) if adapted and casts else 0
        self.copies = self.layer_copy * model.layers + self.head_copy + own
        ends = (FP32 + (self.stream if trains_base else 0)) * model.width * tokens
        ends += (self.stream + dtype) * model.width * labels if self.trains_head else 0
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
        model, lora, down = self.model, self.job.method.lora, self.model.linears[-1]
        keeps_input = self.adapted is None or down in self.adapted.modules
        if model.activation in WRITTEN_OUT:
            inner = 3 * FP32
        else:
            # The input of the output module is freed by then.
            inner = (3 if model.family.gated else 2) * self.dtype - (self.dtype if keeps_input else 0)
        if lora and keeps_input and self.dtype < FP32:
            inner = max(inner, self.dtype + (2 if lora.dropout else 1) * FP32)
        return tokens * ((self.stream + self.dtype) * model.width + inner * model.inner)

    def _chunk(self, labels: int) -> int:
        """Labels, of so many, whose logits are computed at a time."""
        return min(labels, max(1, LOGIT_BYTES // (FP32 * self.model.vocabulary)))

    def logits(self, bytes_each: int) -> int:
        """`bytes_each` in fp16 or bf16: logits, their fp32 copy, log-probabilities and gradients."""
        return (bytes_each + (0 if self.dtype < FP32 else 2)) * self._chunk(self.labels) * self.model.vocabulary

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
        logits = 10 * self._chunk(tokens) * model.vocabulary
        return {"activations": tokens * max(mlp, attention), "logits": logits}
