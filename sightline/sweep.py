"""A recipe at every point of a grid: runs beside each other under one store, and one table of what they came to.

What points have in common (pictures, answers, annotations, reference log-probabilities, the base model's answers) is stored by
content, and so made once. The same command goes on where it was stopped.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from sightline import processes
from sightline.errors import RecipeError, RunError
from sightline.execute import Watch
from sightline.plugin import suggest
from sightline.recipe import Recipe, read, read_yaml, shipped
from sightline.report.sweeps import Entry, Sweeps
from sightline.run import RUNS, run
from sightline.store.runs import Run


@dataclass(frozen=True)
class Axis:
    """What varies: by its label, each choice's overrides of the recipe."""

    name: str
    choices: dict[str, list[str]]

    @property
    def is_repeated(self) -> bool:
        """Whether its points are repeats of each other, which the table takes the mean of."""
        return self.name.rpartition(".")[2] == "seed"


@dataclass(frozen=True)
class Point:
    """A run of the sweep: its label on each axis, its folder's name, its overrides of the recipe."""

    labels: tuple[str, ...]
    folder: str
    overrides: list[str]

    @property
    def title(self) -> str:
        return ", ".join(self.labels)


@dataclass(frozen=True)
class Plan:
    """All runs of a sweep, each checked against the recipe's rules."""

    recipe: str | Path
    folder: Path
    axes: list[Axis]
    points: list[Point]

    def carry_out(self, point: Point, watch: Watch | None = None) -> Run:
        """Run a point, or find it stored, and write the tables of all points that are there."""
        done = run(self.recipe, self.folder / point.folder, point.overrides, watch)
        if processes.rank() == 0:
            self.results().write(self.folder)
        return done

    def results(self) -> Sweeps:
        """What the points came to that have been run."""
        entries = [Entry.read(point.labels, self.folder / point.folder) for point in self.points if self.is_done(point)]
        axes = {axis.name: list(axis.choices) for axis in self.axes}
        return Sweeps(self.folder.name, axes, {axis.name for axis in self.axes if axis.is_repeated}, entries, len(self.points))

    def is_done(self, point: Point) -> bool:
        """Whether the point's run has been trained and measured."""
        done = Run(self.folder / point.folder)
        return done.manifest_path.exists() and {"checkpoint", "results"} <= done.manifest.keys()


def sweep(
    recipe: str | Path,
    vary: Sequence[str],
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    watch: Watch | None = None,
) -> Sweeps:
    """Run the recipe at every point and write the tables, the plot and the page; returns what they hold.

    `vary`: `key=value,value` (YAML values), or a file of named variants, each a mapping of keys to values.
    """
    plan = planned(recipe, vary, out, overrides)
    for point in plan.points:
        plan.carry_out(point, watch)
    return plan.results()


def planned(recipe: str | Path, vary: Sequence[str], out: str | Path | None = None, overrides: Sequence[str] = ()) -> Plan:
    """The sweep's runs; RecipeError or RunError where one of them cannot be, before any is started."""
    axes = [read_axis(text) for text in vary]
    if not axes:
        raise RecipeError("--vary", "nothing varies", "for example --vary train.num_pairs=50,100,200 --vary train.seed=0,1,2")
    points = list(_points(axes, overrides))
    _refuse_twins([axis.name for axis in axes], "axes")
    _refuse_twins([point.folder for point in points], "runs")
    recipes = [_checked(recipe, point) for point in points]
    folder = Path(out) if out else RUNS / "-".join(["sweep", recipes[0].name, *(_short(axis.name) for axis in axes)])
    if (folder / "manifest.json").exists():
        raise RunError(str(folder), "this folder holds a single run", "give another folder with --out")
    for point, found in zip(points, recipes, strict=True):
        Run(folder / point.folder).refuse_another(found.resolved())
    if processes.rank() == 0:
        _share_store(folder)
    return Plan(recipe, folder, axes, points)


def read_axis(text: str) -> Axis:
    """`key=value,value`, or the name of a file of variants: yours, or a shipped one (`recipes/experiments`)."""
    key, equals, values = text.partition("=")
    return _listed(key, values, f"--vary {text}") if equals else _variants(text)


def _listed(key: str, values: str, where: str) -> Axis:
    found = read_yaml(f"[{values}]", where)
    if not found:
        raise RecipeError(where, "no value is given", "separate values by commas: train.num_pairs=50,100,200")
    labels = [_label(value) for value in found]
    _refuse_twins(labels, "values")
    return Axis(key, {label: [_override(key, value)] for label, value in zip(labels, found, strict=True)})


def _variants(name: str) -> Axis:
    ours = shipped("experiments")
    path = Path(name) if Path(name).is_file() else ours.get(name)
    if path is None:
        fix = f"write key=value,value, or give a file of variants; {suggest(name, list(ours))}"
        raise RecipeError(f"--vary {name}", "neither key=value nor a file", fix)
    found = read_yaml(path.read_bytes(), str(path))
    if not isinstance(found, dict) or not found or not all(isinstance(keys, dict) for keys in found.values()):
        fix = "write 'dpo: {train.objective: {kind: dpo}}', a line for each; {} for the recipe as it is"
        raise RecipeError(str(path), "variants are names with what each sets in the recipe", fix)
    return Axis(path.stem, {str(label): [_override(key, value) for key, value in keys.items()] for label, keys in found.items()})


def _override(key: str, value: Any) -> str:
    return f"{key}={json.dumps(value, ensure_ascii=False)}"  # JSON is YAML


def _label(value: Any) -> str:
    """A value as tables name it: `50`, `cosine`, `dpo, beta 0.2`."""
    if not isinstance(value, dict):
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return ", ".join(_label(inner) if key == "kind" else f"{key} {_label(inner)}" for key, inner in value.items())


def _points(axes: Sequence[Axis], overrides: Sequence[str]) -> Iterator[Point]:
    for labels in product(*(axis.choices for axis in axes)):
        chosen = [override for axis, label in zip(axes, labels, strict=True) for override in axis.choices[label]]
        named = [f"{_short(axis.name)}-{label}" for axis, label in zip(axes, labels, strict=True)]
        yield Point(labels, re.sub(r"[^A-Za-z0-9._]+", "-", "-".join(named)).strip("-")[:120], [*overrides, *chosen])


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _refuse_twins(names: Sequence[str], what: str) -> None:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise RecipeError(
            "--vary", f"two {what} would be called '{twice[0]}'", "leave one out, or name them in a file of variants"
        )


def _checked(recipe: str | Path, point: Point) -> Recipe:
    """The point's recipe; RecipeError naming the point where it cannot be, or leaves nothing to compare."""
    try:
        found, _ = read(recipe, point.overrides)
    except RecipeError as error:
        raise RecipeError(error.where, f"{error.problem} (at {point.title})", error.fix) from error
    if found.eval is None or found.train is None:
        raise RecipeError(str(recipe), "a sweep compares what trained models score", "give a recipe with train and eval")
    if found.eval.engines:
        raise RecipeError("eval.engines", "these would answer in place of what each point trains", "leave them out of a sweep")
    return found


def _share_store(folder: Path) -> None:
    """Have the sweep's runs use the store of the runs beside the sweep."""
    (folder.parent / "store").mkdir(parents=True, exist_ok=True)
    folder.mkdir(exist_ok=True)
    link = folder / "store"
    if not link.exists():
        link.symlink_to(Path(os.pardir) / "store")
