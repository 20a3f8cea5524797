"""Look into a run from the terminal: its steps and results, a step's rows, where a row comes from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from sightline.errors import RunError
from sightline.plugin import suggest
from sightline.report import comparison
from sightline.report.sweeps import HEADINGS, Metric, Sweeps, cells
from sightline.rows import fields_of, place_of, to_record
from sightline.store.runs import Run

PARENTS = {
    "pairs": ("chosen_id", "rejected_id"),
    "unbalanced": ("chosen_id", "rejected_id"),
    "responses": ("instruction_id",),
    "instructions": ("image_id",),
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
        if results is not None:
            yield results
    elif what in run.manifest["steps"]:
        yield rows_table(run, what, limit)
    else:
        yield provenance(run, what)


def steps_table(run: Run) -> Table:
    """Every step: rows, drops with reasons, seconds."""
    table = Table("step", "rows", "dropped", "seconds", title=str(run.folder), title_justify="left")
    for name, entry in run.manifest["steps"].items():
        dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(entry["dropped"].items()))
        table.add_row(name, str(entry["rows"]), dropped, f"{entry['wall_seconds']:.1f}")
    return table


def results_table(run: Run) -> Table | None:
    """Benchmarks with intervals, or None where none has run. A benchmark's splits are on the page."""
    path = run.folder / "results.json"
    benchmarks = json.loads(path.read_text()).get("benchmarks") if path.exists() else None
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


def sweep_table(sweeps: Sweeps) -> Table:
    """Each benchmark's first metric at each point; the others are in the sweep's files."""
    table = Table(*sweeps.compared, "benchmark", "metric", *HEADINGS, title=sweeps.name, title_justify="left")
    first: dict[str, Metric] = {}
    for mean in sweeps.means:
        if first.setdefault(mean.metric.benchmark, mean.metric) == mean.metric:
            table.add_row(*map(escape, mean.labels), mean.metric.benchmark, mean.metric.name, *cells(mean))
    return table


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
    return _branch(rows, found[0], Tree("", hide_root=True), run)


def _branch(rows: dict[str, tuple[str, Any]], identity: str, tree: Tree, run: Run) -> Tree:
    step, row = rows[identity]
    branch = tree.add(f"[bold]{step}[/bold] [dim]{identity[:12]}[/dim]")
    for name in fields_of(type(row)):
        value = getattr(row, name)
        if name not in ("id", "key") and value not in (None, [], {}):
            branch.add(f"[dim]{name}[/dim] {escape(_plain(name, value, run))}")
    if step.startswith("responses/"):
        _add_annotations(rows, identity, branch, run)
    _add_replies(rows, identity, branch, run)
    for name in PARENTS.get(step.partition("/")[0], ()):
        parent = getattr(row, name, None)
        if parent in rows:
            _branch(rows, parent, branch, run)
    return tree


def _add_annotations(rows: dict[str, tuple[str, Any]], response: str, branch: Tree, run: Run) -> None:
    for step, row in rows.values():
        if step.startswith(("annotations/", "judgements/")) and row.response_id == response:
            _branch(rows, row.id, branch, run)


def _add_replies(rows: dict[str, tuple[str, Any]], identity: str, branch: Tree, run: Run) -> None:
    """What a model wrote about a row; for an instruction, about its picture; for a prompt, the reply that it stands in."""
    step, row = rows[identity]
    about = {identity, identity.partition("@")[2]} if not step.startswith(WRITTEN) else set()
    if step == "instructions":
        about |= {ranked.id for other, ranked in rows.values() if other == "ranking" and ranked.image_id == row.image_id}
    for other, reply in list(rows.values()):
        if other.startswith(WRITTEN) and about & {reply.id, reply.about_id}:
            _branch(rows, reply.id, branch, run)


def _plain(name: str, value: Any, run: Run) -> str:
    if name in ("picture", "pictures"):
        names = [value] if isinstance(value, str) else value
        return ", ".join(str(run.store.picture(each)) for each in names)
    return str(dataclasses.asdict(value)) if dataclasses.is_dataclass(value) and not isinstance(value, type) else str(value)
