"""A run's folder: its recipe, what its steps came to, and the pages made from it."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from sightline.errors import RunError
from sightline.plugin import suggest
from sightline.store.shards import Shard, Store, written_whole

if TYPE_CHECKING:
    import datasets

    from sightline.rows import Dropped


class Run:
    """A folder `runs/<name>` beside the store that runs share.

    recipe.yaml    the resolved recipe
    manifest.json  the store's place and, for each step, its shards, counts, drops by reason, seconds
    results.json   benchmark results; report.html: the page; adapter/: what was trained
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, folder: Path, recipe_text: str, store: Path) -> Run:
        """Open the folder for this recipe; RunError where it holds what another one made."""
        run = cls(folder)
        run.refuse_another(recipe_text)
        with written_whole(folder / "recipe.yaml") as aside:
            aside.write_text(recipe_text)
        if not run.manifest_path.exists():
            run.write_manifest({"store": _relative(store, folder), "steps": {}})
        return run

    def refuse_another(self, recipe_text: str) -> None:
        """RunError where the folder holds what another recipe made.

        How many hands work (`execution`) makes no other recipe: a run may go on with more of them.
        """
        written = self.folder / "recipe.yaml"
        before = written.read_text() if written.exists() else recipe_text
        if before != recipe_text and not self._may_become(before, recipe_text):
            raise RunError(
                str(self.folder),
                f"this folder holds a run of another recipe ({_first_difference(before, recipe_text)})",
                "give another folder with --out: runs beside each other share their store, and nothing stored is made again",
            )

    def _may_become(self, before: str, after: str) -> bool:
        if not self.manifest_path.exists():
            return False  # a recipe.yaml that no run wrote
        return not self.manifest["steps"] or _what(before) == _what(after)

    @classmethod
    def open(cls, folder: Path) -> Run:
        """An existing run; RunError where the folder holds none."""
        run = cls(folder)
        if not run.manifest_path.exists():
            raise RunError(str(folder), "no run is here (no manifest.json)", "give the folder that `sightline run` printed")
        return run

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Only one process works on a run at a time."""
        with (self.folder / ".lock").open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunError(str(self.folder), "another sightline is working on this run", "wait for it, or stop it") from error
            yield

    @property
    def manifest_path(self) -> Path:
        return self.folder / "manifest.json"

    @property
    def manifest(self) -> dict[str, Any]:
        return json.loads(self.manifest_path.read_text())

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        with written_whole(self.manifest_path) as aside:
            aside.write_text(json.dumps(manifest, indent=1, sort_keys=True))

    def note(self, **entries: Any) -> None:
        """Add top-level entries to the manifest."""
        self.write_manifest({**self.manifest, **entries})

    def note_step(self, name: str, entry: dict[str, Any]) -> None:
        """Add what a step came to: shards as [bucket, address], rows, dropped by reason, seconds."""
        manifest = self.manifest
        manifest["steps"][name] = entry
        self.write_manifest(manifest)

    @property
    def store(self) -> Store:
        return Store((self.folder / self.manifest["store"]).resolve())

    def shards(self, step: str) -> list[Shard]:
        """The step's shards; RunError naming the nearest step where there is none of this name."""
        steps = self.manifest["steps"]
        if step not in steps:
            raise RunError(str(self.folder), f"this run has no step '{step}'", suggest(step, list(steps)))
        return [Shard(step, bucket, address) for bucket, address in steps[step]["shards"]]

    def rows(self, step: str) -> list[Any]:
        """All rows of a step, in the order of their shards."""
        store = self.store
        return [row for shard in self.shards(step) for row in store.read(shard)]

    def dropped(self, step: str) -> list[Dropped]:
        store = self.store
        return [row for shard in self.shards(step) for row in store.read_dropped(shard)]

    def dataset(self, step: str) -> datasets.Dataset:
        """The step's rows as a Hugging Face dataset; pictures decode on access."""
        return open_dataset(self.store, self.shards(step))


def open_dataset(store: Store, shards: list[Shard]) -> datasets.Dataset:
    """Stored shards as one dataset, its `picture`/`pictures` columns as images."""
    import datasets

    data = datasets.Dataset.from_parquet([str(store.path(shard)) for shard in shards], cache_dir=str(store.root / "datasets"))
    if "picture" in data.column_names:
        data = data.map(lambda row: {"picture": str(store.picture(row["picture"]))}).cast_column("picture", datasets.Image())
    if "pictures" in data.column_names:
        data = data.map(lambda row: {"pictures": [str(store.picture(name)) for name in row["pictures"]]})
        data = data.cast_column("pictures", datasets.List(datasets.Image()))
    return data


def _relative(path: Path, start: Path) -> str:
    import os

    return os.path.relpath(path.resolve(), start.resolve())


def _what(recipe_text: str) -> dict[str, Any]:
    """A recipe but for how many hands work on it."""
    return {key: section for key, section in yaml.safe_load(recipe_text).items() if key != "execution"}


def _first_difference(ours: str, theirs: str) -> str:
    for there, here in zip(ours.splitlines(), theirs.splitlines(), strict=False):
        if there != here:
            return f"there '{there.strip()}', here '{here.strip()}'"
    return "one has more lines"
