"""Rows in a folder of their own: what `sightline import` writes and a recipe takes in."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sightline.errors import DataError
from sightline.rows import Dropped, Row
from sightline.store.shards import Shard, Store


@dataclass(frozen=True)
class RowFolder:
    """A folder that holds the rows of one step as a small store, and about.json saying which."""

    root: Path

    @classmethod
    def write(cls, root: Path, step: str, made: Iterable[Row | Dropped], about: dict[str, str]) -> RowFolder:
        """Store rows and refusals; the rows' pictures must be in `Store(root)` by then. `about` says where they came from."""
        store = Store(root)
        shards = store.sort_in(step, about, made, shard_size=4096)
        counts = {kind: sum(int(store.counts(shard)[kind]) for shard in shards) for kind in ("rows", "dropped")}
        listed = [[shard.bucket, shard.address] for shard in shards]
        (root / "about.json").write_text(json.dumps({**about, "step": step, **counts, "shards": listed}, indent=1))
        return cls(root)

    @classmethod
    def open(cls, root: Path, step: str) -> RowFolder:
        """DataError where the folder holds no rows of this step."""
        path = root / "about.json"
        if not path.is_file():
            raise DataError(str(root), "no imported rows are here (no about.json)", "make them with `sightline import`")
        found = json.loads(path.read_text())["step"]
        if found != step:
            raise DataError(str(root), f"these rows are {found}, not {step}", "import data of the wanted kind")
        return cls(root)

    @property
    def shards(self) -> list[Shard]:
        about = json.loads((self.root / "about.json").read_text())
        return [Shard(about["step"], bucket, address) for bucket, address in about["shards"]]

    def adopt(self, store: Store, shard_size: int) -> list[Shard]:
        """Bring the rows and their pictures into another store; pictures are linked where the disk allows it."""
        return store.sort_in(self.shards[0].step, "adopted", self._linked(store), shard_size)

    def _linked(self, store: Store) -> Iterator[Row | Dropped]:
        """All rows and refusals, the rows' pictures now in the other store, too."""
        here = Store(self.root)
        for shard in self.shards:
            for row in here.read(shard):
                for name in row.pictures:
                    _link(here.picture(name), store.picture(name))
                yield row
            yield from here.read_dropped(shard)


def _link(source: Path, target: Path) -> None:
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
