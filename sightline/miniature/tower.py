"""The vision tower's own lesson: what is in each cell of the grid, and which place it is (a torch file).

Towers learn this before any language and are frozen then. Without it a small LLaVA learns grammar and colours, never to look.
Axes: B pictures, P cells, W features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import CLIPVisionModel

from sightline.miniature import world
from sightline.miniature.world import GRID, KINDS, Scene, Thing

CELLS = GRID * GRID
COLOURS = tuple(world.COLOURS)
TOPICS = tuple(world.TOPICS)


def crowded(rng: np.random.Generator) -> Scene:
    """A scene without the world's habits: up to six things of any kind and colour, doubles too, as painters make them."""
    cells = sorted(int(cell) for cell in rng.choice(CELLS, size=int(rng.integers(1, 7)), replace=False))
    things = [Thing(str(rng.choice(KINDS)), str(rng.choice(COLOURS)), cell) for cell in cells]
    if len(things) > 1 and rng.random() < 0.3:
        things[1] = Thing(things[0].kind, things[int(rng.integers(2))].colour, things[1].cell)
    return Scene(tuple(things), str(rng.choice(TOPICS)))


def picture(scene: Scene, rng: np.random.Generator) -> Image.Image:
    """The scene drawn: half of the time as the world draws it, else softer, noisier or paler, as a painter might."""
    drawn = world.draw(scene, rng)
    return drawn if rng.random() < 0.5 else soften(drawn, rng)


def soften(drawn: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The picture a little blurred, noisy, pale and, sometimes, off by a pixel."""
    pixels = np.asarray(drawn, dtype=np.float64)
    blur = rng.uniform(0, 0.8)
    pixels = gaussian_filter(pixels, (blur, blur, 0))
    pixels = 128 + (pixels - 128) * rng.uniform(0.75, 1.15) + rng.normal(0, 8, size=3)
    pixels = pixels + gaussian_filter(rng.normal(0, 1, size=pixels.shape), (0.5, 0.5, 0)) * rng.uniform(0, 28)
    if rng.random() < 0.2:
        pixels = np.roll(pixels, int(rng.choice([-1, 1])), axis=int(rng.integers(2)))
    return Image.fromarray(np.clip(pixels, 0, 255).round().astype(np.uint8))


def pixel_values(pictures: Sequence[Image.Image], mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """What the CLIP image processor makes of pictures that have the right size already."""
    stack_BHWC = np.stack([np.asarray(image, dtype=np.float32) for image in pictures]) / 255
    stack_BHWC = (stack_BHWC - np.array(mean, dtype=np.float32)) / np.array(std, dtype=np.float32)
    return torch.from_numpy(stack_BHWC).permute(0, 3, 1, 2).contiguous()


def cells(tower: CLIPVisionModel, pixels: Tensor) -> Tensor:
    """Features (B, P, W) as LLaVA takes them: the last layer's, without the class token."""
    return tower(pixel_values=pixels).last_hidden_state[:, 1:]


def targets(scenes: Sequence[Scene]) -> tuple[Tensor, Tensor, Tensor]:
    """Kind and colour of every cell (0: empty), (B, P), and the place, (B,)."""
    kinds = np.zeros((len(scenes), CELLS), dtype=np.int64)
    colours = np.zeros_like(kinds)
    for row, scene in enumerate(scenes):
        for thing in scene.things:
            kinds[row, thing.cell] = 1 + KINDS.index(thing.kind)
            colours[row, thing.cell] = 1 + COLOURS.index(thing.colour)
    places = np.array([TOPICS.index(scene.topic) for scene in scenes])
    return torch.from_numpy(kinds), torch.from_numpy(colours), torch.from_numpy(places)


class _Readout(nn.Module):
    """Linear heads for the lesson; thrown away after it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        sizes = (1 + len(KINDS), 1 + len(COLOURS), len(TOPICS), CELLS)
        self.kind, self.colour, self.place, self.cell = (nn.Linear(width, size) for size in sizes)

    def loss(self, features: Tensor, scenes: Sequence[Scene]) -> Tensor:
        features = self.norm(features)
        kinds_BP, colours_BP, places_B = targets(scenes)
        kind = cross_entropy(self.kind(features).flatten(0, 1), kinds_BP.flatten())
        colour = cross_entropy(self.colour(features).flatten(0, 1), colours_BP.flatten())
        place = cross_entropy(self.place(features).flatten(0, 1), places_B.repeat_interleave(CELLS))
        own_cell = cross_entropy(self.cell(features).flatten(0, 1), torch.arange(CELLS).repeat(len(scenes)))
        return kind + colour + 0.3 * (place + own_cell)


def train(
    tower: CLIPVisionModel,
    pictures: Callable[[int], tuple[list[Scene], Tensor]],
    steps: int,
    batch: int,
    log: Callable[[str], None],
) -> None:
    """Teach the tower to tell kind and colour of every cell; `pictures` draws a batch."""
    readout = _Readout(tower.config.hidden_size)
    weights = [*tower.parameters(), *readout.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=1.5e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.5e-3, total_steps=steps + 1, pct_start=0.1)
    for step in range(steps):
        scenes, pixels = pictures(batch)
        loss = readout.loss(cells(tower, pixels), scenes)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps - 1:
            log(f"tower step {step}: loss {loss.item():.3f}")
