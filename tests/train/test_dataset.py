"""What training reads: pairs in the order of their ids, however many there are."""

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import isnan

import pytest

from sightline.execute import Tally
from sightline.rows import Pair, Reference
from sightline.store.shards import Shard
from sightline.train import Prepared, Train
from sightline.train.base import Base
from sightline.train.dataset import Examples

from .conftest import draw_pairs


def prepared(store, rows: list[Pair], lengths: dict[str, int]) -> tuple[list[Shard], Prepared]:
    """Stored pairs, and stored references of so many tokens for each."""
    pairs = store.source("pairs", "test", rows, [], 16)
    shards = []
    for shard in pairs:
        shards.append(Shard("reference", shard.bucket, f"for-{shard.address}"))
        references = [
            Reference(id=f"{row.id}-{term}", key=row.key, pair_id=row.id, term=term, logprob=-1.5, num_tokens=length)
            for row in store.read(shard)
            for term, length in lengths.items()
        ]
        store.write(shards[-1], references)
    return pairs, Prepared(Tally("reference", shards), [], {})


@pytest.fixture
def examples_of(tiny, store, executor):
    """Examples of many pairs of the same two long answers, each pair with a question of its own, made anew each time."""
    [drawn] = draw_pairs(store, 1)
    section = Train.model_validate({"model": str(tiny), "objective": {"kind": "dpo"}})
    answers = {"chosen": f"{drawn.chosen} " * 6, "rejected": f"{drawn.rejected} " * 6}
    base = Base(str(tiny), None, "auto")
    tree = base.encoder(None, executor.use.picture).tree(
        Pair(id="one", key="one", instruction="What?", pictures=[], rule="test", **answers), section.objective.needed_terms()
    )
    lengths = {term: len(tree.completion(term).tokens) for term in answers}

    def make(count: int) -> Callable[[], Examples]:
        base._encoders.clear()
        rows = [
            Pair(id=f"{at * 7919 % count:06}", key=f"key-{at}", instruction=f"What {at}?", pictures=[], rule="test", **answers)
            for at in range(count)
        ]
        return partial(Examples, section, base, executor, *prepared(store, rows, lengths))

    return make


def test_memory_does_not_grow_with_the_pairs_but_by_their_index(examples_of):
    """Fifty times as many pairs, walked through, take less than 400 bytes a pair more; it was 9,900 in memory."""

    def peak(count: int) -> int:
        make = examples_of(count)
        tracemalloc.start()
        examples = make()
        assert all(examples[at][0].pair_id == f"{at:06}" for at in range(count))
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(4)  # what is imported and remembered the first time does not count
    few, many = peak(4), peak(200)
    assert (many - few) / 196 < 400


def test_pairs_without_a_reference_and_terms_without_one_are_told_apart(tiny, store, executor):
    """A pair that has none is left out; a term that has none is no number, never zero."""
    first, second = draw_pairs(store, 2)
    section = Train.model_validate({"model": str(tiny), "objective": {"kind": "dpo"}})
    base = Base(str(tiny), None, "auto")
    tree = base.encoder(None, executor.use.picture).tree(first, section.objective.needed_terms())
    lengths = {term: len(tree.completion(term).tokens) for term in ("chosen", "rejected")}
    pairs, made = prepared(store, [first, second], lengths)
    [shard] = made.reference.shards
    rows = store.read(shard)
    store.write(shard, [row for row in rows if row.pair_id == first.id])
    examples = Examples(section, base, executor, pairs, made)
    assert len(examples) == 1 and examples[0] == (tree, [-1.5, -1.5])
    store.write(shard, [replace(row, logprob=None) for row in rows if row.pair_id == first.id])
    assert all(isnan(logprob) for logprob in Examples(section, base, executor, pairs, made)[0][1])


def test_forked_loaders_give_the_same_batches(examples_of):
    """They read what the parent wrote, and make what it has not made yet."""
    from torch.utils.data import DataLoader

    examples = examples_of(12)()
    assert examples[5][0].pair_id == "000005"
    loaders = [
        DataLoader(examples, batch_size=4, collate_fn=examples.collate, num_workers=workers, multiprocessing_context=context)
        for workers, context in ((2, "fork"), (0, None))
    ]
    for told, expected in zip(*loaders, strict=True):
        assert told["tokens"].equal(expected["tokens"]) and told["places"].equal(expected["places"])
