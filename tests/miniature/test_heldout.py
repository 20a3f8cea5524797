"""The held-out benchmark: reproducible, truly held out, and sampled by POPE's rules."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sightline.miniature import heldout, world
from sightline.miniature.world import KINDS, Scene

SHIPPED = heldout.FOLDER


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return heldout.scenes()


def rows(split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (SHIPPED / f"pope_{split}.jsonl").read_text().splitlines()]


def asked(split: str, label: str) -> list[list[str]]:
    """Kinds asked about each picture."""
    found: dict[str, list[str]] = {heldout.picture_name(index): [] for index in range(heldout.NUM_SCENES)}
    for row in rows(split):
        if row["label"] == label:
            found[row["image"]].append(row["text"].removesuffix(" in the picture?").split()[-1])
    return list(found.values())


def test_every_scene_is_held_out_and_no_two_are_the_same(scenes: list[Scene]) -> None:
    assert all(scene.held_out for scene in scenes)
    assert len(set(scenes)) == heldout.NUM_SCENES
    assert set(Counter(scene.topic for scene in scenes).values()) == {60}


def test_shipped_pictures_show_the_scenes(scenes: list[Scene]) -> None:
    for index in range(0, heldout.NUM_SCENES, 12):
        with Image.open(SHIPPED / "pictures" / heldout.picture_name(index)) as shipped:
            assert world.read(shipped) == scenes[index].things
            assert np.array_equal(np.asarray(shipped), np.asarray(heldout.picture(scenes[index], index)))


def test_shipped_files_are_written_again_to_the_byte(tmp_path: Path, scenes: list[Scene]) -> None:
    heldout.write_texts(tmp_path, scenes)
    for path in sorted(tmp_path.iterdir()):
        assert path.read_bytes() == (SHIPPED / path.name).read_bytes(), path.name
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in SHIPPED.iterdir() if path.is_file()}


def test_the_folder_is_small() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) < 1.5 * 2**20


@pytest.mark.parametrize("split", heldout.SPLITS)
def test_all_present_kinds_are_asked_and_as_many_absent_ones(scenes: list[Scene], split: str) -> None:
    for scene, present, absent in zip(scenes, asked(split, "yes"), asked(split, "no"), strict=True):
        assert set(present) == scene.kinds
        assert len(set(absent)) == len(present)
        assert not set(absent) & scene.kinds


def test_popular_asks_for_the_most_frequent_kinds_that_are_absent(scenes: list[Scene]) -> None:
    counts = Counter(kind for scene in scenes for kind in scene.kinds)
    for scene, absent in zip(scenes, asked("popular", "no"), strict=True):
        others = [counts[kind] for kind in KINDS if kind not in scene.kinds and kind not in absent]
        assert min(counts[kind] for kind in absent) >= max(others)


def test_adversarial_asks_first_for_what_is_oftenest_seen_with_the_first_thing(scenes: list[Scene]) -> None:
    for scene, absent in list(zip(scenes, asked("adversarial", "no"), strict=True))[:200]:
        first = scene.things[0].kind
        together = Counter(kind for other in scenes if first in other.kinds for kind in other.kinds)
        assert together[absent[0]] == max(together[kind] for kind in KINDS if kind not in scene.kinds)


def test_random_asks_for_all_kinds_about_equally() -> None:
    counts = Counter(kind for absent in asked("random", "no") for kind in absent)
    assert min(counts.values()) > 0.7 * max(counts.values())


def test_questions_are_numbered_and_have_the_right_article() -> None:
    found = rows("random")
    assert [row["question_id"] for row in found] == list(range(1, len(found) + 1))
    assert {row["text"] for row in found} == {f"Is there {world.with_article(kind)} in the picture?" for kind in KINDS}


def test_coco_files_say_what_is_where(scenes: list[Scene]) -> None:
    instances = json.loads((SHIPPED / "instances.json").read_text())
    names = {entry["id"]: entry["name"] for entry in instances["categories"]}
    assert sorted(names.values()) == sorted(KINDS)
    boxes = {(entry["image_id"], names[entry["category_id"]], *entry["bbox"]) for entry in instances["annotations"]}
    assert boxes == {
        (index, thing.kind, thing.cell % 3 * 8, thing.cell // 3 * 8, 8, 8)
        for index, scene in enumerate(scenes)
        for thing in scene.things
    }
    captions = json.loads((SHIPPED / "captions.json").read_text())["annotations"]
    assert [entry["caption"] for entry in captions] == [world.describe(scene) for scene in scenes]
