"""What training compares against: log-probabilities of the untrained model, stored before training starts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import PrivateAttr

from sightline.execute import Step, Use
from sightline.rows import Dropped, Negative, Pair, Reference
from sightline.store.address import digest
from sightline.train.base import Base, Dtype
from sightline.train.objectives import Term

if TYPE_CHECKING:
    from sightline.train.examples import Encoder, Tree

TOKENS_AT_ONCE = 8192
"""Packed tokens, padding included, that go through the model together."""


class ReferenceLogprobs(Step):
    """Reference log-probabilities of a pair's terms; pairs that cannot be trained on are dropped here, with their reason."""

    version: ClassVar[int] = 2

    kind: Literal["reference"] = "reference"
    model: str
    """The model before training."""
    revision: str | None = None
    """Its hub revision."""
    weights: str
    """Stands for the model's files, processor included."""
    terms: list[str]
    """Log-probabilities that the objective needs, by name."""
    computed: bool = True
    """False for an objective that reads no reference: pairs are looked at all the same, and no model is asked."""
    max_length: int | None = None
    """Longest row in tokens."""
    dtype: Dtype = "auto"
    """Precision of the weights."""
    _base: Base | None = PrivateAttr(None)

    @property
    def base(self) -> Base:
        """The model, which training then goes on with."""
        if self._base is None:
            self._base = Base(self.model, self.revision, self.dtype)
        return self._base

    def make(self, use: Use, *inputs: list[Any]) -> Iterator[Reference | Dropped]:
        """Rows of pairs and, where the terms ask for them, of their negatives; a pair that has none is left out."""
        from sightline.train.examples import Tree

        use.engines.free()
        encoder = self.base.encoder(self.max_length, use.picture, use.store.root)
        terms = tuple(Term.read(name) for name in self.terms)
        keys = {pair.id: pair.key for pair in inputs[0]}
        held = list(with_negatives(*inputs))
        made = [encoder.tree(pair, terms, negative) for pair, negative in held]
        yield from (one for one in made if isinstance(one, Dropped))
        groups = [[made[at] for at in group] for group in of_one_instruction([pair for pair, _ in held])]
        trees = [[one for one in group if isinstance(one, Tree)] for group in groups]
        for tree, sums in self._scored([group for group in trees if group], encoder, terms):
            for term, logprob in zip(terms, sums, strict=True):
                length = len(tree.completion(term.name).tokens)
                row_id = digest("reference", self.weights, tree.pair_id, term.name)
                yield Reference(
                    id=row_id, key=keys[tree.pair_id], pair_id=tree.pair_id, term=term.name, logprob=logprob, num_tokens=length
                )

    def _scored(
        self, groups: list[list[Tree]], encoder: Encoder, terms: Sequence[Term]
    ) -> Iterator[tuple[Tree, Sequence[float | None]]]:
        if not self.computed:
            yield from ((tree, [None] * len(terms)) for group in groups for tree in group)
            return
        import torch

        from sightline.train.logprobs import TreeScorer, pack, to_device

        scorer = TreeScorer(self.base.network, self.base.features).eval()
        for batch in _batches(sorted(groups, key=lambda group: (max(tree.num_tokens for tree in group), group[0].pair_id))):
            packed = pack(batch, terms, encoder.pictures, encoder.pad)
            with torch.no_grad():
                sums = scorer(to_device(packed, self.base.network.device))
            yield from zip(batch, sums.double().tolist(), strict=True)


def of_one_instruction(pairs: Sequence[Pair]) -> list[list[int]]:
    """Places of the pairs about the same pictures and instruction; in a batch they share what they have in common."""
    groups: dict[tuple[tuple[str, ...], str], list[int]] = {}
    for at, pair in enumerate(pairs):
        groups.setdefault(asked(pair), []).append(at)
    return list(groups.values())


def asked(pair: Pair) -> tuple[tuple[str, ...], str]:
    """What pairs of one instruction have in common: the pictures and the question about them."""
    return tuple(pair.pictures), pair.instruction


def with_negatives(pairs: list[Pair], negatives: list[Negative] | None = None) -> Iterator[tuple[Pair, Negative | None]]:
    """Pairs with their negatives, those without one left out; all pairs where there are no negatives."""
    found = {negative.pair_id: negative for negative in negatives or ()}
    for pair in pairs:
        if negatives is None or pair.id in found:
            yield pair, found.get(pair.id)


def _batches(groups: Iterable[list[Tree]]) -> Iterator[list[Tree]]:
    """Trees of rising length that fit together; those of one instruction stay together where they do."""
    batch: list[Tree] = []
    longest = 0
    for group in groups:
        for tree in group:
            longest = max(longest, tree.num_tokens)
            if batch and longest * (len(batch) + 1) > TOKENS_AT_ONCE:
                yield batch
                batch, longest = [], tree.num_tokens
            batch.append(tree)
    if batch:
        yield batch
