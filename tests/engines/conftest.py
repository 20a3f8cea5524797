"""Small models and pictures for the tests of engines."""

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from tests.painters import stable_diffusion


@pytest.fixture(scope="session")
def pictures() -> list[PIL.Image.Image]:
    rng = np.random.default_rng(0)
    return [PIL.Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)) for _ in range(5)]


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory) -> Path:
    """A folder of a random StableDiffusionPipeline without safety checker."""
    return stable_diffusion(tmp_path_factory.mktemp("sd"), _words())


@pytest.fixture(scope="session")
def tiny_distilled(tmp_path_factory) -> Path:
    """The same, of the distilled kind that reads its guidance scale as an input."""
    return stable_diffusion(tmp_path_factory.mktemp("lcm"), _words(), time_cond_proj_dim=16)


@pytest.fixture(scope="session")
def tiny_pixart(tmp_path_factory) -> Path:
    """A folder of a random PixArtAlphaPipeline: a T5 that reads, a transformer that paints."""
    import torch
    from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, PixArtAlphaPipeline, PixArtTransformer2DModel
    from transformers import T5Config, T5EncoderModel

    folder = tmp_path_factory.mktemp("pixart")
    torch.manual_seed(0)
    tokenizer = _words()
    text = T5Config(vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    PixArtAlphaPipeline(
        tokenizer=tokenizer,
        text_encoder=T5EncoderModel(text),
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(4,) * 4,
            norm_num_groups=2,
            latent_channels=4,
        ),
        transformer=PixArtTransformer2DModel(
            sample_size=32,  # the least that the pipeline knows sizes of pictures for
            num_layers=1,
            patch_size=8,
            attention_head_dim=8,
            num_attention_heads=2,
            in_channels=4,
            out_channels=8,
            cross_attention_dim=16,
            caption_channels=16,
            norm_type="ada_norm_single",
        ),
        scheduler=DPMSolverMultistepScheduler(),
    ).save_pretrained(folder)
    return folder


def _words() -> Any:
    from sightline.miniature.words import word_tokenizer

    return word_tokenizer(start="<start>", end="<end>", pad="<pad>", unknown="<unknown>")
