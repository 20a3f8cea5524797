"""PDS-DPO's rule: the best answer against the worst."""

from __future__ import annotations

from sightline.make.pairs import PairPolicy, Standing, foremost


class BestWorst(PairPolicy):
    """The highest score against the lowest, one pair an instruction."""

    tie_break: dict[str, float] = {}
    """Annotators, weighed as above, that decide among several best answers, and among several worst ones. Where these tie too, or
    there are none, the best and the worst that are closest in length are taken, so that the pair does not teach length."""

    def annotators(self) -> list[str]:
        return sorted({*self.weights, *self.tie_break})

    def pair(self, standing: list[Standing]) -> tuple[Standing, Standing] | str:
        best, worst = foremost(standing, self.tie_break, sign=1), foremost(standing, self.tie_break, sign=-1)
        gap = best[0].score - worst[0].score
        if gap == 0:
            return "all answers score the same"
        if gap < self.min_gap:
            return "gap below min_gap"
        # ids, which follow from content, decide only between pairs of equal difference in length
        pairs = [(chosen, rejected) for chosen in best for rejected in worst]
        return min(pairs, key=lambda pair: (abs(pair[0].num_words - pair[1].num_words), pair[0].response.id, pair[1].response.id))
