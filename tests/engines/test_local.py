from collections.abc import Sequence

import pytest
import torch

from sightline.engines.local import in_batches
from sightline.errors import RunError


def test_batches_shrink_when_memory_runs_out_and_nothing_is_lost():
    sizes = []

    def double(batch: Sequence[int]) -> list[int]:
        sizes.append(len(batch))
        if len(batch) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [2 * number for number in batch]

    assert in_batches(list(range(7)), 8, double, "model m") == [0, 2, 4, 6, 8, 10, 12]
    assert sizes == [7, 4, 2, 2, 2, 1]


def test_one_item_that_does_not_fit_is_told_to_the_user():
    def full(batch: Sequence[int]) -> list[int]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(RunError, match="memory"):
        in_batches([1, 2], 4, full, "model m")
