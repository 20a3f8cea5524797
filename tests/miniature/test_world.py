"""The world's truth: what is drawn can be read back, by templates alone."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from sightline.miniature.world import (
    COLOURS,
    KINDS,
    Scene,
    Thing,
    draw,
    matches,
    parse_prompt,
    prompt,
    read,
    read_cells,
    sample,
)

RNG = np.random.default_rng(7)
SCENES = [sample(RNG) for _ in range(150)]
PICTURES = [draw(scene, RNG) for scene in SCENES]


def test_every_drawn_scene_is_read_back_and_matches_its_own_prompt():
    assert [read(picture) for picture in PICTURES] == [scene.things for scene in SCENES]
    assert all(matches(picture, prompt(scene)) for picture, scene in zip(PICTURES, SCENES, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_told_from_the_others_in_every_colour_and_cell(kind):
    cells = np.random.default_rng(1).permutation(9)
    for cell, colour in zip(cells, COLOURS, strict=False):
        thing = Thing(kind, colour, int(cell))
        assert read(draw(Scene((thing,), "holidays"), np.random.default_rng(2))) == (thing,)


def test_slightly_blurred_or_noisy_pictures_are_still_read():
    for scene, picture in zip(SCENES, PICTURES, strict=True):
        noise = RNG.normal(0, 20, size=(24, 24, 3))
        noisy = Image.fromarray(np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8))
        assert read(noisy) == scene.things
        assert read(picture.filter(ImageFilter.GaussianBlur(0.5))) == scene.things


def test_an_enlarged_picture_reads_as_the_small_one():
    assert read(PICTURES[0].resize((240, 240), Image.Resampling.NEAREST)) == SCENES[0].things


def test_a_changed_colour_a_changed_kind_a_missing_and_an_extra_thing_all_break_the_match():
    picture = draw(Scene((Thing("car", "red", 0), Thing("cup", "blue", 5)), "urban"), np.random.default_rng(0))
    assert matches(picture, "a blue cup and a red car in the street")  # the order of a prompt is free
    assert matches(picture, "a red car and a blue cup in the park")  # things only: the place is not judged
    assert not matches(picture, "a red car and a pink cup in the street")
    assert not matches(picture, "a red car and a blue book in the street")
    assert not matches(picture, "a red car in the street")
    assert not matches(picture, "a red car, a blue cup and a green tree in the street")
    assert not matches(picture, "a red cup and a blue car in the street")


def test_two_things_merged_in_one_cell_are_a_smudge_and_match_nothing():
    car, house = (draw(Scene((Thing(kind, "red", 4),), "urban"), np.random.default_rng(0)) for kind in ("car", "house"))
    merged = Image.blend(car, house, 0.5)
    assert read_cells(merged).smudges == (4,)
    assert not matches(merged, "a red car in the street")
    assert not matches(merged, "a red house in the street")


def test_a_prompt_reads_back_to_its_things_and_place():
    for scene in SCENES:
        assert parse_prompt(prompt(scene)) == (tuple((thing.colour, thing.kind) for thing in scene.things), scene.place)


@pytest.mark.parametrize(
    "text", ["a red dragon in the park", "a red car", "an orange car in the park", "a red car in the moon", ""]
)
def test_a_prompt_of_another_world_is_refused(text):
    with pytest.raises(ValueError, match="not a"):
        parse_prompt(text)
