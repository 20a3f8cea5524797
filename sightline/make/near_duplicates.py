"""Texts that say nearly the same, by the resemblance of their word shingles (Broder, 1997, On the resemblance and containment of
documents)."""

from __future__ import annotations

import math
import re

Shingles = frozenset[tuple[str, ...]]


def shingles(text: str, size: int) -> Shingles:
    """All runs of `size` words, without case and punctuation; of a shorter text the one run of all its words."""
    words = re.findall(r"\w+", text.casefold())
    return frozenset(tuple(words[at : at + size]) for at in range(max(1, len(words) - size + 1)))


def resemblance(one: Shingles, other: Shingles) -> float:
    """Shingles in both, as a share of those in either."""
    return len(one & other) / len(one | other)


class Texts:
    """Texts of which no two resemble each other by `threshold` or more."""

    def __init__(self, size: int, threshold: float) -> None:
        self.size = size
        self.threshold = threshold
        self._texts: list[tuple[str, Shingles]] = []
        self._having: dict[tuple[str, ...], list[int]] = {}  # shingle -> places of the texts that have it

    def add(self, text: str) -> str | None:
        """Take the text in, and say None; or else leave it, and give the first one that it resembles."""
        own = shingles(text, self.size)
        for place in self._candidates(own):
            if resemblance(own, self._texts[place][1]) >= self.threshold:
                return self._texts[place][0]
        for shingle in own:
            self._having.setdefault(shingle, []).append(len(self._texts))
        self._texts.append((text, own))
        return None

    def _candidates(self, own: Shingles) -> list[int]:
        """Places of all texts that may resemble this one. Those have at least threshold * len(own) of its shingles, so they have
        one of any that are too many to be without: the rarest of them are looked at."""
        needed = math.ceil(self.threshold * len(own) - 1e-9)
        rare = sorted(own, key=lambda shingle: (len(self._having.get(shingle, ())), shingle))[: len(own) - needed + 1]
        return sorted({place for shingle in rare for place in self._having.get(shingle, ())})
