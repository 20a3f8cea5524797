"""What came back over the bridge: lmms-eval's numbers under its own names, and ours computed from the same answers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from sightline.engines import Engine
from sightline.engines.weights import locate_data
from sightline.errors import DataError, UserError
from sightline.eval import Benchmark, Eval, Outcome
from sightline.eval.bridge import TRIED, Theirs, hand_over
from sightline.eval.scoring import read_sheets, told
from sightline.execute import Executor, Tally, tally_of
from sightline.store.shards import Store

ERRORS = ("stderr_clustered", "stderr_clt", "stderr")
"""Ends of the names that lmms-eval gives a metric's standard errors."""


OnStep = Callable[[Tally], None]


def evaluate(
    section: Eval, models: Mapping[str, Engine], executor: Executor, out: Path, on_step: OnStep, folder: Path | None = None
) -> tuple[dict[str, Any], list[Outcome]]:
    """The tasks' numbers by lmms-eval, as plain values for results.json, and by our benchmarks; what is scored is stored."""
    assert section.lmms_eval is not None
    runs = hand_over(section.lmms_eval, models, executor.store.root, out / "lmms_eval", executor.watch, folder)
    outcomes: list[Outcome] = []
    reasons = {}
    for task, benchmark in section.lmms_eval.ours.items():
        assert isinstance(benchmark, Benchmark)
        try:
            outcomes += [
                _recomputed(task, asked, runs, section, executor.store, on_step) for asked in _by_rules(task, benchmark, folder)
            ]
        except UserError as error:
            reasons[task] = str(error)
    return {**theirs(runs), "not_recomputed": reasons}, outcomes


def theirs(runs: Mapping[str, Theirs]) -> dict[str, Any]:
    """Plain values for results.json: versions, and by task what it was made of, and each model's numbers."""
    first, *_ = runs.values()
    tasks = [_task(name, runs) for name in first.results]
    return {"packages": first.runs[0]["packages"], "tried": TRIED, "decoding": "greedy", "tasks": tasks}


def _by_rules(task: str, benchmark: Benchmark, folder: Path | None) -> Iterator[Benchmark]:
    """The benchmark by each of its rules, under names of their own."""
    for rule in get_args(type(benchmark).model_fields["rule"].annotation) or (benchmark.rule,):
        name, data = f"{task}-of-lmms-eval-{rule}", str(locate_data(benchmark.data, folder))
        yield benchmark.model_copy(update={"rule": rule, "name": name, "data": data})


def _recomputed(
    task: str, benchmark: Benchmark, runs: Mapping[str, Theirs], section: Eval, store: Store, on_step: OnStep
) -> Outcome:
    """Our numbers for the task's answers; items and scores are stored as those of an evaluation are, for `sightline compare`."""
    cut = {who: Counter(sample["finish"] for sample in _samples(run, task))["length"] for who, run in runs.items()}
    items, sheets = read_sheets(benchmark, {who: run.samples(task) for who, run in runs.items()})
    found = told(benchmark, items, sheets, section.draws, section.seed)
    (files, *others) = {run.parts[task]["sha256"] for run in runs.values()}
    if others:
        raise DataError(f"eval.lmms_eval, {task}", "its files changed between the two models", "run it again")
    # prompts and lengths are the task's, so that another task's numbers are not to be compared with these
    terms = {**found.terms, "task": files}
    steps: dict[str, list[Any]] = {f"items/{benchmark.title}": items}
    steps |= {f"scores/{benchmark.title}-{who}": sheet.rows() for who, sheet in sheets.items()}
    for name, rows in steps.items():
        on_step(tally_of(store, name, store.source(name, terms, rows, [], section.shard_size)))
    return replace(found, cut=cut, terms=terms)


def _task(name: str, runs: Mapping[str, Theirs]) -> dict[str, Any]:
    numbers = {who: _numbers(run, name) for who, run in runs.items()}
    lines: dict[str, dict[str, Any]] = {}
    for who, metrics in numbers.items():
        for metric, number in metrics.items():
            lines.setdefault(metric, {"metric": metric})[who] = number
    parts = {who: run.parts[name] for who, run in runs.items() if name in run.parts}
    return {
        "task": name,
        "sha256": {who: part["sha256"] for who, part in parts.items()},
        "n": min((part["samples"] for part in parts.values()), default=None),
        "samples": {who: str(run.samples(name)) for who, run in runs.items() if name in parts},
        "metrics": list(lines.values()),
    }


def _numbers(run: Theirs, task: str) -> dict[str, dict[str, Any]]:
    """A task's numbers by metric: its value, and its standard errors under lmms-eval's names for them.

    lmms-eval takes a metric's standard error from the scores of single samples, also where the metric is no mean of them: POPE's
    F1 comes with the standard error of its accuracy. Where that is so, `stderr_is_of` says it.
    """
    found: dict[str, dict[str, Any]] = {}
    for key, value in run.results[task].items():
        name, _, how = key.partition(",")
        if not isinstance(value, int | float) or isinstance(value, bool):
            continue  # a name, or N/A
        error = next((error for error in ERRORS if name.endswith(f"_{error}")), None)
        name = (name.removesuffix(f"_{error}") if error else name) + ("" if how in ("", "none") else f",{how}")
        found.setdefault(name, {})[error or "value"] = value
    for name, number in found.items():
        mean = _mean(run, task, name)
        if mean is not None and "stderr_clt" in number and abs(mean - number.get("value", mean)) > 1e-9:
            number["stderr_is_of"] = f"the mean score of a sample ({mean:.6g}), not of {name}"
    return {name: number for name, number in found.items() if "value" in number}


def _mean(run: Theirs, task: str, metric: str) -> float | None:
    """Of what single samples score; None where they have no score."""
    scores = [sample.get(metric) for sample in _samples(run, task)] if task in run.parts else []
    scores = [score.get("score") if isinstance(score, Mapping) else score for score in scores]
    known = [score for score in scores if isinstance(score, int | float)]
    return sum(known) / len(known) if known and len(known) == len(scores) else None


def _samples(run: Theirs, task: str) -> Iterator[dict[str, Any]]:
    """A task's log as it is; DataError where no such task was run."""
    if task not in run.parts:
        raise DataError(f"eval.lmms_eval.ours.{task}", "no such task was run", f"there are: {', '.join(run.parts)}")
    with run.samples(task).open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)
