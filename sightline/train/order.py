"""Which pairs come when (a torch file)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from sightline.train.dataset import Examples


class Order(Sampler[int | None]):
    """Places of the pairs in an epoch's order, filled up with None so that every process gets a batch as often as the others.

    Left to itself accelerate fills up with pairs that it has given out before, and these would count twice.
    """

    def __init__(self, examples: Examples, seed: int, at_once: int) -> None:
        """`at_once`: pairs that all processes take together, each its own, before gradients are added up."""
        self.together = examples.sampler(seed)
        self.num_pairs, self.num_empty = len(examples), -len(examples) % at_once
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        if self.together is not None:
            self.together.set_epoch(epoch)

    def __len__(self) -> int:
        return self.num_pairs + self.num_empty

    def __iter__(self) -> Iterator[int | None]:
        yield from self._shuffled() if self.together is None else self.together
        yield from [None] * self.num_empty

    def _shuffled(self) -> list[int]:
        return torch.randperm(self.num_pairs, generator=torch.Generator().manual_seed(self.seed + self.epoch)).tolist()
