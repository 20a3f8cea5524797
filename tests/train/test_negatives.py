"""Negatives follow from the row and the seed, and are what their names say."""

from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
import torch

from sightline.engines import Engines
from sightline.execute import Use
from sightline.rows import Dropped, Negative, Pair
from sightline.store.shards import Shard, Store
from sightline.train.negatives import MakeNegatives, Negatives, spoilt
from sightline.train.spoiling import noise_factors, spoil_picture, spoil_pixels

from .conftest import draw_pairs


def made(store, pairs: list[Pair], parts: list[str], **settings) -> list[Negative | Dropped]:
    step = MakeNegatives(parts=parts, settings=Negatives(**settings))
    return list(step.make(Use(Engines({}), store, 0), pairs))


@pytest.fixture
def pairs(store) -> list[Pair]:
    return [replace(pair, instruction=f"Question {at}?") for at, pair in enumerate(draw_pairs(store, 5))]


@pytest.mark.parametrize(("step", "kept", "added"), [(500, 0.863, 0.505), (700, 0.593, 0.805), (999, 0.285, 0.959)])
def test_noise_keeps_what_povids_schedule_keeps(step, kept, added):
    """Factors measured on the published code (facts/training.md)."""
    assert noise_factors(step) == pytest.approx((kept, added), abs=5e-4)


def test_noise_is_added_to_the_processors_numbers_and_follows_its_seed():
    pixels = torch.full((3, 50, 50), 2.0)
    noisy = spoil_pixels(pixels, "noise:700", 3)
    assert noisy.mean().item() == pytest.approx(0.593 * 2, abs=0.03) and noisy.std().item() == pytest.approx(0.805, abs=0.03)
    assert torch.equal(noisy, spoil_pixels(pixels, "noise:700", 3))
    assert not torch.equal(noisy, spoil_pixels(pixels, "noise:700", 4))
    assert spoil_pixels(pixels, "crop", 3) is pixels


def picture() -> PIL.Image.Image:
    return PIL.Image.fromarray(np.arange(40 * 60 * 3, dtype=np.uint32).reshape(40, 60, 3).astype(np.uint8))


def test_a_crop_is_a_window_of_half_the_height_and_width():
    whole, part = np.asarray(picture()), np.asarray(spoil_picture(picture(), "crop", 5))
    assert part.shape == (20, 30, 3)
    windows = [whole[top : top + 20, left : left + 30] for top in range(21) for left in range(31)]
    assert any(np.array_equal(window, part) for window in windows)
    assert not np.array_equal(part, np.asarray(spoil_picture(picture(), "crop", 6)))


def test_black_is_black_and_rotation_keeps_the_size():
    assert not np.asarray(spoil_picture(picture(), "black", 0)).any()
    turned = spoil_picture(picture(), "rotate", 1)
    assert turned.size == (60, 40) and not np.array_equal(np.asarray(turned), np.asarray(picture()))


def test_compat_spoils_as_mcm_dpos_code_does():
    """Its black is 0 after normalising; its crop takes PIL's (width, height) for (height, width)."""
    pixels = torch.full((3, 4, 4), 2.0)
    assert not spoil_pixels(pixels, "black:mcm_dpo", 0).any() and spoil_pixels(pixels, "black", 0) is pixels
    assert spoil_picture(PIL.Image.new("RGB", (500, 400)), "crop:mcm_dpo", 1).size == (240, 320)
    assert spoil_picture(PIL.Image.new("RGB", (200, 600)), "crop:mcm_dpo", 1).size == (200, 320)
    turned, whole = (np.asarray(one).reshape(-1, 3) for one in (spoil_picture(picture(), "rotate:mcm_dpo", 1), picture()))
    assert {*map(tuple, turned)} <= {(0, 0, 0), *map(tuple, whole)}  # the nearest pixels, no others
    assert spoilt("a", Negatives(picture="black", compat="mcm_dpo"), 7) == "a|black:mcm_dpo|7"
    assert spoilt("a", Negatives(compat="mcm_dpo"), 7) == "a|noise:700|7"


def test_a_question_is_another_rows_and_does_not_depend_on_the_order(store, pairs):
    negatives = made(store, pairs, ["question"])
    texts = {pair.id: pair.instruction for pair in pairs}
    for pair, negative in zip(pairs, negatives, strict=True):
        assert negative.instruction != pair.instruction
        assert negative.instruction == texts[negative.source_ids[0]] and negative.pictures == []
    assert {row.id for row in made(store, pairs[::-1], ["question"])} == {row.id for row in negatives}
    assert {row.id for row in made(store, pairs, ["question"], seed=1)} != {row.id for row in negatives}


def test_a_spoilt_picture_is_named_by_what_makes_it(store, pairs):
    [negative, *others] = made(store, pairs, ["picture"], picture="noise", noise_step=500)
    assert negative.pictures == [f"{pairs[0].pictures[0]}|noise:500|{negative.seed}"]
    assert len({negative.seed, *(other.seed for other in others)}) == 5
    assert spoilt("a", Negatives(picture="black"), 7) == "a|black|7"


def test_another_picture_is_another_rows(store, pairs):
    for pair, negative in zip(pairs, made(store, pairs, ["picture"], picture="other"), strict=True):
        assert negative.pictures != pair.pictures
        assert negative.pictures in [other.pictures for other in pairs]


def test_an_unrelated_answer_is_one_about_something_else(store, pairs):
    twin = replace(pairs[0], id="twin", chosen="Another one.", rejected=None)
    lone = replace(pairs[1], rejected=None)
    rows = [pairs[0], twin, lone, *pairs[2:]]
    given = {text: row for row in rows for text in row.answers.values()}
    negatives = made(store, rows, ["response"])
    for row, negative in zip(rows, negatives, strict=True):
        lender = given[negative.response]
        assert lender.instruction != row.instruction and negative.source_ids == [lender.id]
        assert negative.instruction is None and negative.pictures == []
    assert negatives[0].response == negatives[1].response  # of one instruction
    assert {row.id for row in made(store, rows[::-1], ["response"])} == {row.id for row in negatives}
    assert {row.response for row in made(store, rows, ["response"], seed=3)} != {row.response for row in negatives}


def test_an_answer_that_the_pair_has_itself_is_not_lent(store, pairs):
    others = [replace(pair, chosen=pairs[0].chosen, rejected=f" {pairs[0].rejected}\n") for pair in pairs[1:]]
    refused, *_ = made(store, [pairs[0], *others], ["response"])
    assert refused.reason == "no other answer to hold it against"
    negative, *_ = made(store, [pairs[0], *others[:-1], replace(others[-1], rejected="No.")], ["response"])
    assert negative.response == "No."


def test_a_further_shard_lends_what_the_own_one_lacks(store, pairs):
    step = MakeNegatives(parts=["question"], settings=Negatives())
    use, far = Use(Engines({}), store, 0), [replace(pairs[4], id="far")]
    own = list(step.make(use, pairs[:3], far))
    assert own == made(store, pairs[:3], ["question"])
    [alone] = step.make(use, pairs[:1], far)
    assert alone.source_ids == ["far"]


def test_negatives_stored_before_they_held_answers_can_be_read(tmp_path):
    import pyarrow
    import pyarrow.parquet

    shard = Shard("negatives", 0, "old")
    columns = {"id": ["n"], "key": ["k"], "pair_id": ["p"], "instruction": ["Who?"], "pictures": [["a"]], "seed": [3]}
    (tmp_path / "rows" / "negatives").mkdir(parents=True)
    pyarrow.parquet.write_table(pyarrow.table({**columns, "source_ids": [["q"]]}), Store(tmp_path).path(shard))
    [row] = Store(tmp_path).read(shard)
    assert (row.instruction, row.response) == ("Who?", None)


def test_a_pair_without_a_negative_is_dropped_with_the_reason(store, pairs):
    alike = [replace(pair, instruction="The same?") for pair in pairs]
    assert {row.reason for row in made(store, alike, ["question"])} == {"no other question to hold it against"}
    [blind] = made(store, [replace(pairs[0], pictures=[])], ["picture"])
    assert blind.reason == "no picture to spoil"
    [alone] = made(store, pairs[:1], ["picture"], picture="other")
    assert alone.reason == "no other picture to hold it against"
