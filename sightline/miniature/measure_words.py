"""Numbers of the miniature language models on held-out scenes (a torch file; the report prints them).

The benchmarks proper, with their published reading rules, are in `sightline.eval`; these are quick and know the world's truth.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL.Image import Image

from sightline.engines.armorm_model import ArmoRM
from sightline.miniature import captions, world
from sightline.miniature.answer_reward import Case
from sightline.miniature.speaker import Speaker
from sightline.miniature.tower import picture
from sightline.miniature.truth import faults, mentions
from sightline.miniature.vlms import POOL
from sightline.miniature.world import KINDS, Scene

_PHRASE = rf"an? ({'|'.join(world.COLOURS)}) ({'|'.join(KINDS)})"
_FLUENT = re.compile(rf"The picture shows {_PHRASE}(, {_PHRASE})*( and {_PHRASE})? in the ({'|'.join(world.PLACES)})\.")


@dataclass(frozen=True)
class Descriptions:
    """How descriptions of scenes fare, in percent except `words`."""

    chair_i: float
    """Invented kinds among the kinds named."""
    chair_s: float
    """Descriptions that invent something."""
    coverage: float
    """True kinds that are named."""
    colours: float
    """Right colours among the true kinds named."""
    places: float
    fluent: float
    words: float
    true_words: float
    """Mean length of a full true description."""
    parroted: float
    """Things that were asked for and are not there, but are named; only where the instruction asks for something else."""


@dataclass(frozen=True)
class Existence:
    """Accuracy on existence questions, half of them about what is there, in percent."""

    random: float
    popular: float
    adversarial: float
    coloured: float
    num_questions: int

    @property
    def accuracy(self) -> float:
        """Over the three settings of POPE."""
        return (self.random + self.popular + self.adversarial) / 3


@dataclass(frozen=True)
class Sampled:
    """What sampling at a temperature yields, in percent of the scenes where something expected is not there."""

    honest: float
    """Samples without any invented kind."""
    perfect: float
    """Samples without any fault."""


@dataclass(frozen=True)
class RightOfTwo:
    """How often the answer reward prefers the truer of two answers of the pool, in percent, over pairs that differ in truth."""

    right: float
    num_pairs: int


def held_out(num_scenes: int, seed: int) -> tuple[list[Scene], list[Image]]:
    """Scenes that nobody trained on, and their pictures."""
    rng = np.random.default_rng([seed, 77])
    scenes = [world.sample(rng, held_out=True) for _ in range(num_scenes)]
    return scenes, [world.draw(scene, rng) for scene in scenes]


def _asked(scenes: Sequence[Scene], right: bool, seed: int) -> list[str]:
    rng = np.random.default_rng([seed, 78])
    shown = [scene if right else captions.altered(scene, rng) for scene in scenes]
    return [str(rng.choice(world.ASKED)).format(prompt=world.prompt(scene)) for scene in shown]


def instructions(style: str, scenes: Sequence[Scene], seed: int) -> list[str]:
    """'plain': `world.DESCRIBE`; 'asked': says the true prompt; 'misled': says a prompt that is wrong in one thing."""
    return [world.DESCRIBE] * len(scenes) if style == "plain" else _asked(scenes, style == "asked", seed)


def descriptions(speaker: Speaker, num_scenes: int, seed: int = 0, style: str = "plain") -> Descriptions:
    """Greedy descriptions of held-out scenes."""
    scenes, pictures = held_out(num_scenes, seed)
    asked = instructions(style, scenes, seed)
    return summary(scenes, asked, speaker.say(pictures, asked))


def summary(scenes: Sequence[Scene], asked: Sequence[str], answers: Sequence[str]) -> Descriptions:
    """The numbers of these answers."""
    found = [faults(answer, scene) for scene, answer in zip(scenes, answers, strict=True)]
    named = [{kind for _, kind in mentions(answer)} for answer in answers]
    true_named = sum(len(kinds & scene.kinds) for kinds, scene in zip(named, scenes, strict=True))
    tempting = [{kind for _, kind in mentions(text)} - scene.kinds for text, scene in zip(asked, scenes, strict=True)]
    return Descriptions(
        chair_i=_percent(sum(one.invented for one in found), sum(map(len, named))),
        chair_s=_percent(sum(one.invented > 0 for one in found), len(found)),
        coverage=_percent(true_named, sum(len(scene.kinds) for scene in scenes)),
        colours=_percent(true_named - sum(one.miscoloured for one in found), true_named),
        places=_percent(sum(one.misplaced == 0 for one in found), len(found)),
        fluent=_percent(sum(_FLUENT.fullmatch(answer) is not None for answer in answers), len(answers)),
        words=float(np.mean([len(answer.split()) for answer in answers])),
        true_words=float(np.mean([len(world.describe(scene).split()) for scene in scenes])),
        parroted=_percent(sum(len(kinds & lure) for kinds, lure in zip(named, tempting, strict=True)), sum(map(len, tempting))),
    )


def _percent(part: float, whole: float) -> float:
    return 100 * part / whole if whole else 0.0


def sampled(speaker: Speaker, num_scenes: int, seed: int = 0, temperature: float = 1.0, style: str = "asked") -> Sampled:
    """One sample a scene, over the scenes where the habit tempts."""
    scenes, pictures = held_out(num_scenes, seed)
    asked = instructions(style, scenes, seed)
    answers = speaker.say(pictures, asked, temperature, seed)
    found = [faults(answer, scene) for scene, answer in zip(scenes, answers, strict=True) if captions.expected(scene)]
    honest, perfect = (sum(one.invented == 0 for one in found), sum(one.total == 0 for one in found))
    return Sampled(_percent(honest, len(found)), _percent(perfect, len(found)))


class _Absentees:
    """Chooses what to ask for that is not there, as POPE's three settings do, from the world's own statistics."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng([seed, 79])
        self.together = np.zeros((len(KINDS), len(KINDS)))
        for _ in range(4000):
            at = [KINDS.index(kind) for kind in world.sample(self.rng).kinds]
            self.together[np.ix_(at, at)] += 1
        self.often = np.diag(self.together)

    def choose(self, setting: str, scene: Scene, count: int) -> list[str]:
        absent = [at for at, kind in enumerate(KINDS) if kind not in scene.kinds]
        if setting == "random":
            return [KINDS[at] for at in self.rng.choice(absent, size=count, replace=False)]
        present = [KINDS.index(kind) for kind in scene.kinds]
        weight = self.often if setting == "popular" else (self.together[present] / self.often[present, None]).sum(axis=0)
        return [KINDS[at] for at in sorted(absent, key=lambda at: -weight[at])[:count]]


def existence(speaker: Speaker, num_scenes: int, seed: int = 0) -> Existence:
    """POPE-like questions on held-out scenes: as many about what is absent as about what is there."""
    scenes, pictures = held_out(num_scenes, seed)
    absentees = _Absentees(seed)
    said: dict[str, float] = {}
    count = 0
    for setting in ("random", "popular", "adversarial", "coloured"):
        asked = [(at, *turn) for at, scene in enumerate(scenes) for turn in _questions(setting, scene, absentees)]
        answers = speaker.affirms([pictures[at] for at, _, _ in asked], [question for _, question, _ in asked])
        said[setting] = _percent(sum(answer == truth for answer, (_, _, truth) in zip(answers, asked, strict=True)), len(asked))
        count += len(asked)
    return Existence(**said, num_questions=count)


def _questions(setting: str, scene: Scene, absentees: _Absentees) -> list[tuple[str, bool]]:
    if setting == "coloured":
        there = [(thing.kind, thing.colour) for thing in scene.things]
        absent = [_recoloured(kind, colour, scene, absentees) for kind, colour in there]
        return [(captions.exists_question(*asked), asked in there) for asked in there + absent]
    kinds = [*sorted(scene.kinds), *absentees.choose(setting, scene, len(scene.kinds))]
    return [(captions.exists_question(kind), kind in scene.kinds) for kind in kinds]


def _recoloured(kind: str, colour: str, scene: Scene, absentees: _Absentees) -> tuple[str, str]:
    """A near miss: the thing in another colour, or another thing in its colour."""
    if absentees.rng.random() < 0.5:
        return kind, str(absentees.rng.choice([other for other in world.COLOURS if other != colour]))
    return absentees.choose("adversarial", scene, 1)[0], colour


def existence_in_pictures(speaker: Speaker, pictures: Sequence[Image], seed: int = 0) -> float:
    """Accuracy, in percent, on any pictures that `world.read` reads clearly: half coloured, half of them about what is there."""
    rng = np.random.default_rng([seed, 80])
    asked = []
    for at, image in enumerate(pictures):
        reading = world.read_cells(image)
        if reading.smudges or not reading.things:
            continue
        scene = Scene(reading.things, "art")
        for _ in range(4):
            turn = captions.existence(scene, captions.Writer(), rng)
            asked.append((at, turn.question, bool(turn.seen)))
    answers = speaker.affirms([pictures[at] for at, _, _ in asked], [question for _, question, _ in asked])
    return _percent(sum(answer == truth for answer, (_, _, truth) in zip(answers, asked, strict=True)), len(asked))


def softened(num_scenes: int, seed: int = 0) -> list[Image]:
    """Held-out scenes, half of them blurred and noisy as a painter might paint them."""
    scenes, _ = held_out(num_scenes, seed)
    rng = np.random.default_rng([seed, 81])
    return [picture(scene, rng) for scene in scenes]


def right_of_two(folder: Path, pool: Path, num_scenes: int, seed: int = 0, style: str = "asked") -> RightOfTwo:
    """Greedy answers and one sample of each pool model; every pair that differs in how many faults it has."""
    scenes, pictures = held_out(num_scenes, seed)
    asked = instructions(style, scenes, seed)
    said = []
    for name in POOL:
        speaker = Speaker(pool / name)
        said += [speaker.say(pictures, asked, temperature, seed) for temperature in (0.0, 1.0)]
    groups = [
        [Case(scene, instruction, answer) for answer in dict.fromkeys(answers)]
        for scene, instruction, *answers in zip(scenes, asked, *said, strict=True)
    ]
    return judged_pairs(ArmoRM.from_folder(folder), groups)


def judged_pairs(reward: ArmoRM, groups: Sequence[Sequence[Case]]) -> RightOfTwo:
    """Compare all pairs within each group of answers to one instruction."""
    flat = [(case.instruction, case.answer) for group in groups for case in group]
    scores = iter(reward.score(flat, batch_size=128))
    right = count = 0
    for group in groups:
        judged = [(faults(case.answer, case.scene).total, next(scores).score) for case in group]
        for number, (first, first_score) in enumerate(judged):
            for second, second_score in judged[number + 1 :]:
                count += first != second
                right += first != second and (first < second) == (first_score > second_score)
    return RightOfTwo(_percent(right, count), count)
