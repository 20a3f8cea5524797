"""Finished runs side by side: their stored scores, compared where they were measured alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sightline.errors import DataError, RunError
from sightline.eval import BENCHMARKS, Benchmark
from sightline.eval.compare import Comparison, Counts, Difference, Metric, Number, Score, holm
from sightline.eval.results import plain
from sightline.eval.scoring import read_benchmark
from sightline.rows import Item, Scored
from sightline.store.address import seed_from
from sightline.store.runs import Run

AGAIN = "run `sightline eval` with its recipe again: stored answers are scored, nothing is generated"


@dataclass(frozen=True)
class Side:
    """One model of a finished run."""

    name: str
    run: Run
    who: str

    @property
    def model(self) -> tuple[Path, str]:
        """What is one and the same under any name."""
        return self.run.folder.resolve(), self.who

    @property
    def outcomes(self) -> dict[str, dict[str, Any]]:
        """The run's benchmarks as results.json has them, by name."""
        return {entry["benchmark"]: entry for entry in self.run.manifest["results"]["benchmarks"]}

    def rows(self, step: str) -> list[Any]:
        try:
            return self.run.rows(step)
        except FileNotFoundError as error:
            problem = f"rows of {step} are not in the run's store"
            raise RunError(str(error.filename or self.run.store.root), problem, "bring the store along with the run") from error

    def terms(self, benchmark: str) -> dict[str, Any]:
        """What decided the scores; of a judge not what the recipe calls it, but who it is and how it was asked."""
        outcome = self.outcomes[benchmark]
        if not outcome.get("terms"):
            raise RunError(str(self.run.folder), f"an older sightline evaluated {benchmark}, and kept no terms of it", AGAIN)
        return {**outcome["terms"], **({"judge": outcome["judge"]} if outcome.get("judge") else {})}

    def items(self, benchmark: str) -> dict[str, str]:
        """What was asked: the truth of each item, by its id."""
        items: list[Item] = self.rows(f"items/{benchmark}")
        return {item.id: item.target for item in items}

    def counts(self, benchmark: str) -> Counts:
        step = f"scores/{benchmark}-{self.who}"
        if step not in self.run.manifest["steps"]:
            raise RunError(str(self.run.folder), f"no scores of {benchmark} are stored: an older sightline evaluated it", AGAIN)
        rows: list[Scored] = self.rows(step)
        return Counts.of([Score(row.item_id, row.group, row.counts) for row in rows])


@dataclass(frozen=True)
class Line:
    """A metric of one model; of all but the first model also the difference to the first."""

    run: str
    number: Number
    difference: Difference | None = None
    corrected: float | None = None
    """p after Holm's correction, of headline metrics."""

    def to_json(self) -> dict[str, Any]:
        line = {"run": self.run, **plain(self.number)}
        if self.difference is None:
            return line
        change = plain(self.difference)
        if self.corrected is not None:
            change["corrected"] = float(f"{self.corrected:.6g}")
        if "resolvable" in change:
            change["is_below_resolvable"] = abs(change["value"]) < change["resolvable"]
        return {**line, "difference": change}


@dataclass(frozen=True)
class Measured:
    """A metric of all models."""

    metric: Metric
    lines: list[Line]

    @property
    def tests(self) -> list[float]:
        """p of each difference that has one."""
        return [line.difference.p for line in self.lines if line.difference and line.difference.p is not None]

    def corrected(self, family: Iterator[float]) -> Measured:
        """With the corrected p of each difference that has one, taken from the family's in turn."""
        has_p = [line.difference is not None and line.difference.p is not None for line in self.lines]
        lines = [replace(line, corrected=next(family)) if told else line for line, told in zip(self.lines, has_p, strict=True)]
        return replace(self, lines=lines)


@dataclass(frozen=True)
class Table:
    """A benchmark's metrics, the headline first; `suffixes` are what runs put behind each question, where they did."""

    outcome: Mapping[str, Any]
    suffixes: dict[str, str]
    measured: list[Measured]

    def to_json(self) -> dict[str, Any]:
        about = {key: self.outcome[key] for key in ("benchmark", "kind", "rule", "n", "pictures")}
        metrics = [
            {"metric": one.metric.name, "split": one.metric.split, "better": one.metric.better, "unit": one.metric.unit}
            | {"runs": [line.to_json() for line in one.lines]}
            for one in self.measured
        ]
        return {**about, "suffixes": self.suffixes, "metrics": metrics}


def sides(names: Sequence[str]) -> list[Side]:
    """What RUN or RUN:MODEL stand for: of a run its aligned model (or its only one), of one run alone all its models."""
    asked = [_asked(name) for name in names]
    if len(asked) == 1 and asked[0][2] is None:
        asked = [(name, run, who) for name, run, _ in asked for who in _models(run)]
    found = [Side(name, run, _chosen(run, who)) for name, run, who in asked]
    if len(found) < 2:
        raise RunError(names[0] if names else "compare", "this is one model, and two or more are compared", "name another run")
    found = [replace(side, name=label) for side, label in zip(found, _labels(found), strict=True)]
    twice = [side.name for place, side in enumerate(found) if side.model in {before.model for before in found[:place]}]
    if twice:
        raise RunError(twice[0], "this model is named twice", "name each model once")
    return found


def compare(chosen: Sequence[Side]) -> dict[str, Any]:
    """All benchmarks that these models share, as plain values: each metric of each model, and the difference to the first's.

    DataError where a benchmark was not measured alike: other items, rules, settings or judges.
    """
    known = [set(side.outcomes) for side in chosen]
    shared = [title for title in chosen[0].outcomes if all(title in titles for titles in known)]
    others = sorted(set().union(*known) - set(shared))
    lone = {title: [side.name for side in chosen if title in side.outcomes] for title in others}
    if not shared:
        told = ", ".join(f"{title} ({', '.join(names)})" for title, names in lone.items())
        raise DataError(_all(chosen), f"no benchmark is in all of them: {told}", "evaluate them by one eval section")
    _refuse_other_terms(shared, chosen)
    settings = chosen[0].run.manifest["results"]
    tables = [_table(title, chosen, settings["draws"], settings["seed"]) for title in shared]
    tables, family = _corrected(tables)
    return {
        "runs": [side.name for side in chosen],
        "family": family,
        "left_out": lone,
        "draws": settings["draws"],
        "benchmarks": [table.to_json() for table in tables],
    }


def _asked(name: str) -> tuple[str, Run, str | None]:
    """The name's run, and the model it asks for; RunError where the folder holds none or nothing was evaluated."""
    folder, _, who = (name, "", None) if Path(name).exists() else name.rpartition(":")
    run = Run.open(Path(folder or name))
    if not run.manifest.get("results", {}).get("benchmarks"):
        raise RunError(str(run.folder), "nothing was evaluated in this run", "run `sightline eval` with its recipe")
    return folder or name, run, who


def _models(run: Run) -> list[str]:
    """Who answered in this run, `base` first."""
    return sorted(run.manifest["results"]["benchmarks"][0]["guesses"], key=lambda who: who != "base")


def _chosen(run: Run, who: str | None) -> str:
    models = _models(run)
    if who is not None and who not in models:
        raise RunError(str(run.folder), f"no model '{who}' was evaluated here", f"it has: {', '.join(models)}")
    return who or models[-1]  # `base` comes first


def _labels(found: Sequence[Side]) -> list[str]:
    """Folder names, or paths where two folders share a name; with the model where not all are what a run trained."""
    names = [side.run.folder.resolve().name for side in found]
    if len({side.run.folder.resolve() for side in found}) > len(set(names)):
        names = [side.name for side in found]
    is_plain = all(side.who == "aligned" for side in found)
    return names if is_plain else [f"{name}:{side.who}" for name, side in zip(names, found, strict=True)]


def _refuse_other_terms(shared: Sequence[str], chosen: Sequence[Side]) -> None:
    first, *others = chosen
    for other in others:
        problems = [f"{title}: {problem}" for title in shared for problem in _differing(title, first, other)]
        if problems:
            fix = "evaluate them by one eval section"
            raise DataError(_all([first, other]), f"not measured alike. {'; '.join(problems)}", fix)


def _differing(title: str, first: Side, other: Side) -> Iterator[str]:
    """What sets two runs' measurements of a benchmark apart: its terms, its items."""
    terms = [_flat(side.terms(title)) for side in (first, other)]
    for key in sorted({*terms[0], *terms[1]}):
        here, there = (own.get(key) for own in terms)
        if here != there:
            yield f"{key} is {here!r} in {first.name}, {there!r} in {other.name}"
    ours, theirs = first.items(title), other.items(title)
    for side, extra in ((first, ours.keys() - theirs.keys()), (other, theirs.keys() - ours.keys())):
        if extra:
            yield f"{len(extra)} items only {side.name} was asked"
    changed = sum(ours[item] != theirs[item] for item in ours.keys() & theirs.keys())
    if changed:
        yield f"{changed} items have another truth"


def _flat(terms: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested terms by dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in terms.items():
        flat |= _flat(value, f"{before}{key}.") if isinstance(value, dict) else {f"{before}{key}": value}
    return flat


def _table(title: str, chosen: Sequence[Side], draws: int, seed: int) -> Table:
    outcomes = {side.name: side.outcomes[title] for side in chosen}
    first = outcomes[chosen[0].name]
    suffixes = {side.name: side.outcomes[title]["suffix"] for side in chosen if side.who == "aligned"}
    comparison = Comparison({side.name: side.counts(title) for side in chosen}, draws, seed_from(seed, title))
    measured = [_measured(metric, comparison) for metric in _benchmark(first["terms"]).metrics()]
    measured = [one for one in measured if min(line.number.n for line in one.lines)]
    return Table(first, {name: suffix for name, suffix in suffixes.items() if suffix}, measured)


def _benchmark(terms: Mapping[str, Any]) -> Benchmark:
    """The benchmark that the terms are of; its files are not needed."""
    kind = terms["kind"]
    fields = BENCHMARKS.find(kind).model_fields if kind in BENCHMARKS else ()
    return read_benchmark(kind, {"data": "", **{key: value for key, value in terms.items() if key in fields}})


def _measured(metric: Metric, comparison: Comparison) -> Measured:
    first, *others = comparison.models
    lines = [Line(who, comparison.number(metric, who), comparison.difference(metric, who)) for who in others]
    return Measured(metric, [Line(first, comparison.number(metric, first)), *lines])


def _corrected(tables: Sequence[Table]) -> tuple[list[Table], str]:
    """The tables with Holm's p of each benchmark's first metric, and what family of tests it is corrected for."""
    family = [p for table in tables for p in table.measured[0].tests]
    corrected = iter(holm(family))
    found = [replace(table, measured=[table.measured[0].corrected(corrected), *table.measured[1:]]) for table in tables]
    told = ", ".join(f"{table.outcome['benchmark']} {table.measured[0].metric.name}" for table in tables)
    return found, f"{len(family)} tests: each benchmark's first metric ({told}), each run against the first"


def _all(chosen: Sequence[Side]) -> str:
    return " and ".join(side.name for side in chosen)
