"""PDS-DPO's rule: the best answer against the worst."""

from __future__ import annotations

from sightline.make.pairs import PairPolicy, Standing, weighted


class BestWorst(PairPolicy):
    """The highest score against the lowest, one pair an instruction."""

    tie_break: dict[str, float] = {}
    """Annotators, weighed as above, that decide among several best answers, and among several worst ones. Where these tie too, or
    there are none, the best and the worst that are closest in length are taken, so that the pair does not teach length."""

    def annotators(self) -> list[str]:
        return sorted({*self.weights, *self.tie_break})

    def pair(self, standing: list[Standing]) -> tuple[Standing, Standing] | str:
        top, bottom = max(one.score for one in standing), min(one.score for one in standing)
        if top == bottom:
            return "all answers score the same"
        if top - bottom < self.min_gap:
            return "gap below min_gap"
        best = self._foremost([one for one in standing if one.score == top], sign=1)
        worst = self._foremost([one for one in standing if one.score == bottom], sign=-1)
        # ids, which follow from content, decide only between pairs of equal difference in length
        pairs = [(chosen, rejected) for chosen in best for rejected in worst]
        return min(pairs, key=lambda pair: (abs(pair[0].num_words - pair[1].num_words), pair[0].response.id, pair[1].response.id))

    def _foremost(self, tied: list[Standing], sign: int) -> list[Standing]:
        """Those of equally scored answers that the tie-breaking annotators put first (sign 1) or last (-1)."""
        marks = [sign * weighted(self.tie_break, one.scores) for one in tied]
        return [one for one, mark in zip(tied, marks, strict=True) if mark == max(marks)]
