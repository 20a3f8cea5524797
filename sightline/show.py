"""Look into a run from the terminal: its steps and results, a step's rows, where a row comes from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Column, Table
from rich.tree import Tree

from sightline.errors import RunError
from sightline.plugin import suggest
from sightline.report import comparison
from sightline.report.lmms_eval import lmms_eval
from sightline.report.sweeps import Metric, Sweeps, cells
from sightline.rows import place_of
from sightline.store.records import fields_of, to_record
from sightline.store.runs import Run

PARENTS = {
    "pairs": ("chosen_id", "rejected_id"),
    "unbalanced": ("chosen_id", "rejected_id"),
    "responses": ("instruction_id",),
    "instructions": ("image_id",),  # of the ranking that chose it, where there was one
    "ranking": ("image_id",),
    "images": ("prompt_id",),
}
"""Fields of a step's rows that name the rows they came from. What annotators made hangs below the response it is about."""
WRITTEN = ("replies/", "splits/")
"""Steps of raw replies, which name what they are about."""


def show(folder: Path, what: str | None, limit: int) -> Iterator[RenderableType]:
    """Tables and trees to print."""
    run = Run.open(folder)
    if what is None:
        yield steps_table(run)
        results = results_table(run)
        yield from filter(None, (results, lmms_eval_table(run)))
    elif what in run.manifest["steps"]:
        yield rows_table(run, what, limit)
    else:
        yield provenance(run, what)


def steps_table(run: Run) -> Table:
    """Every step in order: rows, drops with reasons, seconds, and what served models took."""
    steps = run.manifest["steps"]
    is_served = any(entry.get("usage") for entry in steps.values())
    served = ("calls", "tokens\nread", "tokens\nwritten", "cost") if is_served else ()
    refused = ["dropped"] if any(entry["dropped"] for entry in steps.values()) else []
    table = Table(
        Column("step", overflow="fold", min_width=min(max(map(len, steps), default=0), 20)),
        *(Column(name, no_wrap=True) for name in ("rows", "seconds", *served)),
        *(Column(name, overflow="fold") for name in refused),
        title=str(run.folder),
        title_justify="left",
    )
    for name in sorted(steps, key=place_of):
        entry = steps[name]
        used = _used(entry.get("usage") or {}) if is_served else []
        dropped = [", ".join(f"{count} {reason}" for reason, count in sorted(entry["dropped"].items()))] if refused else []
        table.add_row(name, str(entry["rows"]), f"{entry['wall_seconds']:.1f}", *used, *dropped)
    return table


def _used(usage: dict[str, float | None]) -> list[str]:
    """Calls, tokens and cost; empty cells where no server was asked."""
    if not usage:
        return [""] * 4
    forms = {"calls": ",.0f", "input_tokens": ",.0f", "output_tokens": ",.0f", "cost": ",.4g"}
    return ["unknown" if (number := usage.get(what)) is None else format(number, form) for what, form in forms.items()]


def results_table(run: Run) -> Table | None:
    """Benchmarks with intervals, or None where none has run. A benchmark's splits are on the page."""
    benchmarks = _results(run).get("benchmarks")
    if not benchmarks:
        return None
    table = Table(
        "benchmark", "metric", "before", "after", "difference", "n", title="results, 95 % intervals", title_justify="left"
    )
    for benchmark in benchmarks:
        for metric in (line for line in benchmark["metrics"] if not line.get("split")):
            cells = [_number(metric.get(column)) for column in ("base", "aligned", "difference")]
            table.add_row(f"{benchmark['benchmark']} ({benchmark['rule']})", metric["metric"], *cells, str(metric["n"]))
    return table


def _results(run: Run) -> dict[str, Any]:
    """All numbers of the run; none where it has not come so far."""
    path = run.folder / "results.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def lmms_eval_table(run: Run) -> Table | None:
    """Numbers by lmms-eval, or None where none of its tasks has run."""
    found = lmms_eval(_results(run))
    if found is None:
        return None
    title = f"lmms-eval {found.version}: its own numbers and standard errors"
    table = Table("task", "metric", "before", "after", "n", title=title, title_justify="left")
    for row in found.rows:
        table.add_row(row.task, row.metric, row.base, row.aligned, str(row.n or "–"))
    table.caption = escape("\n".join(found.notes)) or None
    return table


def sweep_tables(sweeps: Sweeps) -> Iterator[Table]:
    """Each benchmark's first metric at each point; its other metrics, and all ends, are in the sweep's files."""
    first: dict[str, Metric] = {}
    for mean in sweeps.means:
        first.setdefault(mean.metric.benchmark, mean.metric)
    for metric in first.values():
        title = f"{sweeps.name}, {metric.caption}; ± between runs, 95 % within one"
        headings = ("pairs", "runs", "base", "mean", "less base", "apart")
        table = Table(*sweeps.compared, *headings, title=title, title_justify="left")
        for mean in (mean for mean in sweeps.means if mean.metric == metric):
            pairs, runs, base, value, spread, _, difference, _, within, apart = cells(mean)
            told = value if mean.spread is None else f"{value} ± {spread}"
            table.add_row(*map(escape, mean.labels), pairs, runs, base, told, f"{difference} ({within})", apart)
        yield table


def scores_table(benchmark: dict[str, Any]) -> Table:
    """One benchmark's numbers for one file of answers, its splits among them."""
    told = (
        f"{benchmark['benchmark']}, rule: {benchmark['rule']}; {benchmark['n']} questions about {benchmark['pictures']} pictures"
    )
    table = Table("metric", "value, 95 % interval", "unit", "n", title=told, title_justify="left")
    for metric in benchmark["metrics"]:
        number = metric["answers"]
        table.add_row(
            metric["metric"],
            number.get("reason") if number["value"] is None else _number(number),
            metric["unit"],
            str(metric["n"]),
        )
    guessed, empty = benchmark["guesses"]["answers"], benchmark["empty"]["answers"]
    table.caption = f"{guessed} answers gave the rule nothing to go by, so it guessed; {empty} are empty"
    return table


def comparison_tables(compared: dict[str, Any]) -> Iterator[RenderableType]:
    """A table for each benchmark that the runs share, and what a reader has to know of them."""
    for benchmark in compared["benchmarks"]:
        table = Table(*comparison.HEADER, title=comparison.title(benchmark), title_justify="left")
        for row in comparison.rows(benchmark):
            table.add_row(*map(escape, row))
        yield table
    yield from (escape(note) for note in comparison.notes(compared))


def _number(value: dict[str, Any] | None) -> str:
    if value is None or value.get("value") is None:
        return "–"
    interval = f" [{value['low']:.1f}, {value['high']:.1f}]" if value.get("low") is not None else ""
    return f"{value['value']:.1f}{interval}"


def rows_table(run: Run, step: str, limit: int) -> Table:
    """The first rows of a step, a line each."""
    rows = run.rows(step)
    table = Table("id", "row", title=f"{step}: {min(limit, len(rows))} of {len(rows)} rows", title_justify="left")
    for row in rows[:limit]:
        record = {
            key: value
            for key, value in to_record(row).items()
            if key not in ("id", "key", "origin") and value not in (None, [], {})
        }
        table.add_row(row.id[:12], "\n".join(f"[dim]{key}[/dim] {escape(str(value))}" for key, value in record.items()))
    return table


def provenance(run: Run, wanted: str) -> Tree:
    """A row and all that it came from, back to its prompt."""
    steps = sorted(run.manifest["steps"], key=place_of)  # a pair that was balanced is last seen in `pairs`
    rows = {row.id: (step, row) for step in steps for row in run.rows(step)}
    found = [identity for identity in rows if identity.startswith(wanted)] + [
        i for i, (_, row) in rows.items() if row.key == wanted
    ]
    if not found:
        raise RunError(str(run.folder), f"no step and no row '{wanted}'", suggest(wanted, steps))
    return _Lineage(run, rows).branch(found[0], Tree("", hide_root=True))


@dataclass
class _Lineage:
    """Draws rows with all that they came from, each once."""

    run: Run
    rows: dict[str, tuple[str, Any]]
    drawn: set[str] = field(default_factory=set)

    def branch(self, identity: str, tree: Tree) -> Tree:
        step, row = self.rows[identity]
        title = f"[bold]{step}[/bold] [dim]{identity[:12]}[/dim]"
        if identity in self.drawn:
            tree.add(f"{title} as above")
            return tree
        self.drawn.add(identity)
        branch = tree.add(title)
        for name in fields_of(type(row)):
            value = getattr(row, name)
            if name not in ("id", "key") and value not in (None, [], {}):
                branch.add(f"[dim]{name}[/dim] {escape(self._plain(name, value))}")
        if step == "pairs" and (rule := self._rule()):
            branch.add(f"[dim]chosen by[/dim] {escape(rule)}")
        for child in [*self._annotations(step, identity), *self._replies(step, row), *self._parents(step, row)]:
            self.branch(child, branch)
        return tree

    def _rule(self) -> str:
        """The recipe's own words for which answers were paired."""
        path = self.run.folder / "recipe.yaml"
        told = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
        rule = (told.get("make") or {}).get("pairs")
        return ", ".join(f"{name} {value}" for name, value in rule.items() if value not in (None, {}, [])) if rule else ""

    def _parents(self, step: str, row: Any) -> Iterator[str]:
        ranked = self._ranked(row) if step == "instructions" else None
        names = PARENTS.get(step.partition("/")[0], ())
        yield from [ranked] if ranked else (parent for name in names if (parent := getattr(row, name, None)) in self.rows)

    def _ranked(self, instruction: Any) -> str | None:
        """The ranking that chose the instruction's picture."""
        return next(
            (i for i, (step, row) in self.rows.items() if step == "ranking" and row.image_id == instruction.image_id), None
        )

    def _annotations(self, step: str, identity: str) -> Iterator[str]:
        if step.startswith("responses/"):
            for other, row in self.rows.values():
                if other.startswith(("annotations/", "judgements/")) and row.response_id == identity:
                    yield row.id

    def _replies(self, step: str, row: Any) -> Iterator[str]:
        """What a model wrote about a row; for an instruction, about its picture; for a prompt, the reply that it stands in."""
        if step == "ranking" or step.startswith(WRITTEN):
            return
        about = {row.id, row.id.partition("@")[2], self._ranked(row) if step == "instructions" else None}
        for other, reply in self.rows.values():
            if other.startswith(WRITTEN) and about & {reply.id, reply.about_id}:
                yield reply.id

    def _plain(self, name: str, value: Any) -> str:
        if name in ("picture", "pictures"):
            names = [value] if isinstance(value, str) else value
            return ", ".join(str(self.run.store.picture(each)) for each in names)
        if isinstance(value, list) and value and dataclasses.is_dataclass(value[0]):
            return "".join(f"\n{self._plain(name, each)}" for each in value)
        if dataclasses.is_dataclass(value):
            value = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
        if isinstance(value, dict):
            told = {key: inner for key, inner in value.items() if inner is not None and inner != ""}
            return ", ".join(f"{key} {self._plain(key, inner)}" for key, inner in told.items())
        return str(round(value, 4)) if isinstance(value, float) else str(value)
