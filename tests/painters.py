"""Stand-ins for text-to-image pipelines: the real classes and folder layout, small, with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.standins import clip_words

TEXT = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
VAE = {"block_out_channels": (8, 8), "layers_per_block": 1, "norm_num_groups": 4}


def build(name: str, folder: Path) -> Path:
    """Save the painter of this name into the folder; it can read any word."""
    return BUILDERS[name](folder, clip_words())


def stable_diffusion(folder: Path, words: Any, time_cond_proj_dim: int | None = None) -> Path:
    """As Stable Diffusion 1 and 2, and SD Turbo, without safety checker; with `time_cond_proj_dim`, of the distilled kind that
    reads its guidance scale as an input."""
    import torch
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel

    torch.manual_seed(0)
    StableDiffusionPipeline(
        unet=UNet2DConditionModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=16,
            attention_head_dim=4,
            time_cond_proj_dim=time_cond_proj_dim,
            **VAE,
        ),
        vae=_vae(4),
        text_encoder=CLIPTextModel(_text(words)),
        tokenizer=words,
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def stable_diffusion_3(folder: Path, words: Any) -> Path:
    """As Stable Diffusion 3 medium, less its T5, which its pipeline may go without."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
    from transformers import CLIPTextModelWithProjection

    torch.manual_seed(0)
    text = _text(words, projection_dim=16)
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=32,
        caption_projection_dim=32,
        pooled_projection_dim=32,
        pos_embed_max_size=8,
    )
    StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_vae(4, shift_factor=0.0),
        text_encoder=CLIPTextModelWithProjection(text),
        tokenizer=words,
        text_encoder_2=CLIPTextModelWithProjection(text),
        tokenizer_2=words,
        text_encoder_3=None,
        tokenizer_3=None,
    ).save_pretrained(folder)
    return folder


def _vae(channels: int, **more: Any) -> Any:
    from diffusers import AutoencoderKL

    down, up = ("DownEncoderBlock2D",) * 2, ("UpDecoderBlock2D",) * 2
    return AutoencoderKL(down_block_types=down, up_block_types=up, latent_channels=channels, **VAE, **more)


def _text(words: Any, **more: Any) -> Any:
    from transformers import CLIPTextConfig

    ids = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    return CLIPTextConfig(vocab_size=len(words), max_position_embeddings=77, **TEXT, **ids, **more)


BUILDERS = {"stable_diffusion": stable_diffusion, "stable_diffusion_3": stable_diffusion_3}
