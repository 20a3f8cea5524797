"""Rejection sampling: only the best of several answers is learned (mllm-dpo; Li et al., 2024)."""

from __future__ import annotations

from collections.abc import Iterator

from sightline.make.pairs import ScoredPolicy, Standing, foremost, row_to_learn
from sightline.rows import Dropped, Instruction, Pair


class BestOfN(ScoredPolicy):
    """The answer of the highest score, one row an instruction, to be learned by itself (objective sft)."""

    tie_break: dict[str, float] = {}
    """Annotators, weighed as above, that decide among several best answers. Where these tie too, or there are none, the one
    closest to the mean length of all answers is taken, so that the rows do not teach length."""
    min_score: float | None = None
    """Instructions whose best answer scores less give no row."""

    def measures(self) -> list[str]:
        return sorted({*self.weights, *self.tie_break})

    def settle(self, instruction: Instruction, standing: list[Standing], seed: int) -> Iterator[Pair | Dropped]:
        mean = sum(one.num_words for one in standing) / len(standing)
        best = min(foremost(standing, self.tie_break, sign=1), key=lambda one: (abs(one.num_words - mean), one.response.id))
        if self.min_score is not None and best.score < self.min_score:
            reason, detail = "no row: best score below min_score", f"{best.score:g}"
            yield Dropped(key=instruction.key, reason=reason, row_id=instruction.id, detail=detail)
        else:
            yield row_to_learn(self.kind, instruction, best)
