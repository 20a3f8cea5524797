"""What a pair is held against besides its rejected answer: a spoilt picture, another row's picture, question or answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from sightline.execute import Step, Use
from sightline.plugin import Section
from sightline.rows import Dropped, Negative, Pair
from sightline.store.address import digest
from sightline.train.objectives import Part

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
    compat: Literal["mcm_dpo"] | None = None
    """mcm_dpo: spoil as MCM-DPO's code does (llava/train/train.py). black is then 0 after the processor's normalising, which is a
    mean grey (line 976); crop a window of at most 320 pixels' height and 240 width, which that code means the other way round
    (lines 941 to 945); rotate takes the nearest pixel (line 948). Its noise, drawn anew each epoch there, stays the row's."""


class MakeNegatives(Step):
    """A negative for each pair, stored before training. Other rows come from the same shard, or else from a further one."""

    version: ClassVar[int] = 1

    kind: Literal["negatives"] = "negatives"
    parts: list[Part]
    """What the objective asks for."""
    settings: Negatives
    """How they are made."""

    def make(self, use: Use, *inputs: list[Pair]) -> Iterator[Negative | Dropped]:
        for pair in inputs[0]:
            try:
                yield self._negative(pair, inputs)
            except _NoNegative as reason:
                yield Dropped(key=pair.key, reason=str(reason), row_id=pair.id)

    def _negative(self, pair: Pair, shards: Sequence[list[Pair]]) -> Negative:
        """From the pair, or from others."""
        seed = int(digest("negative", self.settings.seed, pair.pictures, pair.instruction)[:8], 16)
        lenders: dict[Part, Pair] = {}
        if "question" in self.parts:
            lenders["question"] = _drawn(shards, seed, lambda other: _asks_otherwise(pair, other), "question")
        if "picture" in self.parts and not pair.pictures:
            raise _NoNegative("no picture to spoil")
        if "picture" in self.parts and self.settings.picture == "other":
            lenders["picture"] = _drawn(shards, seed, lambda other: _shows_otherwise(pair, other), "picture")
        if "response" in self.parts:
            lenders["response"] = _drawn(shards, seed, lambda other: bool(_lent_answers(pair, other)), "answer")
        question = lenders["question"].instruction if "question" in lenders else None
        pictures = lenders["picture"].pictures if "picture" in lenders else self._spoilt(pair, seed)
        answers = _lent_answers(pair, lenders["response"]) if "response" in lenders else []
        answers = answers and [answers[seed % len(answers)]]
        return Negative(
            id=digest("negative", pair.id, question, pictures, *answers),
            key=pair.key,
            pair_id=pair.id,
            instruction=question,
            pictures=pictures,
            seed=seed,
            source_ids=[lender.id for lender in lenders.values()],
            response=answers[0] if answers else None,
        )

    def _spoilt(self, pair: Pair, seed: int) -> list[str]:
        if "picture" not in self.parts:
            return []
        return [spoilt(name, self.settings, seed + at) for at, name in enumerate(pair.pictures)]


class _NoNegative(Exception):
    """A pair has nothing that it could be held against; says what is missing."""


def _asks_otherwise(pair: Pair, other: Pair) -> bool:
    return other.instruction.strip() != pair.instruction.strip()


def _shows_otherwise(pair: Pair, other: Pair) -> bool:
    return other.pictures != pair.pictures and len(other.pictures) == len(pair.pictures)


def _lent_answers(pair: Pair, other: Pair) -> list[str]:
    """Answers of a row about something else that the pair does not have itself."""
    if (other.pictures, other.instruction) == (pair.pictures, pair.instruction):
        return []
    own = {text.strip() for text in pair.answers.values()}
    return [text for text in other.answers.values() if text.strip() and text.strip() not in own]


def _drawn(shards: Sequence[list[Pair]], seed: int, fits: Callable[[Pair], bool], missing: str) -> Pair:
    """One of the first shard's rows that fit, whatever their order; of the next shard's where none does."""
    for rows in shards:
        if fitting := [row for row in rows if fits(row)]:
            return min(fitting, key=lambda row: digest(seed, row.id))
    raise _NoNegative(f"no other {missing} to hold it against")


def spoilt(name: str, settings: Negatives, seed: int) -> str:
    """The name of a stored picture's spoilt version: `<picture>|<how>|<seed>`; how is a word, and after a colon its number or
    whose code it follows."""
    detail = str(settings.noise_step) if settings.picture == "noise" else settings.compat
    return f"{name}|{settings.picture}{f':{detail}' if detail else ''}|{seed}"
