"""CIDEr-D: how alike two captions are, by the phrases that few captions share (Vedantam et al., 2015)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

NUM_ORDERS = 4
SIGMA = 6.0
"""Of the Gaussian that takes marks off for a difference in length."""

Phrase = tuple[str, ...]


def cider_d(candidates: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> list[float]:
    """A score per candidate against its one reference, 10 where they are alike; the texts are given as words.

    A phrase weighs its count times log(rows / references that hold it), so a score depends on all references, and is 0 where
    there is but one row. Matches are clipped to the reference's weight. Lengths are counted in pairs of words, as coco-caption's
    CiderScorer does.
    """
    said, wanted = ([_phrases(words) for words in texts] for texts in (candidates, references))
    held = Counter(phrase for phrases in wanted for phrase in phrases)
    rarity = {phrase: np.log(len(wanted) / count) for phrase, count in held.items()}
    unheld = np.log(max(1, len(wanted)))
    return [_alike(one, other, rarity, unheld) for one, other in zip(said, wanted, strict=True)]


def _phrases(words: Sequence[str]) -> Counter[Phrase]:
    return Counter(
        tuple(words[start : start + order]) for order in range(1, NUM_ORDERS + 1) for start in range(len(words) - order + 1)
    )


def _alike(said: Counter[Phrase], wanted: Counter[Phrase], rarity: dict[Phrase, float], unheld: float) -> float:
    matched, own, other = np.zeros(NUM_ORDERS), np.zeros(NUM_ORDERS), np.zeros(NUM_ORDERS)
    for phrase, count in wanted.items():
        weight = rarity[phrase]
        other[len(phrase) - 1] += (count * weight) ** 2
        matched[len(phrase) - 1] += min(said[phrase], count) * count * weight**2
    for phrase, count in said.items():
        own[len(phrase) - 1] += (count * rarity.get(phrase, unheld)) ** 2
    norms = np.sqrt(own * other)
    cosines = np.divide(matched, norms, out=np.zeros(NUM_ORDERS), where=norms > 0)
    gap = sum(said[phrase] for phrase in said if len(phrase) == 2) - sum(wanted[phrase] for phrase in wanted if len(phrase) == 2)
    return float(10 * cosines.mean() * np.exp(-(gap**2) / (2 * SIGMA**2)))
