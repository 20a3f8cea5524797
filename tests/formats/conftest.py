"""Pictures and stored pairs for tests of the formats."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sightline.formats import Imported
from sightline.rows import Pair
from sightline.store.folders import RowFolder
from sightline.store.shards import Store

COLOURS = {"a.png": "red", "b.png": "blue", "deep/c.jpg": "green"}


def picture(format: str = "PNG", size: tuple[int, int] = (4, 3), colour: Any = (200, 10, 30), **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, format=format, **options)
    return stream.getvalue()


def coloured(name: str) -> bytes:
    """The bytes of one of the COLOURS."""
    return picture("PNG" if name.endswith("png") else "JPEG", colour=COLOURS[name])


def lay_out(folder: Path) -> Path:
    """The COLOURS as files in a folder."""
    for name in COLOURS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(coloured(name))
    return folder


def folder_of(root: Path, pairs: Sequence[Pair]) -> RowFolder:
    return RowFolder.write(root, "pairs", pairs, {"format": "none"})


def pairs_in(folder: RowFolder | Imported) -> list[Pair]:
    """All stored pairs, by id: shards do not keep the order."""
    folder = folder.folder if isinstance(folder, Imported) else folder
    found = [pair for shard in folder.shards for pair in Store(folder.root).read(shard)]
    return sorted(found, key=lambda pair: pair.id)


@pytest.fixture(scope="module")
def unfit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures that nobody can learn from."""
    root = tmp_path_factory.mktemp("unfit")
    (root / "folder").mkdir()
    whole = picture("JPEG", (64, 64), quality=95)
    (root / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(root / "moving.gif", save_all=True, append_images=frames[1:])
    Image.new("1", (10_000, 5_001)).save(root / "huge.png")
    return root
