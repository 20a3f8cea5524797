"""Negatives follow from the row and the seed, and are what their names say."""

from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
import torch

from sightline.engines import Engines
from sightline.execute import Use
from sightline.rows import Dropped, Negative, Pair
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


def test_a_pair_without_a_negative_is_dropped_with_the_reason(store, pairs):
    alike = [replace(pair, instruction="The same?") for pair in pairs]
    assert {row.reason for row in made(store, alike, ["question"])} == {"no other question to hold it against"}
    [blind] = made(store, [replace(pairs[0], pictures=[])], ["picture"])
    assert blind.reason == "no picture to spoil"
    [alone] = made(store, pairs[:1], ["picture"], picture="other")
    assert alone.reason == "no other picture to hold it against"
