"""Imported pictures on their way into the store that runs share."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from sightline.errors import DataError
from sightline.rows import Pair
from sightline.store.folders import RowFolder
from sightline.store.shards import Store

PAIR = Pair(id="p", key="k", instruction="?", pictures=[], chosen="a", rejected="b", rule="test")


def imported(root: Path, *contents: bytes) -> tuple[RowFolder, list[Path]]:
    """A folder of pairs, one about each content, and the files of these."""
    names = [Store(root).put_picture(content) for content in contents]
    rows = [replace(PAIR, id=f"p{n}", key=f"k{n}", pictures=[name]) for n, name in enumerate(names)]
    return RowFolder.write(root, "pairs", rows, {"format": "none"}), [Store(root).picture(name) for name in names]


def test_a_picture_that_was_damaged_after_its_import_does_not_reach_the_shared_store(tmp_path):
    folder, (good, bad) = imported(tmp_path / "mine", b"good", b"bad")
    bad.write_bytes(b"BAD")
    shared = Store(tmp_path / "store")
    with pytest.raises(DataError) as caught:
        folder.adopt(shared, 16)
    assert caught.value.where == str(bad) and caught.value.problem.startswith("1 of 2 pictures")
    assert shared.holds(good.name) and not shared.picture(bad.name).exists()
    assert not list(shared.root.rglob("*.parquet"))
    imported(tmp_path / "mine", b"good", b"bad")  # what the message says helps
    (shard,) = folder.adopt(shared, 16)
    assert len(shared.read(shard)) == 2 and shared.picture(bad.name).read_bytes() == b"bad"


def test_a_picture_that_was_damaged_in_the_shared_store_is_mended_from_a_whole_one(tmp_path):
    folder, (picture,) = imported(tmp_path / "mine", b"whole")
    shared = Store(tmp_path / "store")
    shared.put_picture(b"whole")
    shared.picture(picture.name).write_bytes(b"")  # as a machine leaves it whose power failed before the disk had it
    folder.adopt(shared, 16)
    assert shared.holds(picture.name) and os.path.samefile(shared.picture(picture.name), picture)


def test_a_picture_that_is_missing_leaves_its_row_to_whoever_uses_it(tmp_path):
    folder, (picture,) = imported(tmp_path / "mine", b"gone")
    picture.unlink()
    (shard,) = folder.adopt(Store(tmp_path / "store"), 16)
    assert [pair.key for pair in Store(tmp_path / "store").read(shard)] == ["k0"]
