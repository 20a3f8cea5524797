"""Pairs that do not teach length: RLAIF-V's cut-off, which brings the mean lengths of both sides closest (Yu et al., 2024)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

from pydantic import Field

from sightline.execute import Step, Use
from sightline.rows import Dropped, Pair

CUTOFFS = 50
"""Cut-offs tried: no fiftieth of the rejected answer's words, one, two, and so on to 49."""


class Balance(Step):
    """Drops the pairs whose chosen answers are shorter than their rejected ones by more than a share of their words.

    Pairs whose chosen answers are longer all stay, so where these outweigh the others from the start, lengths stay apart.
    """

    kind: Literal["balance"] = "balance"
    cutoff: int | None = Field(None, ge=0, lt=CUTOFFS)
    """That share, in fiftieths; absent until all pairs are known."""

    def informed(self, shards: Iterable[list[Any]]) -> Balance:
        """With the cut-off that is best for all pairs together, the least where several are."""
        chosen, rejected = [0] * CUTOFFS, [0] * CUTOFFS  # words of the pairs that a cut-off keeps and no lower one does
        for pair in (pair for rows in shards for pair in rows):
            words = _words(pair)
            least = _least_cutoff(*words)
            if least < CUTOFFS:
                chosen[least] += words[0]
                rejected[least] += words[1]
        gaps = {cutoff: _gap(sum(chosen[: cutoff + 1]), sum(rejected[: cutoff + 1])) for cutoff in range(CUTOFFS)}
        return self.model_copy(update={"cutoff": min(gaps, key=lambda cutoff: gaps[cutoff])})

    def make(self, use: Use, *inputs: list[Any]) -> Iterator[Pair | Dropped]:
        assert self.cutoff is not None
        for pair in inputs[0]:
            words = _words(pair)
            if _least_cutoff(*words) <= self.cutoff:
                yield pair
            else:
                detail = f"{words[0]} words against {words[1]}, less than {1 - self.cutoff / CUTOFFS:.0%}"
                yield Dropped(key=pair.key, reason="no pair: chosen too short for the balance", row_id=pair.id, detail=detail)


def _words(pair: Pair) -> tuple[int, int]:
    """Of the chosen and of the rejected answer."""
    return len((pair.chosen or "").split()), len((pair.rejected or "").split())


def _least_cutoff(chosen: int, rejected: int) -> int:
    """The least cut-off that keeps a pair: the published (rejected - chosen) / rejected <= cutoff / 50, in whole numbers."""
    return max(0, -(-CUTOFFS * (rejected - chosen) // rejected))


def _gap(chosen: int, rejected: int) -> float:
    """How far the mean lengths are apart, as a share of the rejected one; the pairs' count cancels out."""
    return abs(chosen - rejected) / rejected if rejected else float("inf")
