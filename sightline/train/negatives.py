"""What a pair is held against besides its rejected answer: a spoilt picture, another row's picture or question."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from sightline.execute import Step, Use
from sightline.plugin import Section
from sightline.rows import Dropped, Negative, Pair
from sightline.store.address import digest

Kind = Literal["noise", "black", "crop", "rotate", "other"]


class Negatives(Section):
    """How the negatives are made that some objectives ask for. Each follows from the pair's pictures and instruction and the seed
    alone, so that all pairs of one instruction have the same and share what is computed of it."""

    picture: Kind = "noise"
    """noise: diffusion noise; black; crop: a window of half the height and width; rotate: by 10 to 80 degrees; other: another
    row's picture."""
    noise_step: int = Field(700, ge=0, le=999)
    """How far the noise goes. 500 keeps 86 % of the picture (POVID), 700 keeps 59 % (MCM-DPO), 999 keeps 29 %."""
    seed: int = Field(0, ge=0)
    """Draws other noise, windows, angles and rows."""


class MakeNegatives(Step):
    """A negative for each pair, stored before training. Other rows come from the same shard."""

    version: ClassVar[int] = 1

    kind: Literal["negatives"] = "negatives"
    parts: list[Literal["picture", "question"]]
    """What the objective asks for."""
    settings: Negatives
    """How they are made."""

    def make(self, use: Use, *inputs: list[Pair]) -> Iterator[Negative | Dropped]:
        for pair in inputs[0]:
            try:
                yield self._negative(pair, inputs[0])
            except _NoNegative as reason:
                yield Dropped(key=pair.key, reason=str(reason), row_id=pair.id)

    def _negative(self, pair: Pair, pairs: list[Pair]) -> Negative:
        """From the pair, or from others of its shard."""
        seed = int(digest("negative", self.settings.seed, pair.pictures, pair.instruction)[:8], 16)
        question, pictures, sources = None, [], []
        if "question" in self.parts:
            unlike = [other for other in pairs if other.instruction.strip() != pair.instruction.strip()]
            other = _drawn(unlike, seed, "no other question to hold it against")
            question = other.instruction
            sources.append(other.id)
        if "picture" in self.parts and not pair.pictures:
            raise _NoNegative("no picture to spoil")
        if "picture" in self.parts and self.settings.picture != "other":
            pictures = [spoilt(name, self.settings, seed + at) for at, name in enumerate(pair.pictures)]
        elif "picture" in self.parts:
            unlike = [one for one in pairs if one.pictures != pair.pictures and len(one.pictures) == len(pair.pictures)]
            other = _drawn(unlike, seed, "no other picture to hold it against")
            pictures = other.pictures
            sources.append(other.id)
        row_id = digest("negative", pair.id, question, pictures)
        return Negative(
            id=row_id, key=pair.key, pair_id=pair.id, instruction=question, pictures=pictures, seed=seed, source_ids=sources
        )


class _NoNegative(Exception):
    """A pair has nothing that it could be held against; says what is missing."""


def _drawn(pairs: list[Pair], seed: int, missing: str) -> Pair:
    """One of the pairs, whatever their order."""
    if not pairs:
        raise _NoNegative(missing)
    return min(pairs, key=lambda pair: digest(seed, pair.id))


def spoilt(name: str, settings: Negatives, seed: int) -> str:
    """The name of a stored picture's spoilt version: `<picture>|<how>|<seed>`."""
    how = f"noise:{settings.noise_step}" if settings.picture == "noise" else settings.picture
    return f"{name}|{how}|{seed}"
