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
from sightline.store.shards import Shard, Store, written_whole


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
        """Bring the rows and their pictures into another store; pictures are linked where the disk allows it.

        DataError where a picture is no longer what was imported: the store, which other runs read, takes none whose name lies.
        """
        return store.sort_in(self.shards[0].step, "adopted", self._linked(store), shard_size)

    def _linked(self, store: Store) -> Iterator[Row | Dropped]:
        """All rows and refusals, the rows' pictures now in the other store, too."""
        here = Store(self.root)
        damaged: dict[str, bool] = {}
        for shard in self.shards:
            for row in here.read(shard):
                for name in row.pictures:
                    if name not in damaged:
                        damaged[name] = not _bring(name, here, store)
                yield row
            yield from here.read_dropped(shard)
        bad = [name for name, is_damaged in damaged.items() if is_damaged]
        if bad:
            problem = f"{len(bad)} of {len(damaged)} pictures are no longer what was imported: the files are damaged"
            raise DataError(str(here.picture(bad[0])), problem, f"import the dataset into {self.root} again: that mends them")


def _bring(name: str, here: Store, there: Store) -> bool:
    """Whether a picture could be brought. One that is missing passes: its row is dropped where it is used, with its reason."""
    if there.holds(name) or not here.picture(name).exists():
        return True
    if not here.holds(name):
        return False
    with written_whole(there.picture(name)) as aside:
        try:
            os.link(here.picture(name), aside)
        except OSError:
            shutil.copyfile(here.picture(name), aside)
    return True
