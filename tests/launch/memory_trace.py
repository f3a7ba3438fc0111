"""What a forward pass keeps for the backward pass, traced on fake tensors: nothing is computed."""

from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from peft import LoraConfig, get_peft_model
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM

from hatrain.train.log_probabilities import add_log_probabilities


def _flash(module, query, key, value, attention_mask, dropout=0.0, scaling=None, **kwargs):  # type: ignore[no-untyped-def]
    """Attention that keeps what GPU kernels keep: queries, keys, values, its result and a number for each of them."""
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else value.dtype
    query, key, value = (part.to(dtype) for part in (query, key, value))
    out = _Kernel.apply(query, key, value)
    return out, None


class _Kernel(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any) -> Any:
        out = query.new_empty(query.shape[0], query.shape[2], query.shape[1], value.shape[3])
        ctx.save_for_backward(query, key, value, out, query.new_empty(query.shape[:3], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        query, key, value, _, _ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


_cpu_layer_norm, _cpu_power = F.layer_norm, torch.pow


def _layer_norm(x, shape, weight=None, bias=None, eps=1e-5):  # type: ignore[no-untyped-def]
    if not torch.is_autocast_enabled("cpu"):
        return _cpu_layer_norm(x, shape, weight, bias, eps)
    return _cpu_layer_norm(x.float(), shape, _float(weight), _float(bias), eps)


def _float(tensor):  # type: ignore[no-untyped-def]
    return None if tensor is None else tensor.float()


def _power(x, exponent):  # type: ignore[no-untyped-def]
    return _cpu_power(x.float() if torch.is_autocast_enabled("cpu") else x, exponent)


def _dropout(x, p=0.5, training=True, inplace=False):  # type: ignore[no-untyped-def]
    return torch.native_dropout(x, p, training)[0] if p and training else x


AttentionInterface.register("traced", _flash)


class Trace:
    """One forward pass of `tokens` tokens in one row."""

    def __init__(
        self,
        config: dict[str, Any],
        tokens: int,
        *,
        lora: dict[str, Any] | None = None,
        checkpointing: bool = False,
        dtype: torch.dtype = torch.bfloat16,
        labels: int | None = None,
    ):
        self.kept: dict[int, tuple[Any, int]] = {}
        known = AutoConfig.for_model(config["model_type"], **{k: v for k, v in config.items() if k != "model_type"})
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(
                known, dtype=dtype if lora else torch.float32, attn_implementation="traced"
            )
            if lora:
                model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **lora))
        if lora:
            model.get_input_embeddings().register_forward_hook(lambda m, a, out: out.to(dtype))
        model.train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            if lora:
                model.enable_input_require_grads()
        add_log_probabilities(model)
        with FakeTensorMode(allow_non_fake_inputs=True):
            _make_fake(model)
            self.own = {p.untyped_storage()._cdata for p in model.parameters()}
            self.own |= {b.untyped_storage()._cdata for b in model.buffers()}
            shapes = {tuple(p.shape) for p in model.parameters() if p.dim() > 1}
            self.shapes = shapes | {shape[::-1] for shape in shapes}
            ids = torch.zeros((1, tokens), dtype=torch.long)
            positions = torch.arange(labels or tokens)
            with (
                # Its shape depends on the positions, which are all different here.
                mock.patch("torch.unique_consecutive", lambda positions: positions),
                # As autocast and the fused dropout of a GPU do it.
                mock.patch("torch.nn.functional.layer_norm", _layer_norm),
                mock.patch("torch.pow", _power),
                mock.patch("torch.nn.functional.dropout", _dropout),
                torch.autograd.graph.saved_tensors_hooks(self._keep, lambda tensor: tensor),
                torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32),
            ):
                model(input_ids=ids, positions=positions, targets=torch.zeros_like(positions))

    def _keep(self, tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.own:
            self.kept.setdefault(storage._cdata, (tensor, storage.nbytes()))
        return tensor

    @property
    def weights(self) -> int:
        """Bytes of copies of weights in the dtype of the products."""
        return sum(size for tensor, size in self.kept.values() if tuple(tensor.shape) in self.shapes)

    @property
    def activations(self) -> int:
        """Bytes of all else."""
        return sum(size for _, size in self.kept.values()) - self.weights


def _make_fake(model: Any) -> None:
    made: dict[int, Any] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                dtype = torch.float32 if parameter.requires_grad else parameter.dtype
                fresh = torch.nn.Parameter(torch.empty(parameter.shape, dtype=dtype), parameter.requires_grad)
                module._parameters[name] = made.setdefault(id(parameter), fresh)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)
