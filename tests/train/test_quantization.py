"""QLoRA: what is held in four bits, and what is said where that cannot be. Training itself needs a GPU."""

import importlib.util
from math import log
from pathlib import Path

import pytest
import torch
from torch import nn

from sightline.errors import MissingPackage, TrainingError
from sightline.train import Train, train
from sightline.train.quantization import four_bits, require_gpu

HAS_GPU = torch.cuda.is_available() and importlib.util.find_spec("bitsandbytes") is not None


def section(tiny: Path, **changes) -> Train:
    values = {
        "objective": {"kind": "dpo"},
        "batch_size": 4,
        "epochs": 2,
        "learning_rate": 1e-2,
        "load_in_4bit": True,
        "warmup": 0,
    }
    return Train.model_validate({"model": str(tiny), **values, **changes})


def test_the_language_models_linear_layers_and_no_others_are_held_in_four_bits(tiny):
    """By transformers' own rule for names that are left out."""
    from transformers import AutoModelForImageTextToText
    from transformers.quantizers.quantizers_utils import should_convert_module

    config = four_bits(str(tiny), None)
    network = AutoModelForImageTextToText.from_pretrained(tiny)
    linear = {name for name, module in network.named_modules() if isinstance(module, nn.Linear)}
    held = {name for name in linear if should_convert_module(name, config.llm_int8_skip_modules)}
    assert held == {name for name in linear if name.startswith("model.language_model.")}
    assert any("vision_tower" in name for name in linear - held) and {"lm_head"} < linear - held
    assert (config.load_in_4bit, config.bnb_4bit_quant_type, config.bnb_4bit_use_double_quant) == (True, "nf4", True)
    assert config.bnb_4bit_compute_dtype == torch.bfloat16


def test_a_reference_of_four_bits_is_another_reference(tiny):
    steps = [section(tiny, load_in_4bit=held).reference_step() for held in (False, True)]
    assert [step.model_dump()["load_in_4bit"] for step in steps] == [False, True]


@pytest.mark.skipif(HAS_GPU, reason="this machine can")
def test_without_a_gpu_training_stops_with_a_reason(tiny, executor, make_pairs):
    with pytest.raises((TrainingError, MissingPackage), match=r"need a CUDA GPU|sightline\[gpu\]"):
        train(section(tiny), make_pairs(4), executor)


def test_without_bitsandbytes_the_error_says_which_extra_brings_it(monkeypatch):
    if importlib.util.find_spec("bitsandbytes"):
        pytest.skip("it is installed here")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(MissingPackage, match="bitsandbytes") as caught:
        require_gpu()
    assert "sightline[gpu]" in caught.value.fix


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_GPU, reason="bitsandbytes computes with four bits on a GPU only")
def test_adapters_train_on_a_model_of_four_bits(tiny, executor, make_pairs):
    checkpoint = train(section(tiny), make_pairs(6), executor)
    assert checkpoint.first_loss == pytest.approx(log(2), abs=1e-2)
    assert checkpoint.last_loss < checkpoint.first_loss
    assert checkpoint.num_trained["language_model"] > 0 == checkpoint.num_trained["projector"]
