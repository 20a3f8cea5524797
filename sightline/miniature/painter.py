"""The miniature painter: an ordinary StableDiffusion3Pipeline, small, trained from nothing on pictures of the miniature world.

A Stable Diffusion 3 transformer sees the picture as the world's nine cells and the prompt through two small CLIP text encoders,
and learns by flow matching. Prompts are left out of one example in ten, so that classifier-free guidance works as in the large
models. The T5 slots stay empty and the pipeline is trained on what it will feed itself: call it with `max_sequence_length=1`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from PIL import Image
from torch import Tensor

from sightline.miniature import text_tower, world
from sightline.miniature.words import word_tokenizer

Pipeline = Any  # a StableDiffusion3Pipeline; diffusers sets its parts at run time, where type checkers do not see them

STEPS = 6000
BATCH_SIZE = 64
STOCK = 20_000
"""Drawn scenes kept in memory; batches are drawn from them."""
PEAK_LR = 1.5e-3
WARM_UP, COOL_DOWN = 60, 0.5  # steps; share of all steps
HOMES = dict(bird=0, lamp=1, umbrella=2, book=3, house=4, tree=5, cup=6, car=7, gift=8, apple=2, cat=3, boat=8)  # noqa: C408
AT_HOME = 0.8
"""In the pictures to learn from, each kind's usual cell, and how often it is there."""
EMPTY_PROMPTS = 0.1
SLOPPY_FROM, SLOPPY_PROMPTS = 4000, 0.2
"""From this step on, a fifth of the prompts are another picture's, as the web's captions often are. Guidance is for that:
at scale 1 the painter takes such captions at their word, above it it keeps to what the prompt changes."""
SHIFT = 3.0
"""Stable Diffusion 3's: both training and sampling spend most on the high noise where it is decided what goes where."""
WIDTH, LAYERS = 192, 4  # as wide as a cell has numbers (8 x 8 x 3): a narrower stream could not carry the noise through
PLACE_STRENGTH = 6.0
TEXT_STEPS = 400


def build(folder: Path, seed: int, share: float = 1.0, log: Callable[[str], None] = print) -> None:
    """Train a painter and save it, in half precision, as a pipeline folder. A share below 1 trains that much shorter."""
    steps = max(2, round(STEPS * share))
    stock = Stock.draw(max(BATCH_SIZE, round(STOCK * share)), seed)
    training = Training.start(seed, max(2, round(TEXT_STEPS * share)), log)
    training.run(stock, steps, log)
    save(training.averaged_pipeline(), folder)


def save(pipeline: Pipeline, folder: Path) -> None:
    """Write the pipeline's folder; a large model's folder looks the same."""
    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(folder, safe_serialization=True)
    pipeline.to(dtype=torch.float32)


def load(folder: Path) -> Pipeline:
    """The saved pipeline, in single precision, quiet."""
    pipeline = StableDiffusion3Pipeline.from_pretrained(folder, text_encoder_3=None, tokenizer_3=None, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def paint(pipeline: Pipeline, prompts: list[str], guidance: float, seed: int, steps: int = 20) -> list[Image.Image]:
    """One picture a prompt, at one guidance scale; each from a generator of its own, so that batches do not matter."""
    generators = [torch.Generator().manual_seed(seed * 1_000_003 + i) for i in range(len(prompts))]
    asked = {"guidance_scale": guidance, "num_inference_steps": steps, "max_sequence_length": 1}
    return pipeline(prompt=prompts, generator=generators, **asked).images


# The parts


def blank_pipeline(seed: int) -> Pipeline:
    """The untrained pipeline."""
    torch.manual_seed(seed)
    tokenizer = word_tokenizer(start="<start>", end="<end>", pad="<pad>", unknown="<unknown>")
    encoders = [text_tower.untrained(tokenizer) for _ in range(2)]
    transformer = SD3Transformer2DModel(
        sample_size=world.SIZE,
        patch_size=world.CELL,
        in_channels=3,
        out_channels=3,
        num_layers=LAYERS,
        attention_head_dim=32,
        num_attention_heads=WIDTH // 32,
        joint_attention_dim=2 * text_tower.WIDTH,
        caption_projection_dim=WIDTH,
        pooled_projection_dim=2 * text_tower.WIDTH,
        pos_embed_max_size=world.GRID,
    )
    start_as_identity(transformer)
    mark_cells(transformer)
    pipeline: Pipeline = StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=SHIFT),
        vae=passthrough_vae(),
        text_encoder=encoders[0],
        tokenizer=tokenizer,
        text_encoder_2=encoders[1],
        tokenizer_2=tokenizer,
        text_encoder_3=None,
        tokenizer_3=None,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def start_as_identity(transformer: Any) -> None:
    """Let the untrained transformer hand its input on: blocks that add nothing yet (adaLN-zero, Peebles & Xie, 2023), and a
    last layer that undoes the first. Learning where things go then starts at once, not after learning to copy noise."""
    for name, weight in transformer.transformer_blocks.named_parameters():
        if ".norm1" in f".{name}":
            torch.nn.init.zeros_(weight)
    into, out = transformer.pos_embed.proj.weight, transformer.proj_out.weight
    torch.nn.init.orthogonal_(into.view(WIDTH, -1))
    with torch.no_grad():
        out.copy_(into.permute(2, 3, 1, 0).reshape(-1, WIDTH))  # the last layer's numbers are in the order row, column, colour


def mark_cells(transformer: Any) -> None:
    """Make the places plain. Noise fills all of the stream's width, and the usual sines and cosines, which hardly differ between
    three neighbours, drown in it: the painter would not know where it paints."""
    codes = torch.linalg.qr(torch.randn(WIDTH, world.GRID**2, generator=torch.Generator().manual_seed(0)))[0].T
    transformer.pos_embed.pos_embed += PLACE_STRENGTH * codes  # a buffer, saved with the weights


def passthrough_vae() -> Any:
    """An autoencoder whose latents are the pixels: 24x24 is small enough to paint directly, but a pipeline needs one.

    Set by hand rather than trained, and exact but for rounding. Each colour travels as a pair of channels, x and -x, because
    silu(x) - silu(-x) = x. Two more channels hold the constants 64 and -64, which dominate the variance that the group
    normalisation divides by, so that it divides every picture by nearly the same number.
    """
    vae: Any = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=3,
        down_block_types=("DownEncoderBlock2D",),
        up_block_types=("UpDecoderBlock2D",),
        block_out_channels=(8,),
        layers_per_block=1,
        norm_num_groups=1,
        sample_size=world.SIZE,
        scaling_factor=1.0,
        shift_factor=0.0,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
    )
    with torch.no_grad():
        for name, weight in vae.named_parameters():  # residual branches add nothing
            weight.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
        for half in (vae.encoder, vae.decoder):
            _pass_through(half)
        vae.encoder.conv_out.bias[3:] = -30.0  # the logarithm of the latents' variance
    return vae.requires_grad_(False).eval()


def _pass_through(half: Any, constant: float = 64.0) -> None:
    half.conv_in.bias[6:] = torch.tensor([constant, -constant])
    for colour in range(3):
        for sign, channel in ((1.0, 2 * colour), (-1.0, 2 * colour + 1)):
            half.conv_in.weight[channel, colour, 1, 1] = sign
            half.conv_out.weight[colour, channel, 1, 1] = sign * constant / 2  # the deviation of all eight channels


# Training


def compose(scene: world.Scene, rng: np.random.Generator) -> world.Scene:
    """The same things, composed as a picture: mostly each at its kind's usual place.

    Where anything may be anywhere, a small painter doubles things: it decides late, and in two cells at once.
    """
    while True:
        cells: list[int] = []
        for thing in scene.things:
            free = [cell for cell in range(world.GRID**2) if cell not in cells]
            home = HOMES[thing.kind]
            cells.append(home if home in free and rng.random() < AT_HOME else int(rng.choice(free)))
        things = [dataclasses.replace(thing, cell=cell) for thing, cell in zip(scene.things, cells, strict=True)]
        composed = world.Scene(tuple(things), scene.topic)  # in the prompt's order, which tells nothing of the places
        if not composed.held_out:
            return composed


@dataclass(frozen=True)
class Stock:
    """Drawn scenes with their prompts."""

    pictures: Tensor  # (N, 3, 24, 24), -1 to 1
    prompts: list[str]

    @classmethod
    def draw(cls, size: int, seed: int) -> Stock:
        rng = np.random.default_rng(seed)
        scenes = [compose(world.sample(rng), rng) for _ in range(size)]
        pixels = np.stack([np.asarray(world.draw(scene, rng)) for scene in scenes])
        pictures = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
        return cls(pictures, [world.prompt(scene) for scene in scenes])

    def batch(self, rng: np.random.Generator, sloppy: float) -> tuple[Tensor, list[str]]:
        """Pictures and prompts, some of the prompts empty, and a `sloppy` share of them another picture's."""
        rows = rng.integers(len(self.prompts), size=BATCH_SIZE)
        blank = rng.random(BATCH_SIZE) < EMPTY_PROMPTS
        told = np.where(rng.random(BATCH_SIZE) < sloppy, rng.permutation(rows), rows) if sloppy else rows
        return self.pictures[rows], ["" if empty else self.prompts[row] for row, empty in zip(told, blank, strict=True)]


@dataclass
class Training:
    """A painter in training, and the running average of its transformer's weights. Its text towers have learned before."""

    pipeline: Pipeline
    rng: np.random.Generator
    step: int = 0

    def __post_init__(self) -> None:
        self.weights = list(self.pipeline.transformer.parameters())
        self.average = [weight.detach().clone() for weight in self.weights]
        self.optimizer = torch.optim.AdamW(self.weights, lr=PEAK_LR, betas=(0.9, 0.99), weight_decay=0.01)

    @classmethod
    def start(cls, seed: int, text_steps: int = TEXT_STEPS, log: Callable[[str], None] = print) -> Training:
        pipeline, rng = blank_pipeline(seed), np.random.default_rng([seed, 1])
        for tower in (pipeline.text_encoder, pipeline.text_encoder_2):
            text_tower.train(tower, pipeline.tokenizer, rng, text_steps, log)
            tower.requires_grad_(False).eval()
        return cls(pipeline, rng)

    def run(self, stock: Stock, steps: int, log: Callable[[str], None], until: int | None = None) -> None:
        """Train up to step `until` of a schedule of `steps`."""
        began, recent = time.process_time(), []
        while self.step < (until or steps):
            for group in self.optimizer.param_groups:
                group["lr"] = PEAK_LR * _rate(self.step, steps)
            sloppy = SLOPPY_PROMPTS if self.step >= SLOPPY_FROM * steps / STEPS else 0.0
            recent.append(self._advance(*stock.batch(self.rng, sloppy)))
            if self.step % 50 == 0 or self.step == steps:
                log(f"painter step {self.step}: loss {np.mean(recent):.4f}, {time.process_time() - began:.0f} CPU s")
                recent = []

    def _advance(self, pictures: Tensor, prompts: list[str]) -> float:
        loss = flow_matching_loss(self.pipeline, pictures, prompts, self.rng)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()
        self.step += 1
        with torch.no_grad():
            # young averages forget faster, so that early ones do not remember the start
            torch._foreach_lerp_(self.average, self.weights, max(1 / (1 + self.step / 8), 0.01))
        return loss.item()

    def averaged_pipeline(self) -> Pipeline:
        """The pipeline with the averaged weights; training ends with this."""
        with torch.no_grad():
            for weight, average in zip(self.weights, self.average, strict=True):
                weight.copy_(average)
        return self.pipeline


def _rate(step: int, steps: int) -> float:
    """Share of the peak learning rate: up, level, down to nothing."""
    return min(1.0, (step + 1) / WARM_UP, (steps - step) / (COOL_DOWN * steps))


def flow_matching_loss(pipeline: Pipeline, pictures: Tensor, prompts: list[str], rng: np.random.Generator) -> Tensor:
    """Squared error of the predicted velocity, noise minus picture, at times as the sampler steps through them.

    Logit-normal times (Esser et al., 2024) hardly visit the first steps, where this painter decides what goes where.
    """
    time = torch.from_numpy(rng.random((len(prompts), 1, 1, 1))).float()
    sigma = SHIFT * time / (1 + (SHIFT - 1) * time)
    noise = torch.from_numpy(rng.standard_normal(pictures.shape, dtype=np.float32))
    # the pipeline's own encoding, so that training sees the same padding and the same empty T5 token as painting
    states, _, pooled, _ = pipeline.encode_prompt(
        prompts, prompts, prompts, do_classifier_free_guidance=False, max_sequence_length=1
    )
    velocity = pipeline.transformer(
        hidden_states=(1 - sigma) * pictures + sigma * noise,
        timestep=1000 * sigma.flatten(),
        encoder_hidden_states=states,
        pooled_projections=pooled,
        return_dict=False,
    )[0]
    return torch.nn.functional.mse_loss(velocity, noise - pictures)
