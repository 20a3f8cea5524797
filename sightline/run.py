"""The whole story on one page: make pairs, train on them, evaluate before and after, write the page.

Each verb does what is missing before it, and nothing that is stored is done again.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline import eval as evaluation
from sightline import make as making
from sightline import processes
from sightline import train as training
from sightline.engines import Engine, Engines
from sightline.engines.weights import seen_from
from sightline.errors import RecipeError, RunError
from sightline.eval import bridge_results as bridge
from sightline.eval.bridge import find_lmms_eval
from sightline.execute import Executor, Silent, Tally, Watch
from sightline.plugin import suggest
from sightline.recipe import Recipe, read
from sightline.store.folders import RowFolder
from sightline.store.runs import Run
from sightline.store.shards import Shard, Store, written_whole

if TYPE_CHECKING:
    import datasets

    from sightline.train import Checkpoint

RUNS = Path("runs")

Verb = Callable[..., Run]


def by_the_first_process(verb: Verb) -> Verb:
    """Under torchrun one process does the verb's work; the others only train with it, and return the same run."""

    @wraps(verb)
    def call(
        recipe: Recipe | str | Path, out: str | Path | None = None, overrides: Sequence[str] = (), watch: Watch | None = None
    ) -> Run:
        if processes.rank() > 0:
            training.follow()
            return Run.open(_located(recipe, out, overrides)[2])
        run = verb(recipe, out, overrides, watch)
        processes.tell(None)
        return run

    return call


@by_the_first_process
def run(
    recipe: Recipe | str | Path, out: str | Path | None = None, overrides: Sequence[str] = (), watch: Watch | None = None
) -> Run:
    """Make, train, evaluate and report; returns the run's folder, open."""
    with opened(recipe, out, overrides, watch) as work:
        _require_what_measures(work)
        if work.recipe.train:
            _train(work)
        else:
            _make(work)
        if work.recipe.eval:
            _evaluate(work)
        return _finish(work)


@by_the_first_process
def make(
    recipe: Recipe | str | Path, out: str | Path | None = None, overrides: Sequence[str] = (), watch: Watch | None = None
) -> Run:
    """Make the recipe's rows, up to its pairs."""
    with opened(recipe, out, overrides, watch) as work:
        _make(work)
        return _finish(work)


@by_the_first_process
def train(
    recipe: Recipe | str | Path, out: str | Path | None = None, overrides: Sequence[str] = (), watch: Watch | None = None
) -> Run:
    """Train on the recipe's pairs, after making those that are missing."""
    with opened(recipe, out, overrides, watch) as work:
        _train(work)
        return _finish(work)


@by_the_first_process
def evaluate(
    recipe: Recipe | str | Path, out: str | Path | None = None, overrides: Sequence[str] = (), watch: Watch | None = None
) -> Run:
    """Run the recipe's benchmarks on the model before and after, after training it where that is missing."""
    with opened(recipe, out, overrides, watch) as work:
        _require_what_measures(work)
        section = work.recipe.eval
        if work.recipe.train and not (section and (section.adapter or section.engines)):
            _train(work)
        _evaluate(work)
        return _finish(work)


def rows(run_folder: str | Path, step: str) -> datasets.Dataset:
    """A step's rows as a Hugging Face dataset, pictures included."""
    return Run.open(Path(run_folder)).dataset(step)


@dataclass
class Work:
    """A recipe, the run's folder, and the hands that work on it."""

    recipe: Recipe
    folder: Path  # of the recipe: paths in it start here
    run: Run
    executor: Executor
    checkpoint: Checkpoint | None = None

    def note(self, tally: Tally, wall_seconds: float) -> None:
        """Write a step's outcome into the manifest; the time it took when it was really made stays."""
        before = self.run.manifest["steps"].get(tally.name, {})
        wall = wall_seconds if tally.reused < len(tally.shards) else before.get("wall_seconds", wall_seconds)
        entry = {key: value for key, value in asdict(tally).items() if key not in ("name", "shards")}
        shards = [[shard.bucket, shard.address] for shard in tally.shards]
        self.run.note_step(tally.name, {**entry, "shards": shards, "wall_seconds": round(wall, 3)})


@contextmanager
def opened(recipe: Recipe | str | Path, out: str | Path | None, overrides: Sequence[str], watch: Watch | None) -> Iterator[Work]:
    """A run's folder, locked, with an executor whose workers live for the block."""
    found, folder, place = _located(recipe, out, overrides)
    store = Store(place.parent / "store")
    place.mkdir(parents=True, exist_ok=True)
    current = Run(place)
    with current.locked():
        Run.create(place, found.resolved(), store.root)
        executor = Executor(store, Engines(found.engines), found.seed, found.execution, watch or Silent())
        with executor.working():
            yield Work(found, folder, current, executor)


def _located(recipe: Recipe | str | Path, out: str | Path | None, overrides: Sequence[str]) -> tuple[Recipe, Path, Path]:
    """The recipe, its folder, and the run's."""
    found, folder = (recipe, Path()) if isinstance(recipe, Recipe) else read(recipe, overrides)
    return found, folder, Path(out) if out else RUNS / _folder_name(found, overrides)


def _folder_name(recipe: Recipe, overrides: Sequence[str]) -> str:
    """The recipe's name, and what was overridden, so that variants lie beside each other."""
    changes = [
        re.sub(r"[^A-Za-z0-9.]+", "-", override.split(".")[-1] if "=" in override.split(".")[-1] else override)
        for override in overrides
    ]
    return "-".join([recipe.name, *changes]).strip("-")[:120]


def _make(work: Work) -> list[Shard]:
    """The shards of the recipe's pairs."""
    if work.recipe.make is None:
        raise RecipeError(
            "make", "this recipe makes nothing", "add a make section, or give train.pairs a folder of imported pairs"
        )
    tallies = making.make(work.recipe.make, work.executor, work.folder, _timed(work))
    return tallies["pairs"].shards if "pairs" in tallies else []


def _train(work: Work) -> None:
    section = work.recipe.train
    if section is None:
        raise RecipeError(
            "train", "this recipe trains nothing", f"add a train section; {suggest('train', list(Recipe.model_fields))}"
        )
    for stage in filter(None, (section.first_stage(), section)):
        training.check_share(stage)  # before hours of making
    if section.load_in_4bit:
        training.require_gpu()
    link = work.run.folder / "adapter"
    if link.exists() and not link.is_symlink():
        raise RunError(
            str(link), "this is in the place of what training makes", "move it away, or give another folder with --out"
        )
    pairs = _imported(work, section.pairs) if section.pairs is not None else _make(work)
    own = _imported(work, section.sft.pairs) if section.sft and section.sft.pairs is not None else None
    work.checkpoint = training.train(section, pairs, work.executor, _timed(work), own)
    if link.is_symlink():
        link.unlink()
    link.symlink_to(os.path.relpath(work.checkpoint.folder, work.run.folder.resolve()))
    work.run.note(checkpoint=work.checkpoint.to_json())


def _imported(work: Work, folder: str) -> list[Shard]:
    """The shards of pairs that were imported."""
    return RowFolder.open(seen_from(folder, work.folder), "pairs").adopt(work.run.store, work.recipe.execution.shard_size)


def _evaluate(work: Work) -> None:
    section = work.recipe.eval
    if section is None:
        raise RecipeError("eval", "this recipe evaluates nothing", "add an eval section with benchmarks")
    if section.suffix is None:
        section = section.model_copy(update={"suffix": work.recipe.asking()})
    models = _models(work)
    results = evaluation.evaluate(section, work.executor, models, _timed(work), work.folder).to_json()
    work.run.note(results=results)
    if section.lmms_eval is not None:
        theirs, ours = bridge.evaluate(section, models, work.executor, work.run.folder, _timed(work), work.folder)
        benchmarks = [*results["benchmarks"], *(outcome.to_json() for outcome in ours)]
        work.run.note(results={**results, "benchmarks": benchmarks, "lmms_eval": theirs})


def _require_what_measures(work: Work) -> None:
    """A UserError before hours of making and training where a benchmark's data, or what lmms-eval needs, is not here."""
    if work.recipe.eval is None:
        return
    for benchmark in work.recipe.eval.benchmarks:
        evaluation.located(benchmark, work.folder)
    if work.recipe.eval.lmms_eval:
        find_lmms_eval(work.recipe.eval.lmms_eval.python)


def _models(work: Work) -> dict[str, Engine]:
    """Who answers the benchmarks: the model before training, and after it."""
    section, trained, checkpoint = work.recipe.eval, work.recipe.train, work.checkpoint
    assert section is not None
    if section.engines:
        # in this order, whatever the recipe's: differences are the second's less the first's
        return {who: work.recipe.engines[section.engines[who]] for who in ("base", "aligned") if who in section.engines}
    adapter = str(checkpoint.adapter) if checkpoint and checkpoint.is_adapter else None
    models = section.models(trained.model if trained else None, adapter)
    if not models:
        raise RecipeError("eval.model", "nothing says which model to evaluate", "set eval.model, or add a train section")
    if section.model is None and trained is not None:
        models = {who: engine.model_copy(update={"revision": trained.revision}) for who, engine in models.items()}
    if checkpoint and not checkpoint.is_adapter and section.adapter is None:
        models["aligned"] = models["base"].model_copy(update={"model": str(checkpoint.folder), "revision": None})
    elif checkpoint and checkpoint.sft and section.adapter is None and section.model is None:
        models["aligned"] = models["aligned"].model_copy(update={"model": checkpoint.model, "revision": None})
    return models


def _finish(work: Work) -> Run:
    """Write results.json and the page."""
    from sightline.report import build

    manifest = work.run.manifest
    steps = {name: {"rows": entry["rows"], "dropped": entry["dropped"]} for name, entry in manifest["steps"].items()}
    with written_whole(work.run.folder / "results.json") as aside:
        aside.write_text(json.dumps({**manifest.get("results", {}), "steps": steps}, indent=1))
    build(work.run, work.recipe.report)
    return work.run


def _timed(work: Work) -> Any:
    """A listener for finished steps that knows how long each took by the clock."""
    last = time.perf_counter()

    def on_step(tally: Tally) -> None:
        nonlocal last
        now = time.perf_counter()
        work.note(tally, now - last)
        last = now

    return on_step
