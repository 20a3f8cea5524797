"""What a run left behind, read leniently: what is absent is empty, so that a page can always be made."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from sightline.rows import ROW_TYPES, Dropped, place_of
from sightline.store.runs import Run
from sightline.store.shards import Shard, Store

FAMILIES = tuple(ROW_TYPES)
"""Steps by the first part of their names, in the order in which a run takes them."""

T = TypeVar("T")


@dataclass(frozen=True)
class Evidence:
    """A run's manifest, results, rows and training log."""

    run: Run

    @cached_property
    def manifest(self) -> dict[str, Any]:
        return self.run.manifest

    @cached_property
    def store(self) -> Store:
        return self.run.store

    @cached_property
    def results(self) -> dict[str, Any]:
        path = self.run.folder / "results.json"
        return json.loads(path.read_text()) if path.is_file() else {}

    @cached_property
    def recipe_text(self) -> str:
        path = self.run.folder / "recipe.yaml"
        return path.read_text() if path.is_file() else ""

    @cached_property
    def steps(self) -> list[str]:
        """Names of the run's steps, in the run's order."""
        return sorted(self.manifest.get("steps", {}), key=lambda name: (place_of(name), name))

    def steps_of(self, family: str) -> list[str]:
        return [name for name in self.steps if family_of(name) == family]

    def rows(self, family: str) -> list[Any]:
        """Rows of all steps of a family ('responses' takes in 'responses/policy')."""
        return [row for name in self.steps_of(family) for row in self.rows_of(name)]

    def rows_of(self, step: str) -> list[Any]:
        return [row for shard in self._stored(step) for row in self.store.read(shard)]

    def dropped(self, step: str) -> list[Dropped]:
        return [row for shard in self._stored(step) for row in self.store.read_dropped(shard)]

    @cached_property
    def num_missing_shards(self) -> int:
        """Shards that the manifest names and the store no longer holds."""
        return sum(not self.store.has(shard) for name in self.steps for shard in self.run.shards(name))

    def _stored(self, step: str) -> list[Shard]:
        return [shard for shard in self.run.shards(step) if self.store.has(shard)]

    @cached_property
    def checkpoint(self) -> dict[str, Any]:
        return self.manifest.get("checkpoint") or {}

    @cached_property
    def log(self) -> list[dict[str, float]]:
        """The training log's lines, in order; values that are no finite numbers are left out."""
        path = self._log_path()
        if path is None:
            return []
        lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
        return [{name: value for name, value in line.items() if _is_finite(value)} for line in lines]

    def _log_path(self) -> Path | None:
        named = self.checkpoint.get("log")
        if not named:
            return None
        places = (self.run.folder / named, self.store.root / named)  # an absolute name stays as it is
        return next((place for place in places if place.is_file()), None)


def family_of(step: str) -> str:
    """'responses' of 'responses/policy'."""
    return step.partition("/")[0]


def member_of(step: str) -> str:
    """'policy' of 'responses/policy'; the step's own name where it has no slash."""
    return step.partition("/")[2] or step


def spread(rows: Iterable[T], count: int, by: Callable[[T], Any]) -> list[T]:
    """Up to `count` rows, taken from each group in turn, so that no topic crowds out the others."""
    groups: dict[Any, list[T]] = {}
    for row in rows:
        groups.setdefault(by(row), []).append(row)
    turns = max((len(group) for group in groups.values()), default=0)
    return [group[turn] for turn in range(turns) for group in groups.values() if turn < len(group)][:count]


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
