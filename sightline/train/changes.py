"""Which tokens of two answers stand for each other, by RLHF-V's rule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

SHORTEST_MATCH = 3
"""Fewer equal tokens than this in a row do not part two changes."""


def changed(rejected: Sequence[int], chosen: Sequence[int]) -> tuple[list[int], list[int]]:
    """Places in both sequences whose tokens were replaced by the other's; both begin with the same prompt.

    As in RLHF-V's and RLAIF-V's code (utils/diff_lib.py, get_diff_ids): what lies between two runs of equal tokens counts where
    neither side of it is empty. So tokens that one answer only adds count as unchanged. The sequences are compared with their
    prompt and in this order, which difflib's choice of runs may depend on.
    """
    spans = list(_replaced(rejected, chosen))
    return [at for span, _ in spans for at in span], [at for _, span in spans for at in span]


def _replaced(left: Sequence[int], right: Sequence[int]) -> Iterator[tuple[range, range]]:
    blocks = SequenceMatcher(None, left, right).get_matching_blocks()
    at_left = at_right = 0
    for block in blocks:
        if block.size < SHORTEST_MATCH and block is not blocks[-1]:  # the last one is empty and stands at both ends
            continue
        if at_left < block.a and at_right < block.b:
            yield range(at_left, block.a), range(at_right, block.b)
        at_left, at_right = block.a + block.size, block.b + block.size
