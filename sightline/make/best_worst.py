"""PDS-DPO's rule: the best answer against the worst."""

from __future__ import annotations

from collections.abc import Iterator

from sightline.make.pairs import Found, PairPolicy, Standing, foremost


class BestWorst(PairPolicy):
    """The highest score against the lowest, one pair an instruction."""

    tie_break: dict[str, float] = {}
    """Annotators, weighed as above, that decide among several best answers, and among several worst ones. Where these tie too, or
    there are none, the best and the worst that are closest in length are taken, so that the pair does not teach length."""

    def measures(self) -> list[str]:
        return sorted({*self.weights, *self.tie_break})

    def pairs(self, standing: list[Standing], seed: int) -> Iterator[Found | str]:
        best, worst = foremost(standing, self.tie_break, sign=1), foremost(standing, self.tie_break, sign=-1)
        if best[0].score == worst[0].score:
            yield "all answers score the same"
            return
        # ids, which follow from content, decide only between pairs of equal difference in length
        pairs = [(chosen, rejected) for chosen in best for rejected in worst]
        pair = min(pairs, key=lambda pair: (abs(pair[0].num_words - pair[1].num_words), pair[0].response.id, pair[1].response.id))
        yield self.why_not(*pair) or pair
