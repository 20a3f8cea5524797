"""mllm-dpo's rule: the best answer against one that is clearly worse (Li et al., 2024)."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from sightline.make.pairs import Found, PairPolicy, Standing, by_lot


class Margin(PairPolicy):
    """The highest score against one drawn from all that are lower by `min_gap` or more, one pair an instruction.

    The paper's score is the sum of three of its judge's five attributes: weights {judge.helpfulness: 1, judge.correctness: 1,
    judge.coherence: 1}. Its code draws without a seed, and takes the first of several best; here these are drawn, too.
    """

    min_gap: float = Field(2.0, ge=0)
    """Least difference of scores within a pair, 2 in the paper. A tie never makes a pair."""

    def pairs(self, standing: list[Standing], seed: int) -> Iterator[Found | str]:
        best, worst = max(standing, key=lambda one: one.score), min(standing, key=lambda one: one.score)
        tops = [one for one in standing if round(best.score - one.score, 9) == 0]
        fitting = [(top, other) for top in tops for other in standing if self.why_not(top, other) is None]
        yield by_lot(fitting, seed)[0] if fitting else str(self.why_not(best, worst))
