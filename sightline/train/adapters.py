"""Linear layers with a low-rank adapter, in fewer passes over memory than PEFT's own (a torch file).

PEFT writes W x, then B A x, then its product with the scaling, then the sum: four results of the layer's width. Here the second
product is added into the first as it is made, forward and backward, which computes the same up to rounding.
Axes: N tokens, I numbers in, O numbers out, K rank.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn
from torch.nn.functional import linear


def fuse(network: nn.Module) -> None:
    """Have the network's adapted linear layers compute like this wherever it is the same; elsewhere they stay PEFT's."""
    for module in network.modules():
        if type(module) is Linear and _is_plain(module):
            module.forward = MethodType(_forward, module)


def _is_plain(layer: Any) -> bool:
    """Whether one adapter adds B A x, scaled, to a plain frozen layer: no dropout, bias, DoRA, or four bits."""
    if type(layer.base_layer) is not nn.Linear or list(layer.lora_A) != ["default"] or layer.lora_variant:
        return False
    dropped = isinstance(layer.lora_dropout["default"], nn.Dropout)
    return not dropped and layer.lora_B["default"].bias is None and not layer.base_layer.weight.requires_grad


def _forward(self: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    if self.disable_adapters or self.merged or args or kwargs:
        return type(self).forward(self, x, *args, **kwargs)
    base = self.base_layer
    tensors: list[Any] = [x, base.weight, base.bias, self.lora_A["default"].weight, self.lora_B["default"].weight]
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        tensors = [None if tensor is None else tensor.to(dtype) for tensor in tensors]
    if len({tensor.dtype for tensor in tensors if tensor is not None}) > 1:
        return type(self).forward(self, x)
    return _Adapted.apply(*tensors, self.scaling["default"])


class _Adapted(torch.autograd.Function):
    """W x + bias + scaling B A x, of x (..., I), W (O, I), A (K, I) and B (O, K), whose W and bias are frozen."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scaling: float) -> Tensor:
        narrow = linear(x, down)
        ctx.save_for_backward(x, weight, down, up, narrow)
        ctx.scaling = scaling
        made = linear(x, weight, bias)
        _rows(made).addmm_(_rows(narrow), up.t(), alpha=scaling)
        return made

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, down, up, narrow = ctx.saved_tensors
        grad_NO = _rows(grad)
        narrow_NK = (grad_NO @ up).mul_(ctx.scaling)
        grad_x = (grad_NO @ weight).addmm_(narrow_NK, down).view(x.shape) if ctx.needs_input_grad[0] else None
        return grad_x, None, None, narrow_NK.t() @ _rows(x), (grad_NO.t() @ _rows(narrow)).mul_(ctx.scaling), None


def _rows(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1, tensor.shape[-1])
