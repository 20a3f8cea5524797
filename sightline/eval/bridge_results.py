"""What came back over the bridge: lmms-eval's numbers under its own names, and ours computed from the same answers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from sightline.engines import Engine
from sightline.errors import DataError, UserError
from sightline.eval import Benchmark, Eval, Outcome, find_data
from sightline.eval.bridge import TRIED, LmmsEval, Theirs, hand_over
from sightline.eval.scoring import score_files
from sightline.execute import Watch

ERRORS = ("stderr_clustered", "stderr_clt", "stderr")
"""Ends of the names that lmms-eval gives a metric's standard errors."""


def evaluate(
    section: Eval, models: Mapping[str, Engine], root: Path, out: Path, watch: Watch, folder: Path | None = None
) -> tuple[dict[str, Any], list[Outcome]]:
    """The tasks' numbers by lmms-eval, as plain values for results.json, and by our benchmarks. `root` keeps the replies."""
    assert section.lmms_eval is not None
    runs = hand_over(section.lmms_eval, models, root, out / "lmms_eval", watch, folder)
    outcomes, reasons = ours(section.lmms_eval, runs, section.draws, section.seed, folder)
    return {**theirs(runs), "not_recomputed": reasons}, outcomes


def theirs(runs: Mapping[str, Theirs]) -> dict[str, Any]:
    """Plain values for results.json: versions, and by task what it was made of, and each model's numbers."""
    first, *_ = runs.values()
    tasks = [_task(name, runs) for name in first.results]
    return {"packages": first.runs[0]["packages"], "tried": TRIED, "decoding": "greedy", "tasks": tasks}


def ours(
    section: LmmsEval, runs: Mapping[str, Theirs], draws: int, seed: int, folder: Path | None = None
) -> tuple[list[Outcome], dict[str, str]]:
    """Our numbers for these answers by each rule of each benchmark that was named; and by task, why there are none."""
    outcomes, reasons = [], {}
    for task, benchmark in section.ours.items():
        assert isinstance(benchmark, Benchmark)
        try:
            outcomes += list(_recomputed(task, benchmark, runs, draws, seed, folder))
        except UserError as error:
            reasons[task] = str(error)
    return outcomes, reasons


def _recomputed(
    task: str, benchmark: Benchmark, runs: Mapping[str, Theirs], draws: int, seed: int, folder: Path | None
) -> Iterator[Outcome]:
    cut = {who: Counter(sample["finish"] for sample in _samples(run, task))["length"] for who, run in runs.items()}
    answers = {who: run.samples(task) for who, run in runs.items()}
    for rule in get_args(type(benchmark).model_fields["rule"].annotation) or (benchmark.rule,):
        asked = {"rule": rule, "name": f"{task}-of-lmms-eval", "data": str(find_data(benchmark.data, folder))}
        (outcome,) = score_files(benchmark.model_copy(update=asked), answers, draws, seed).benchmarks
        yield replace(outcome, cut=cut)


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
