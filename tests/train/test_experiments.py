"""Knobs for experiments: training on some of the pairs, and on pairs turned the wrong way round."""

from dataclasses import replace
from itertools import pairwise

import pytest

from sightline.errors import DataError, TrainingError
from sightline.execute import Executor
from sightline.rows import Pair
from sightline.store.shards import Shard, Store
from sightline.train import Train, train
from sightline.train.base import Base
from sightline.train.dataset import Examples
from sightline.train.flipping import FlipPairs, drawn, flipped

from .conftest import draw_pairs, lines, section
from .test_dataset import prepared


@pytest.fixture
def ids_of(tiny, store, executor):
    """Ids of the pairs that training takes of twelve."""
    rows = draw_pairs(store, 12)
    base = Base(str(tiny), None, "auto")
    pairs, made = prepared(store, rows, {"chosen": 1, "rejected": 1})

    def ids(seed: int, num_pairs: int | None, of: list[Pair] | None = None) -> list[str]:
        held = (pairs, made) if of is None else prepared(store, of, {"chosen": 1, "rejected": 1})
        examples = Examples(section(tiny, seed=seed, num_pairs=num_pairs), base, executor, *held)
        return [examples.rows[at][0].id for at in examples.order]

    return ids


def test_fewer_pairs_of_one_seed_lie_within_more_and_are_in_the_same_order(ids_of):
    every = ids_of(0, None)
    sets = [ids_of(0, size) for size in (1, 4, 8, 12)]
    assert [len(found) for found in sets] == [1, 4, 8, 12] and sets[-1] == every
    for few, more in pairwise(sets):
        assert few == [one for one in more if one in few]


def test_another_seed_draws_other_pairs(ids_of):
    assert len({tuple(ids_of(seed, 4)) for seed in range(5)}) > 1


def test_flipped_pairs_are_drawn_and_ordered_as_before_they_were(ids_of, store):
    turned = [flipped(pair) if at % 2 else pair for at, pair in enumerate(draw_pairs(store, 12))]
    assert [one.removesuffix("-flipped") for one in ids_of(0, 5, turned)] == ids_of(0, 5)


def test_more_pairs_than_there_are_is_an_error(tiny, executor, make_pairs):
    with pytest.raises(TrainingError, match="7 pairs are asked for, and 6 can be trained on"):
        train(section(tiny, num_pairs=7), make_pairs(6), executor)


def test_the_checkpoint_counts_the_pairs_it_trained_on_and_all_share_one_reference(tiny, store, executor, make_pairs):
    pairs = make_pairs(6)
    few, more = (train(section(tiny, num_pairs=size), pairs, executor) for size in (4, 6))
    assert (few.num_pairs, few.num_steps, more.num_pairs, more.num_steps) == (4, 2, 6, 4)
    assert sum(line["num_pairs"] for line in lines(few)) == 8  # four pairs, two epochs
    references = [path for path in (store.root / "rows" / "reference").glob("*.parquet") if "dropped" not in path.name]
    assert len(references) == len(pairs)


def test_the_number_of_pairs_is_part_of_the_address_and_the_share_of_flips_is_in_the_pairs(tiny, make_pairs):
    def address(**changes: object) -> str:
        return section(tiny, **changes).address("weights", [Shard("pairs", 0, "a")], [])

    assert address() == address(num_pairs=None) == address(flip_share=0.3)
    assert len({address(), address(num_pairs=3), address(num_pairs=4)}) == 3


def test_a_flipped_pair_has_all_of_the_other_side(store):
    [pair] = draw_pairs(store, 1)
    pair = replace(pair, chosen_score=3.0, rejected_score=1.0, chosen_id="a", rejected_id="b", chosen_model="good")
    turned = flipped(pair)
    assert (turned.chosen, turned.rejected) == (pair.rejected, pair.chosen)
    assert (turned.chosen_score, turned.chosen_id, turned.chosen_model) == (1.0, "b", None)
    assert (turned.rejected_score, turned.rejected_id, turned.rejected_model) == (3.0, "a", "good")
    assert turned.is_flipped and not pair.is_flipped and turned.pictures == pair.pictures and turned.key == pair.key


def test_the_flips_of_a_smaller_share_lie_within_those_of_a_larger_one_and_are_about_as_many(store):
    """Of 2,000 draws, 0.25 of them come within four standard deviations (root of 2,000 x 0.25 x 0.75: 19.4)."""
    [pair] = draw_pairs(store, 1)
    pairs = [replace(pair, id=f"{at:04}") for at in range(2000)]

    def turned(share: float, seed: int = 0) -> set[str]:
        return {row.id for row in FlipPairs(share=share, seed=seed).make(None, pairs) if row.is_flipped}

    assert turned(0.0) == set() and len(turned(1.0)) == 2000
    assert abs(len(turned(0.25)) - 500) < 78
    assert turned(0.1) < turned(0.25) < turned(0.5)
    assert turned(0.25) != turned(0.25, seed=1)
    assert all(0 <= drawn(0, pair) < 1 for pair in pairs)


def test_training_on_all_flipped_is_training_on_pairs_swapped_by_hand(tiny, store, executor):
    rows = draw_pairs(store, 6)
    swapped = [replace(row, chosen=row.rejected, rejected=row.chosen) for row in rows]
    ours = train(section(tiny, flip_share=1.0), stored(store, rows), executor)
    theirs = train(section(tiny), stored(store, swapped), executor)
    assert (ours.folder / "adapter_model.safetensors").read_bytes() == (theirs.folder / "adapter_model.safetensors").read_bytes()


def stored(store: Store, rows: list[Pair]) -> list[Shard]:
    return store.source("pairs", "test", rows, [], 4)


def test_steps_that_flip_are_told_and_stored(tiny, executor: Executor, make_pairs):
    told = []
    train(section(tiny, flip_share=0.5), make_pairs(6), executor, told.append)
    assert [tally.name for tally in told] == ["flipped", "reference"] and told[0].rows == 6


def test_a_row_of_one_answer_has_nothing_to_swap(tiny, store, executor):
    rows = [replace(row, rejected=None) for row in draw_pairs(store, 4)]
    with pytest.raises(DataError, match="one answer only"):
        train(section(tiny, objective={"kind": "sft"}, flip_share=1.0), stored(store, rows), executor)


def test_a_first_stage_trains_on_the_same_pairs_or_on_all_of_its_own():
    values = {"model": "m", "objective": {"kind": "dpo"}, "num_pairs": 5}
    assert Train.model_validate({**values, "sft": {}}).first_stage().num_pairs == 5
    assert Train.model_validate({**values, "sft": {"pairs": "mine"}}).first_stage().num_pairs is None
