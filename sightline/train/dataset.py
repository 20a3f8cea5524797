"""Pairs with their stored reference log-probabilities, as training takes them (a torch file)."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from operator import itemgetter

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from sightline.errors import TrainingError
from sightline.execute import Executor
from sightline.rows import FLIPPED, Negative, Pair
from sightline.store.address import digest
from sightline.store.shards import Shard, Store
from sightline.store.spill import Spill
from sightline.train import Prepared, Train
from sightline.train.base import Base
from sightline.train.examples import Encoder, Tree
from sightline.train.logprobs import pack
from sightline.train.objectives import Term
from sightline.train.reference import asked


class Examples(Dataset["tuple[Tree, list[float]] | None"]):
    """Pairs that have a reference, as trees with their reference log-probabilities, in the order of their ids.

    Memory holds an index of some sixty bytes a pair; the pairs themselves wait on the store's disk.
    """

    def __init__(self, section: Train, base: Base, executor: Executor, pairs: Sequence[Shard], prepared: Prepared) -> None:
        self.section = section
        self.terms: tuple[Term, ...] = section.objective.needed_terms()
        self.encoder: Encoder = base.encoder(section.max_length, executor.use.picture, executor.store.root)
        self.rows = Spill(executor.store.root)
        ids: list[str] = []
        instructions, logprobs, lengths = array("Q"), array("d"), array("q")
        for pair, negative, stored in _with_reference(executor.store, pairs, prepared):
            self.rows.add((pair, negative))
            ids.append(pair.id)
            instructions.append(int(digest(asked(pair))[:16], 16))
            # what has no tokens has no row: an answer that the pair lacks
            known = [stored.get(term.name, (0.0, 0)) for term in self.terms]
            # not zero: an objective that reads a reference which was not computed shall not train
            logprobs.extend(math.nan if logprob is None else logprob for logprob, _ in known)
            lengths.extend(length for _, length in known)
        if not ids:
            reasons = ", ".join(f"{count} {reason}" for reason, count in prepared.dropped.items())
            raise TrainingError(
                "train.pairs", f"no pair is left to train on ({reasons or 'there is none'})", "look at what was dropped"
            )
        # not in the order of the shards, which follows their size
        self.order = np.array(sorted(_chosen(section, ids), key=ids.__getitem__))
        # 64 bits that stand for a pair's pictures and question
        self.instructions = np.frombuffer(instructions, np.uint64)[self.order]
        self.logprobs, self.lengths = (
            np.frombuffer(some, kind).reshape(len(ids), -1)[self.order]
            for some, kind in ((logprobs, np.float64), (lengths, np.int64))
        )

    @property
    def num_steps(self) -> int:
        """Optimizer steps in all."""
        section = self.section
        micro = section.batch_size // section.accumulation
        return math.ceil(math.ceil(math.ceil(len(self) / micro) / section.accumulation) * section.epochs)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int | None) -> tuple[Tree, list[float]] | None:
        """The pair at this place; None where an epoch's order is filled up."""
        if index is None:
            return None
        pair, negative = self.rows[self.order[index]]
        tree = self.encoder.tree(pair, self.terms, negative)
        if not isinstance(tree, Tree) or [tree.num_scored(term.name) for term in self.terms] != self.lengths[index].tolist():
            raise TrainingError(
                "train",
                f"pair {pair.id} now has other tokens than its stored reference: the chat template or tokenizer changed",
                "remove the store's folder rows/reference and run again",
            )
        return tree, self.logprobs[index].tolist()

    def sampler(self, seed: int) -> Together | None:
        """An order that keeps pairs of one instruction together; None where each instruction has one pair only."""
        order = np.argsort(self.instructions, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(self.instructions[order])) + 1)
        if len(groups) == len(self):
            return None
        return Together(sorted((group.tolist() for group in groups), key=itemgetter(0)), seed)

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


def _chosen(section: Train, ids: Sequence[str]) -> list[int]:
    """Places of the pairs to train on: all, or the first `num_pairs` in an order that depends on each pair and the seed alone."""
    wanted = section.num_pairs
    if wanted is None:
        return list(range(len(ids)))
    if wanted > len(ids):
        fix = f"ask for at most {len(ids)}, or leave it out to train on all"
        raise TrainingError("train.num_pairs", f"{wanted} pairs are asked for, and {len(ids)} can be trained on", fix)
    return sorted(range(len(ids)), key=lambda at: digest("num_pairs", section.seed, ids[at].removesuffix(FLIPPED)))[:wanted]


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


def _with_reference(
    store: Store, pairs: Sequence[Shard], prepared: Prepared
) -> Iterator[tuple[Pair, Negative | None, dict[str, tuple[float | None, int]]]]:
    """Pairs with their negatives, and log-probability and number of tokens by term; those without a reference are left out."""
    references = {shard.bucket: shard for shard in prepared.reference.shards}
    negatives = {shard.bucket: shard for shard in prepared.negatives}
    for shard in pairs:
        stored: dict[str, dict[str, tuple[float | None, int]]] = {}
        for row in store.read(references[shard.bucket]):
            stored.setdefault(row.pair_id, {})[row.term] = (row.logprob, row.num_tokens)
        there = store.read(negatives[shard.bucket]) if negatives else []
        found = {row.pair_id: row for row in there}
        yield from ((pair, found.get(pair.id), stored[pair.id]) for pair in store.read(shard) if pair.id in stored)
