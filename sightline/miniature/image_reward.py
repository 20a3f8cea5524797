"""The miniature image reward: ImageReward's architecture, small, which learns to prefer the picture that fits its prompt better.

Its vision tower first learns what is in every cell. Then the text tower learns from preferences (Bradley & Terry, 1952): among
four pairs of prompt and picture, the one with fewer mistakes should score higher; and, so that it soon knows where to look, to
tell at the word for each thing whether it is there, and at the start how many mistakes there are. The world knows the mistakes of
what it draws; those of the miniature painter's own pictures are read by templates.
Axes: Q questions of four, T tokens, W features.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, logsigmoid

from sightline.engines.image_reward_model import ImageRewardConfig, ImageRewardModel
from sightline.miniature import painter, tower, world
from sightline.miniature.words import PROMPT_TOKENS, word_tokenizer
from sightline.miniature.world import COLOURS, KINDS, Scene, Thing

TOWER_STEPS, STEPS = 300, 900
DRAWN, PAINTED = 2500, 220
"""Questions about drawn scenes, and prompts that the painter paints four times, to learn from."""
BATCH_SIZE = 24  # questions, of four pictures each
PEAK_LR = 1e-3
MOST_MISTAKES = 6
GUIDANCE = (3.0, 5.0, 7.0, 9.0)
SHIPPED_PAINTER = Path(__file__).parent / "weights" / "painter"

Asked = tuple[str, str]  # colour and kind


def build(folder: Path, seed: int, share: float = 1.0, log: Callable[[str], None] = print) -> None:
    """Train an image reward and save it in ImageReward's layout. It learns from the painter beside it, or the shipped one."""
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 2])
    model = untrained()
    tower.train(model.vision, _lessons(rng, model), max(2, round(TOWER_STEPS * share)), 64, log)
    beside = folder.parent / "painter"
    examples = prepare(rng, model, beside if beside.is_dir() else SHIPPED_PAINTER, share, log)
    train(model, examples, rng, max(2, round(STEPS * share)), log)
    standardise(model, examples, rng)
    model.save_folder(folder)


def untrained() -> ImageRewardModel:
    """The untrained model, with the world's words."""
    tokenizer = word_tokenizer(start="[CLS]", end="[SEP]", pad="[PAD]", unknown="[UNK]")
    config = ImageRewardConfig(
        image_size=world.SIZE,
        patch_size=world.CELL,
        vision_width=96,
        vision_layers=2,
        vision_heads=4,
        vocab_size=len(tokenizer),
        text_width=96,
        text_layers=4,
        text_heads=6,
        max_positions=PROMPT_TOKENS,
        head_widths=(128, 64, 32, 16),
        max_length=PROMPT_TOKENS,
        score_mean=0.0,
        score_std=1.0,
    )
    model = ImageRewardModel(config, tokenizer)
    for name, weight in model.named_parameters():  # BLIP's own start, for wide towers, is far too small at this width
        if "embedding" in name:
            nn.init.normal_(weight, std=0.08)
        elif weight.dim() == 2:
            nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
    return model


# Mistakes


@dataclass(frozen=True)
class Shown:
    """A picture, the things that it truly shows, and the number of cells that show something but no clear thing."""

    picture: Image.Image
    things: tuple[Asked, ...]
    smudges: int = 0

    @classmethod
    def drawn(cls, scene: Scene, rng: np.random.Generator) -> Shown:
        return cls(tower.picture(scene, rng), tuple((thing.colour, thing.kind) for thing in scene.things))

    @classmethod
    def read(cls, picture: Image.Image) -> Shown:
        reading = world.read_cells(picture)
        return cls(picture, tuple((thing.colour, thing.kind) for thing in reading.things), len(reading.smudges))


def mistakes(asked: Sequence[Asked], shown: Shown) -> int:
    """Things that are missing, things that nobody asked for, and smudges."""
    wanted, there = Counter(asked), Counter(shown.things)
    return (wanted - there).total() + (there - wanted).total() + shown.smudges


def swap_one(scene: Scene, rng: np.random.Generator) -> Scene:
    """The scene with another colour or another kind for one thing."""
    things = list(scene.things)
    at = int(rng.integers(len(things)))
    if rng.random() < 0.5:
        things[at] = dataclasses.replace(things[at], colour=_other(tuple(COLOURS), things[at].colour, rng))
    else:
        things[at] = dataclasses.replace(things[at], kind=_other(KINDS, things[at].kind, rng))
    return Scene(tuple(things), scene.topic)


def change(scene: Scene, rng: np.random.Generator) -> Scene:
    """The scene with one mistake: another colour or kind, a thing too few, too many, or double."""
    things = list(scene.things)
    how = str(rng.choice(["swap", "missing", "extra", "double"], p=[0.6, 0.15, 0.15, 0.1]))
    if how == "swap" or (how == "missing" and len(things) == 1) or len(things) > 3:
        return swap_one(scene, rng)
    if how == "missing":
        del things[int(rng.integers(len(things)))]
    else:
        used = {thing.cell for thing in things}
        cell = int(rng.choice([cell for cell in range(world.GRID**2) if cell not in used]))
        extra = Thing(str(rng.choice(KINDS)), str(rng.choice(list(COLOURS))), cell)
        things.append(extra if how == "extra" else dataclasses.replace(things[int(rng.integers(len(things)))], cell=cell))
    return Scene(tuple(sorted(things, key=lambda thing: thing.cell)), scene.topic)


def _other(names: Sequence[str], one: str, rng: np.random.Generator) -> str:
    return str(rng.choice([name for name in names if name != one]))


# Examples


@dataclass(frozen=True)
class Examples:
    """Questions of four pairs: pixels (Q, 4, 3, 24, 24), token ids (Q, 4, T), mistakes (Q, 4), and at the word for each thing
    whether the picture shows it, elsewhere NOT_ASKED (Q, 4, T)."""

    pixels: Tensor
    ids: Tensor
    mistakes: Tensor
    there: Tensor

    def __len__(self) -> int:
        return len(self.mistakes)


NOT_ASKED = -100  # what cross_entropy leaves out
Question = list[tuple[str, Shown]]


def prepare(
    rng: np.random.Generator, model: ImageRewardModel, painter_folder: Path, share: float, log: Callable[[str], None]
) -> Examples:
    """All examples: drawn pictures, the painter's four for a prompt, and the painter's pictures with other prompts."""
    began = time.process_time()
    questions = [drawn_question(rng) for _ in range(max(4, round(DRAWN * share)))]
    painted = paint_candidates(painter_folder, [world.sample(rng) for _ in range(max(4, round(PAINTED * share)))], seed=1)
    questions += painted
    questions += [asked_otherwise(shown, rng) for question in painted for _, shown in question if 1 <= len(shown.things) <= 3]
    log(f"image reward: {len(questions)} questions, {time.process_time() - began:.0f} CPU s")
    return encode(model, questions)


def drawn_question(rng: np.random.Generator) -> Question:
    """A prompt with its picture, one changed once, one changed twice, and another picture."""
    scene = world.sample(rng)
    once = change(scene, rng)
    scenes = [scene, once, change(once if rng.random() < 0.5 else scene, rng), world.sample(rng)]
    return [(world.prompt(scene), Shown.drawn(each, rng)) for each in scenes]


def paint_candidates(folder: Path, scenes: Sequence[Scene], seed: int) -> list[Question]:
    """For each scene's prompt the painter's pictures at the four guidance scales."""
    pipeline = painter.load(folder)
    prompts = [world.prompt(scene) for scene in scenes]
    columns = [painter.paint(pipeline, prompts, guidance, seed * 10 + at) for at, guidance in enumerate(GUIDANCE)]
    return [[(prompt, Shown.read(column[row])) for column in columns] for row, prompt in enumerate(prompts)]


def asked_otherwise(shown: Shown, rng: np.random.Generator) -> Question:
    """One picture with four prompts: what it shows, that with one mistake, with two, and another prompt."""
    things = tuple(Thing(kind, colour, cell) for cell, (colour, kind) in enumerate(shown.things))
    scene = Scene(things, world.sample(rng).topic)
    once = _askable(change(scene, rng))
    scenes = [scene, once, _askable(change(once, rng)), world.sample(rng)]
    return [(world.prompt(each), shown) for each in scenes]


def _askable(scene: Scene) -> Scene:
    """A prompt has room for three things."""
    return Scene(scene.things[-3:], scene.topic)


def encode(model: ImageRewardModel, questions: Sequence[Question]) -> Examples:
    """Questions as tensors, with their mistakes counted."""
    pairs = [pair for question in questions for pair in question]
    ids = model.encode([prompt for prompt, _ in pairs])[0]
    pixels = torch.stack([model.pixels([shown.picture])[0] for _, shown in pairs])
    asked = [world.parse_prompt(prompt)[0] for prompt, _ in pairs]
    counts = torch.tensor([mistakes(things, shown) for things, (_, shown) in zip(asked, pairs, strict=True)])
    there = torch.full_like(ids, NOT_ASKED)
    named = torch.isin(ids, torch.tensor(model.tokenizer.convert_tokens_to_ids(list(KINDS))))  # in the order of the things
    there[named] = torch.tensor(
        [int(thing in shown.things) for things, (_, shown) in zip(asked, pairs, strict=True) for thing in things]
    )
    return Examples(*(values.unflatten(0, (len(questions), -1)) for values in (pixels, ids, counts, there)))


def _lessons(rng: np.random.Generator, model: ImageRewardModel) -> Callable[[int], tuple[list[Scene], Tensor]]:
    def lesson(size: int) -> tuple[list[Scene], Tensor]:
        scenes = [tower.crowded(rng) for _ in range(size)]
        return scenes, model.pixels([tower.picture(scene, rng) for scene in scenes])

    return lesson


# Training


class _Readout(nn.Module):
    """What helps at first: is each thing there, and how many mistakes in all? Thrown away after training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.there, self.count = nn.Linear(width, 2), nn.Linear(width, MOST_MISTAKES + 1)

    def loss(self, states: Tensor, there: Tensor, counts: Tensor) -> Tensor:
        things = cross_entropy(self.there(states).flatten(0, 1), there.flatten(), ignore_index=NOT_ASKED)
        return things + cross_entropy(self.count(states[:, 0]), counts.clamp(max=MOST_MISTAKES))


def train(model: ImageRewardModel, examples: Examples, rng: np.random.Generator, steps: int, log: Callable[[str], None]) -> None:
    """Learn the preferences; the vision tower keeps what it knows."""
    model.vision.requires_grad_(False)
    readout = _Readout(model.config.text_width)
    weights = [*model.text.parameters(), *model.head.parameters(), *readout.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=PEAK_LR, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LR, total_steps=steps + 1, pct_start=0.1)
    began, recent = time.process_time(), []
    model.train()
    for step in range(steps):
        rows = torch.from_numpy(rng.integers(len(examples), size=BATCH_SIZE))
        states = look(model, examples, rows)
        loss, right = preference_loss(model.grade(states), examples.mistakes[rows])
        help_loss = readout.loss(states, examples.there[rows].flatten(0, 1), examples.mistakes[rows].flatten())
        optimizer.zero_grad()
        (loss + 0.5 * help_loss).backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        recent.append((loss.item(), right))
        if step % 100 == 99 or step == steps - 1:
            mean_loss, mean_right = np.mean(recent, axis=0)
            log(
                f"image reward step {step}: loss {mean_loss:.3f}, right {mean_right:.3f}, {time.process_time() - began:.0f} CPU s"
            )
            recent = []
    model.eval()


def look(model: ImageRewardModel, examples: Examples, rows: Tensor) -> Tensor:
    """States (4 Q, T, W) of the questions' prompts, which have looked at the pictures."""
    ids = examples.ids[rows].flatten(0, 1)
    mask = (ids != model.tokenizer.pad_token_id).long()
    return model.read(examples.pixels[rows].flatten(0, 1), ids, mask)


def preference_loss(scores: Tensor, counts: Tensor) -> tuple[Tensor, float]:
    """Bradley-Terry over all two of a question that differ in mistakes, and the share of them that the scores order rightly."""
    scores = scores.view_as(counts)
    better = counts[:, :, None] < counts[:, None, :]
    gaps = (scores[:, :, None] - scores[:, None, :])[better]
    return -logsigmoid(gaps).mean(), (gaps > 0).float().mean().item()


@torch.no_grad()
def standardise(model: ImageRewardModel, examples: Examples, rng: np.random.Generator, size: int = 400) -> None:
    """Set the configured mean and deviation so that scores of such pictures have mean 0 and deviation 1, as published."""
    rows = torch.from_numpy(rng.integers(len(examples), size=size))
    scores = model.grade(look(model, examples, rows))
    model.config = dataclasses.replace(model.config, score_mean=scores.mean().item(), score_std=scores.std().item())
