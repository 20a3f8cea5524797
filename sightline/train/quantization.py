"""QLoRA: adapters on a language model whose own weights are held in four bits (Dettmers et al., 2023)."""

from __future__ import annotations

from typing import Any

from sightline.engines.weights import locate
from sightline.errors import TrainingError
from sightline.plugin import need
from sightline.train.families import HEAD, family_named


def require_gpu() -> None:
    """TrainingError or MissingPackage where weights of four bits cannot be computed with."""
    import torch

    if not torch.cuda.is_available():
        raise TrainingError(
            "train.load_in_4bit",
            "weights of four bits need a CUDA GPU, and there is none",
            "leave it out, or train where there is one",
        )
    need("bitsandbytes", extra="gpu")


def four_bits(model: str, revision: str | None) -> Any:
    """How the language model's weights are loaded: NormalFloat4, the scales quantised again, bfloat16 arithmetic.

    The words out, the projector and the vision tower stay as they are, as in LLaVA's recipe: they are small, and what a picture
    says goes through them.
    """
    import torch
    from transformers import AutoConfig, BitsAndBytesConfig

    family = family_named(AutoConfig.from_pretrained(locate(model), revision=revision).model_type)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=[*family.vision_tower, *family.projector, HEAD],  # its name notwithstanding, of 4 bits too
    )
