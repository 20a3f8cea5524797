"""How good painter and image reward are, on held-out scenes, by the world's own truth.

Pictures are read by templates (`world.read_cells`), never by a model. All functions take the number of prompts and a seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sightline.engines.image_reward_model import ImageRewardModel
from sightline.miniature import image_reward, painter, world
from sightline.miniature.image_reward import GUIDANCE, Question, Shown, mistakes

CURVE = (1.0, 3.0, 5.0, 7.0, 9.0, 11.0)


@dataclass(frozen=True)
class Share:
    """How many of n."""

    count: int
    n: int

    @property
    def percent(self) -> float:
        return 100 * self.count / self.n

    def __str__(self) -> str:
        return f"{self.percent:.1f} % of {self.n}"


@dataclass(frozen=True)
class Painted:
    """Pictures of one guidance scale: those that match their prompt in all, and the asked things that are there."""

    match: Share
    things: Share


@dataclass(frozen=True)
class Picks:
    """The image reward among the painter's four: is its pick truly a best one, and what picking gains.

    `best` counts prompts whose four pictures differ in mistakes; `matching` those where some of the four match and some do not.
    """

    best: Share
    matching: Share
    average: Share
    picked: Share

    @property
    def gain(self) -> float:
        """Points by which picked pictures match more often than all of them."""
        return self.picked.percent - self.average.percent


def guidance_curve(
    painter_folder: Path, num_prompts: int, seed: int = 0, scales: Sequence[float] = CURVE
) -> dict[float, Painted]:
    """For each guidance scale, how often the painter paints what held-out prompts ask for."""
    pipeline, prompts = painter.load(painter_folder), held_out_prompts(num_prompts, seed)
    return {
        scale: _painted([(prompt, Shown.read(picture)) for prompt, picture in zip(prompts, pictures, strict=True)])
        for scale in scales
        for pictures in [painter.paint(pipeline, prompts, scale, seed)]
    }


def _painted(pairs: Question) -> Painted:
    asked = [(list(world.parse_prompt(prompt)[0]), shown) for prompt, shown in pairs]
    match = sum(mistakes(things, shown) == 0 for things, shown in asked)
    there = sum(thing in shown.things for things, shown in asked for thing in things)
    return Painted(Share(match, len(pairs)), Share(there, sum(len(things) for things, _ in asked)))


def held_out_prompts(number: int, seed: int) -> list[str]:
    """Prompts of scenes that no miniature model has trained on."""
    rng = np.random.default_rng([seed, 99])
    return [world.prompt(world.sample(rng, held_out=True)) for _ in range(number)]


def right_of_two(reward_folder: Path, num_prompts: int, seed: int = 0) -> dict[str, Share]:
    """How often the matching picture scores above one with one thing swapped, and above that of another scene."""
    rng = np.random.default_rng([seed, 98])
    model = ImageRewardModel.from_folder(reward_folder)
    scenes = [world.sample(rng, held_out=True) for _ in range(num_prompts)]
    others = {
        "one thing changed": [image_reward.swap_one(scene, rng) for scene in scenes],
        "another scene": [_different(scene, rng) for scene in scenes],
    }
    prompts = [world.prompt(scene) for scene in scenes]
    true = np.array(model.score(prompts, [world.draw(scene, rng) for scene in scenes], 64))
    false = {
        name: np.array(model.score(prompts, [world.draw(scene, rng) for scene in wrong], 64)) for name, wrong in others.items()
    }
    return {name: Share(int((true > scores).sum()), num_prompts) for name, scores in false.items()}


def _different(scene: world.Scene, rng: np.random.Generator) -> world.Scene:
    while True:
        other = world.sample(rng, held_out=True)
        if {thing.phrase for thing in other.things} != {thing.phrase for thing in scene.things}:
            return other


def picks(painter_folder: Path, reward_folder: Path, num_prompts: int, seed: int = 0) -> Picks:
    """What the image reward picks among the painter's pictures at four guidance scales, for held-out prompts."""
    rng = np.random.default_rng([seed, 97])
    scenes = [world.sample(rng, held_out=True) for _ in range(num_prompts)]
    questions = image_reward.paint_candidates(painter_folder, scenes, seed=1000 + seed)
    model = ImageRewardModel.from_folder(reward_folder)
    pairs = [pair for question in questions for pair in question]
    scores = np.array(model.score([prompt for prompt, _ in pairs], [shown.picture for _, shown in pairs], 64))
    counts = np.array([mistakes(world.parse_prompt(prompt)[0], shown) for prompt, shown in pairs])
    return _picks(scores.reshape(-1, len(GUIDANCE)), counts.reshape(-1, len(GUIDANCE)))


def _picks(scores: np.ndarray, counts: np.ndarray) -> Picks:
    """From scores and mistakes, (prompts, pictures)."""
    chosen = counts[np.arange(len(counts)), scores.argmax(axis=1)]
    differ = counts.min(axis=1) < counts.max(axis=1)
    some_match = differ & (counts.min(axis=1) == 0)
    return Picks(
        best=Share(int((chosen == counts.min(axis=1))[differ].sum()), int(differ.sum())),
        matching=Share(int((chosen == 0)[some_match].sum()), int(some_match.sum())),
        average=Share(int((counts == 0).sum()), counts.size),
        picked=Share(int((chosen == 0).sum()), len(chosen)),
    )
