"""Answers of different scores against each other: all (VLFeedback; Li et al., 2024), or some (RLAIF-V; Yu et al., 2024)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from pydantic import Field

from sightline.make.pairs import Found, PairPolicy, Standing, by_lot


class AllPairs(PairPolicy):
    """Every pair of answers whose scores differ; each that is not made is counted with its reason.

    VLFeedback's score is the mean of three aspects, which a judge with its rubric gives: weights {judge: 1}. RLAIF-V's is minus
    the number of rejected claims: weights {claims.rejected: -1}, min_gap: 1, per_instruction: 2, balance_lengths: true.
    """

    per_instruction: int | None = Field(None, ge=1)
    """At most so many pairs an instruction, drawn; 2 in RLAIF-V, all in VLFeedback."""

    def pairs(self, standing: list[Standing], seed: int) -> Iterator[Found | str]:
        fitting = []
        for one, other in combinations(standing, 2):
            better, worse = (one, other) if one.score > other.score else (other, one)
            why = self.why_not(better, worse)
            if why is None:
                fitting.append((better, worse))
            else:
                yield why
        for place, pair in enumerate(by_lot(fitting, seed)):
            spare = self.per_instruction is not None and place >= self.per_instruction
            yield "more than per_instruction" if spare else pair
