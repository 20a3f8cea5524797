"""What the runs of a sweep came to: each run's numbers, their means over repeats, and the files that hold both."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from sightline.errors import RunError
from sightline.report.charts import Span
from sightline.report.results import read_span
from sightline.report.wording import ends, number, signed
from sightline.store.runs import Run
from sightline.store.shards import written_whole

FILES = ("sweep.md", "sweep.csv", "sweep.json", "sweep.svg", "sweep.html")


@dataclass(frozen=True)
class Metric:
    """Which number it is."""

    benchmark: str
    name: str
    split: str | None
    unit: str
    better: str | None

    @property
    def title(self) -> str:
        return f"{self.benchmark}: {self.name}"

    @property
    def caption(self) -> str:
        """The title, and in brackets its unit and which side is better, where known."""
        told = ", ".join(word for word in (self.unit, f"{self.better} is better" if self.better else "") if word)
        return f"{self.title} ({told})" if told else self.title

    @property
    def digits(self) -> int | None:
        return 1 if self.unit == "%" else None


@dataclass(frozen=True)
class Measured:
    """A metric of one run: the base model's, the trained one's, and the second less the first, paired; None without a value."""

    metric: Metric
    n: int
    base: Span | None
    aligned: Span | None
    difference: Span | None
    p: float | None


@dataclass(frozen=True)
class Entry:
    """A run of the sweep: its label on each axis, and what it came to."""

    labels: tuple[str, ...]
    folder: str
    num_pairs: int
    num_steps: int
    terms: dict[str, Any]
    """By benchmark, what was asked (its shards' addresses stand for the items) and how it was scored, judge included."""
    measured: list[Measured]

    @classmethod
    def read(cls, labels: tuple[str, ...], folder: Path) -> Entry:
        """From a finished run's folder."""
        manifest = Run.open(folder).manifest
        trained = manifest["checkpoint"]
        steps, outcomes = manifest["steps"], {found["benchmark"]: found for found in manifest["results"]["benchmarks"]}
        terms = {
            name: [steps[f"items/{name}"]["shards"], told.get("terms"), told.get("judge")] for name, told in outcomes.items()
        }
        measured = [_measured(name, line) for name, told in outcomes.items() for line in told["metrics"]]
        return cls(labels, folder.name, trained["num_pairs"], trained["num_steps"], terms, measured)


def _measured(benchmark: str, line: dict[str, Any]) -> Measured:
    metric = Metric(benchmark, line["metric"], line.get("split"), line["unit"], line.get("better"))
    base, aligned, difference = (read_span(line.get(which)) for which in ("base", "aligned", "difference"))
    return Measured(metric, line["n"], base, aligned, difference, (line.get("difference") or {}).get("p"))


@dataclass(frozen=True)
class Mean:
    """A metric over the repeats of a point. Where it has a value in some of them only, `num_values` of `num_runs` count.

    `spread` and `difference_spread` are standard deviations over the repeats (n - 1; None for one), `within` and
    `difference_within` the mean ends of the runs' own 95 % intervals: what the items leave open, in each run alone.
    """

    labels: tuple[str, ...]
    metric: Metric
    num_runs: int
    num_values: int
    num_pairs: float
    base: float | None
    value: float | None
    spread: float | None
    within: tuple[float, float] | None
    difference: float | None
    difference_spread: float | None
    difference_within: tuple[float, float] | None
    num_apart: int
    """Runs whose own interval of the difference leaves 0 out."""


@dataclass(frozen=True)
class Sweeps:
    """A sweep's runs that are there, of `planned`. `axes` holds each axis's labels; those in `repeated` are repeats."""

    name: str
    axes: dict[str, list[str]]
    repeated: set[str]
    entries: list[Entry]
    planned: int

    def __post_init__(self) -> None:
        """RunError where two runs were not measured alike: their numbers do not belong into one table."""
        known: dict[str, tuple[str, Any]] = {}
        for entry in self.entries:
            for benchmark, terms in entry.terms.items():
                folder, first = known.setdefault(benchmark, (entry.folder, terms))
                if terms != first:
                    fix = "vary nothing that changes what is asked or how it is scored, such as eval.limit"
                    raise RunError(f"{folder} and {entry.folder}", f"{benchmark} was not measured alike in them", fix)

    @property
    def compared(self) -> list[str]:
        """Axes whose points are compared."""
        return [name for name in self.axes if name not in self.repeated]

    @cached_property
    def means(self) -> list[Mean]:
        """Metric by metric, each point's mean over its repeats, in the order of the axes."""
        groups: dict[tuple[Metric, tuple[str, ...]], list[tuple[Entry, Measured]]] = {}
        for entry in self.entries:
            for measured in entry.measured:
                groups.setdefault((measured.metric, self.point(entry)), []).append((entry, measured))
        metrics = list(dict.fromkeys(metric for metric, _ in groups))
        ordered = sorted(groups, key=lambda key: metrics.index(key[0]))  # points keep the order of the runs
        return [_mean(labels, metric, groups[metric, labels]) for metric, labels in ordered]

    def point(self, entry: Entry) -> tuple[str, ...]:
        """The run's labels but for those that tell repeats apart."""
        return tuple(label for name, label in zip(self.axes, entry.labels, strict=True) if name not in self.repeated)

    def write(self, folder: Path) -> None:
        """The tables as Markdown, CSV and JSON, the plot as SVG, and all on a page."""
        from sightline.report.sweep_plot import plot

        drawn = plot(self)
        rows = list(self.rows())
        texts = (markdown(self), _csv(rows), json.dumps(self.to_json(rows), indent=1), drawn, _page(self, drawn))
        for name, text in zip(FILES, texts, strict=True):
            with written_whole(folder / name) as aside:
                aside.write_text(text, encoding="utf-8")

    def rows(self) -> Iterator[dict[str, Any]]:
        """A row for each run and metric, splits included."""
        for entry in self.entries:
            about = {**dict(zip(self.axes, entry.labels, strict=True)), "run": entry.folder}
            for measured in entry.measured:
                numbers = {"n": measured.n, **_columns("base", measured.base), **_columns("aligned", measured.aligned)}
                change = {**_columns("difference", measured.difference), "p": measured.p}
                yield {**about, **asdict(measured.metric), **numbers, **change, **_size(entry)}

    def to_json(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Plain values: axes, means, and the single runs."""
        means = [{**asdict(mean), "labels": dict(zip(self.compared, mean.labels, strict=True))} for mean in self.means]
        about = {"name": self.name, "axes": self.axes, "repeated": sorted(self.repeated), "planned": self.planned}
        return {**about, "means": means, "runs": list(rows)}


def _size(entry: Entry) -> dict[str, int]:
    return {"num_pairs": entry.num_pairs, "num_steps": entry.num_steps}


def _columns(name: str, span: Span | None) -> dict[str, float | None]:
    low, high = (span.low, span.high) if span else (None, None)
    return {name: span.value if span else None, f"{name}_low": low, f"{name}_high": high}


def _mean(labels: tuple[str, ...], metric: Metric, found: Sequence[tuple[Entry, Measured]]) -> Mean:
    values = [one.aligned for _, one in found if one.aligned]
    changes = [one.difference for _, one in found if one.difference]
    return Mean(
        labels=labels,
        metric=metric,
        num_runs=len(found),
        num_values=len(values),
        num_pairs=fmean(entry.num_pairs for entry, _ in found),
        base=_center([one.base for _, one in found if one.base]),
        value=_center(values),
        spread=_spread(values),
        within=_within(values),
        difference=_center(changes),
        difference_spread=_spread(changes),
        difference_within=_within(changes),
        num_apart=sum(not low <= 0 <= high for low, high in _intervals(changes)),
    )


def _center(spans: Sequence[Span]) -> float | None:
    return fmean(span.value for span in spans) if spans else None


def _spread(spans: Sequence[Span]) -> float | None:
    return stdev(span.value for span in spans) if len(spans) > 1 else None


def _within(spans: Sequence[Span]) -> tuple[float, float] | None:
    ends = _intervals(spans)
    return (fmean(low for low, _ in ends), fmean(high for _, high in ends)) if ends else None


def _intervals(spans: Sequence[Span]) -> list[tuple[float, float]]:
    return [(span.low, span.high) for span in spans if span.low is not None and span.high is not None]


HEADINGS = ("pairs", "runs", "base", "mean", "spread", "95 % in a run", "less base", "spread", "95 % in a run", "apart")
NOTE = (
    "mean: over the runs of a point. spread: standard deviation over them. 95 % in a run: the mean ends of the runs' own "
    "intervals, which say what the items leave open. less base: the trained model less the base model on the same items. apart: "
    "runs whose own interval of that difference leaves 0 out."
)


def cells(mean: Mean) -> list[str]:
    """A line of the table, after the point's labels."""
    digits = mean.metric.digits
    runs = str(mean.num_runs) if mean.num_values == mean.num_runs else f"{mean.num_values} of {mean.num_runs}"
    return [
        f"{mean.num_pairs:.4g}" if mean.num_pairs < 1000 else f"{mean.num_pairs:.0f}",
        runs,
        number(mean.base, digits),
        number(mean.value, digits),
        number(mean.spread, digits),
        ends(mean.within, digits),
        signed(mean.difference, digits),
        number(mean.difference_spread, digits),
        ends(mean.difference_within, digits, plus=True),
        f"{mean.num_apart} of {mean.num_runs}",
    ]


def tables(sweeps: Sweeps) -> Iterator[tuple[str, list[list[str]]]]:
    """A caption and the lines of each metric that is no split."""
    for metric in dict.fromkeys(mean.metric for mean in sweeps.means if not mean.metric.split):
        yield metric.caption, [[*mean.labels, *cells(mean)] for mean in sweeps.means if mean.metric == metric]


def progress(sweeps: Sweeps) -> str:
    """'12 runs', or how many of them are there."""
    there = len(sweeps.entries)
    return f"{there} runs" if there == sweeps.planned else f"{there} of {sweeps.planned} runs so far"


def markdown(sweeps: Sweeps) -> str:
    """All metrics but the splits, a table each."""
    parts = [f"# {sweeps.name}", f"{progress(sweeps)}. {NOTE}", "![The same as a plot](sweep.svg)"]
    for caption, lines in tables(sweeps):
        rows = [[*sweeps.compared, *HEADINGS], ["---"] * (len(sweeps.compared) + len(HEADINGS)), *lines]
        parts += [f"## {caption}", "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)]
    return "\n\n".join(parts) + "\n"


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    import io

    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _page(sweeps: Sweeps, drawn: str) -> str:
    from markupsafe import Markup

    from sightline.report.build import TEMPLATES, template

    style = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    return template("sweep.html.j2").render(
        name=sweeps.name,
        progress=progress(sweeps),
        note=NOTE,
        headings=[*sweeps.compared, *HEADINGS],
        tables=list(tables(sweeps)),
        runs=[(entry.folder, entry.labels) for entry in sweeps.entries],
        style=style,
        plot=Markup(drawn),
    )
