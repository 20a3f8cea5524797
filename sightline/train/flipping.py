"""Label noise for experiments: pairs whose chosen and rejected answers are swapped (mllm-dpo's noise ablation)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from sightline.errors import DataError
from sightline.execute import Step, Use
from sightline.rows import FLIPPED, Pair
from sightline.store.address import digest


class FlipPairs(Step):
    """Each pair as it is or, in a share of them, the wrong way round. A pair's own draw decides, whatever the others are."""

    version: ClassVar[int] = 1

    kind: Literal["flip"] = "flip"
    share: float = Field(ge=0, le=1)
    """Of the pairs, about."""
    seed: int
    """Of the draws."""

    def make(self, use: Use, *inputs: list[Pair]) -> Iterator[Pair]:
        yield from (flipped(pair) if drawn(self.seed, pair) < self.share else pair for pair in inputs[0])


def drawn(seed: int, pair: Pair) -> float:
    """A number from 0 up to 1, the same for the same pair and seed."""
    return int(digest("flip", seed, pair.id)[:12], 16) / 16**12


def flipped(pair: Pair) -> Pair:
    """The pair with all that belongs to its chosen answer in the place of the rejected one's, and the other way round."""
    if len(pair.answers) < 2:
        problem = f"row {pair.id} has one answer only: there is nothing to swap it with"
        raise DataError("train.flip_share", problem, "leave out flip_share, or train on pairs")
    sides = {"chosen": "rejected", "rejected": "chosen"}
    swapped = {
        f"{to}{what}": getattr(pair, f"{of}{what}") for of, to in sides.items() for what in ("", "_score", "_id", "_model")
    }
    return replace(pair, id=pair.id + FLIPPED, **swapped)
