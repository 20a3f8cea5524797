"""Adapted layers in fewer passes give PEFT's own results and gradients, and step aside where they would not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from sightline.train.adapters import fuse

SIZES = [(2, 5, 8), (1, 8), (3, 8)]


def adapted(bias: bool = False, dtype: torch.dtype = torch.float64, **settings: Any) -> Any:
    """A linear layer with an adapter of random numbers, as PEFT makes it."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 6, bias=bias)).to(dtype)
    config = LoraConfig(r=3, lora_alpha=7, target_modules=["0"], init_lora_weights=False, **settings)
    return get_peft_model(network, config, autocast_adapter_dtype=False)


def worked_out(network: Any, x: Tensor) -> list[Tensor]:
    """Output, and gradients of the input and of each trained tensor."""
    x = x.clone().requires_grad_()
    made = network(x)
    (made * torch.arange(made.numel()).view(made.shape).to(made.dtype)).sum().backward()
    return [made, x.grad, *(parameter.grad for parameter in network.parameters() if parameter.requires_grad)]


def is_fused(network: Any) -> bool:
    return "forward" in vars(network.base_model.model[0])


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_results_and_gradients_are_pefts(size, bias):
    x = torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    peft, ours = adapted(bias), adapted(bias)
    fuse(ours)
    assert is_fused(ours)
    wanted, got = worked_out(peft, x), worked_out(ours, x)
    assert len(got) == len(wanted) == 4
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_an_input_that_needs_no_gradient_gets_none():
    ours = adapted()
    fuse(ours)
    ours(torch.ones(2, 8, dtype=torch.float64)).sum().backward()
    assert all(parameter.grad is not None for parameter in ours.parameters() if parameter.requires_grad)


def test_a_disabled_adapter_leaves_the_base_layer_alone():
    ours = adapted()
    fuse(ours)
    x = torch.ones(2, 8, dtype=torch.float64)
    with ours.disable_adapter():
        torch.testing.assert_close(ours(x), ours.base_model.model[0].base_layer(x), rtol=0, atol=0)


def test_autocast_computes_in_its_type_as_pefts_does():
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
    peft, ours = adapted(dtype=torch.float32), adapted(dtype=torch.float32)
    fuse(ours)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made, wanted = ours(x), peft(x)
    assert made.dtype == wanted.dtype == torch.bfloat16
    torch.testing.assert_close(made, wanted, rtol=2e-2, atol=2e-2)


def test_mixed_types_go_pefts_way():
    peft, ours = adapted(dtype=torch.float32), adapted(dtype=torch.float32)
    fuse(ours)
    for network in (peft, ours):
        network.base_model.model[0].base_layer.to(torch.bfloat16)
    x = torch.ones(2, 8, dtype=torch.bfloat16)
    torch.testing.assert_close(ours(x), peft(x), rtol=0, atol=0)


@pytest.mark.parametrize("settings", [{"lora_dropout": 0.1}, {"use_dora": True}, {"lora_bias": True}])
def test_other_kinds_of_adapter_stay_pefts(settings):
    ours = adapted(bias=True, **settings)
    fuse(ours)
    assert not is_fused(ours)
