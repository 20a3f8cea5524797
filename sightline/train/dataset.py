"""Pairs with their stored reference log-probabilities, as training takes them (a torch file)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from sightline.errors import TrainingError
from sightline.execute import Executor
from sightline.rows import Negative, Pair
from sightline.store.shards import Shard, Store
from sightline.train import Prepared, Train
from sightline.train.base import Base
from sightline.train.examples import Encoder, Tree
from sightline.train.logprobs import pack
from sightline.train.objectives import Term
from sightline.train.reference import of_one_instruction


class Examples(Dataset["tuple[Tree, list[float]] | None"]):
    """Pairs that have a reference, as trees with their reference log-probabilities, in the order of their ids."""

    def __init__(self, section: Train, base: Base, executor: Executor, pairs: Sequence[Shard], prepared: Prepared) -> None:
        self.section = section
        self.terms: tuple[Term, ...] = section.objective.needed_terms()
        self.encoder: Encoder = base.encoder(section.max_length, executor.use.picture)
        self.reference = _reference(executor.store, prepared.reference.shards)
        self.negatives: dict[str, Negative] = {
            row.pair_id: row for shard in prepared.negatives for row in executor.store.read(shard)
        }
        rows: list[Pair] = [row for shard in pairs for row in executor.store.read(shard)]
        # not in the order of the shards, which follows their size
        self.pairs = sorted((row for row in rows if row.id in self.reference), key=lambda row: row.id)
        if not self.pairs:
            reasons = ", ".join(f"{count} {reason}" for reason, count in prepared.dropped.items())
            raise TrainingError(
                "train.pairs", f"no pair is left to train on ({reasons or 'there is none'})", "look at what was dropped"
            )

    @property
    def num_steps(self) -> int:
        """Optimizer steps in all."""
        section = self.section
        micro = section.batch_size // section.accumulation
        return math.ceil(math.ceil(math.ceil(len(self) / micro) / section.accumulation) * section.epochs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int | None) -> tuple[Tree, list[float]] | None:
        """The pair at this place; None where an epoch's order is filled up."""
        if index is None:
            return None
        pair = self.pairs[index]
        tree = self.encoder.tree(pair, self.terms, self.negatives.get(pair.id))
        # what has no tokens has no row: an answer that the pair lacks
        stored = [self.reference[pair.id].get(term.name, (0.0, 0)) for term in self.terms]
        if not isinstance(tree, Tree) or [count for _, count in stored] != [tree.num_scored(term.name) for term in self.terms]:
            raise TrainingError(
                "train",
                f"pair {pair.id} now has other tokens than its stored reference: the chat template or tokenizer changed",
                "remove the store's folder rows/reference and run again",
            )
        # not zero: an objective that reads a reference which was not computed shall not train
        return tree, [math.nan if logprob is None else logprob for logprob, _ in stored]

    def sampler(self, seed: int) -> Together | None:
        """An order that keeps pairs of one instruction together; None where each instruction has one pair only."""
        groups = of_one_instruction(self.pairs)
        return Together(groups, seed) if len(groups) < len(self.pairs) else None

    def collate(self, items: Sequence[tuple[Tree, list[float]] | None]) -> dict[str, Tensor]:
        """A packed batch with its reference log-probabilities (B, K).

        A batch without pairs holds one to go through the model, for all processes do this together; B is 0 where it is counted.
        """
        held = [item for item in items if item is not None]
        given = held or [item for item in [self[0]] if item is not None]
        packed = pack([tree for tree, _ in given], self.terms, self.encoder.pictures, self.encoder.pad)
        reference = torch.tensor([stored for _, stored in given], dtype=torch.float64)
        counted = {"reference": reference, "num_tokens": packed["num_tokens"]}
        return {**packed, **{name: rows[: len(held)] for name, rows in counted.items()}}


class Together(Sampler[int]):
    """Groups in random order, another one each epoch, and the places in a group behind each other."""

    def __init__(self, groups: list[list[int]], seed: int) -> None:
        self.groups, self.seed, self.epoch = groups, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return sum(map(len, self.groups))

    def __iter__(self) -> Iterator[int]:
        order = torch.randperm(len(self.groups), generator=torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch))
        return (place for at in order.tolist() for place in self.groups[at])


def _reference(store: Store, shards: Sequence[Shard]) -> dict[str, dict[str, tuple[float | None, int]]]:
    """Log-probability and number of tokens by pair and term."""
    stored: dict[str, dict[str, tuple[float | None, int]]] = {}
    for shard in shards:
        for row in store.read(shard):
            stored.setdefault(row.pair_id, {})[row.term] = (row.logprob, row.num_tokens)
    return stored
