"""Pictures spoilt as their names say (a torch file). `negatives.spoilt` writes the names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    import PIL.Image

NUM_STEPS = 1000
MCM_DPO = "mcm_dpo"
"""In a name: as MCM-DPO's code does it (`Negatives.compat`)."""


def parts(name: str) -> tuple[str, str, int]:
    """(stored picture, how it is spoilt, seed); how is '' where it is not."""
    if "|" not in name:
        return name, "", 0
    stored, how, seed = name.split("|")
    return stored, how, int(seed)


def spoil_picture(picture: PIL.Image.Image, how: str, seed: int) -> PIL.Image.Image:
    """The picture as the image processor shall see it; what is done to its numbers comes after."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    how, _, code = how.partition(":")
    if how == "black":
        return Image.new("RGB", picture.size)
    if how == "crop":
        width, height = max(1, picture.width // 2), max(1, picture.height // 2)
        if code == MCM_DPO:
            width, height = min(picture.width, 240), min(picture.height, 320)
        left, top = (int(rng.integers(0, room + 1)) for room in (picture.width - width, picture.height - height))
        return picture.crop((left, top, left + width, top + height))
    if how == "rotate":
        how_sampled = Image.Resampling.NEAREST if code == MCM_DPO else Image.Resampling.BILINEAR
        return picture.rotate(float(rng.uniform(10, 80)), resample=how_sampled)
    return picture


def spoil_pixels(pixels: Tensor, how: str, seed: int) -> Tensor:
    """The processor's numbers, with diffusion noise where the name asks for it; all 0, a mean grey, for MCM-DPO's black."""
    if how == f"black:{MCM_DPO}":
        return torch.zeros_like(pixels)
    if not how.startswith("noise:"):
        return pixels
    kept, added = noise_factors(int(how.removeprefix("noise:")))
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(seed))
    return (kept * pixels + added * noise).to(pixels.dtype)


def noise_factors(step: int) -> tuple[float, float]:
    """What is kept of the normalised picture at a step and what is added of the noise, as in POVID's and MCM-DPO's code."""
    betas = torch.linspace(-6, 6, NUM_STEPS, dtype=torch.float64).sigmoid() * (5e-3 - 1e-5) + 1e-5
    kept = (1 - betas).cumprod(0)[step].item()
    return kept**0.5, (1 - kept) ** 0.5
