"""A sweep as one standing-alone SVG: a panel for each metric that has a better side."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import escape

from sightline.report.charts import Axis, Span, nice_ticks
from sightline.report.sweeps import Entry, Mean, Metric, Sweeps
from sightline.report.wording import number

WIDTH, HEIGHT = 330, 230
LEFT, RIGHT, TOP = 46, 12, 30
LEGEND = 26
ACROSS = 3
COLOURS = ("#0a6a5a", "#ae3517", "#3b5ba9", "#9a6b00", "#7a3b8f", "#4d5a55")
SIZE = "train.num_pairs"
"""The axis on which `null` stands for a number: that of all pairs."""
FLAT = 44
"""Pixels below a panel whose labels are not aslant."""
SIDEWAYS = 9
"""Longer labels are written aslant."""
STYLE = (
    "text{font:11px system-ui,sans-serif;fill:#56625d}.title{font-size:13px;font-weight:600;fill:#16201d}"
    ".grid{stroke:#dde3df}.base{stroke:#5d6964;stroke-dasharray:4 3}.run line{stroke-width:1.2;opacity:.55}"
    ".run circle{opacity:.75}.mean{fill:none;stroke-width:2}"
)


@dataclass(frozen=True)
class Dot:
    """A run's number: its place on the first axis, and which of the repeats it is."""

    x: float
    repeat: int
    span: Span


@dataclass(frozen=True)
class Series:
    """The runs that are alike on all axes but the first, and their means (x, value)."""

    name: str
    colour: str
    dots: list[Dot]
    means: list[tuple[float, float]]


@dataclass(frozen=True)
class Scale:
    """The first axis: a place for each label; numbers lie as far apart as they are (as their logarithms from a factor of ten)."""

    places: dict[str, float]
    is_numeric: bool

    @classmethod
    def of(cls, sweeps: Sweeps) -> Scale:
        """Pairs by how many were really trained on, so that `null` has a place."""
        labels = list(dict.fromkeys(sweeps.point(entry)[0] for entry in sweeps.entries))
        trained = {sweeps.point(entry)[0]: str(entry.num_pairs) for entry in sweeps.entries}
        told = trained if sweeps.compared[0] == SIZE else {label: label for label in labels}
        values = [_number(told[label]) for label in labels]
        known = [value for value in values if value is not None]
        if len(known) < len(values) or len(set(known)) < max(2, len(known)):
            return cls({label: float(at) for at, label in enumerate(labels)}, False)
        is_wide = min(known) > 0 and max(known) >= 10 * min(known)
        return cls(dict(zip(labels, map(math.log10, known) if is_wide else known, strict=True)), True)

    def axis(self) -> Axis:
        low, high = min(self.places.values()), max(self.places.values())
        room = 0.08 * (high - low) if self.is_numeric else 0.5
        return Axis(low - room, high + room, LEFT, WIDTH - RIGHT)

    @property
    def bottom(self) -> int:
        """Room for the labels below a panel."""
        longest = max(map(len, self.places))
        return FLAT if self.is_numeric or longest <= SIDEWAYS else FLAT + round(3.2 * longest)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def plot(sweeps: Sweeps) -> str:
    """The SVG's text; a line of text where there is nothing to draw."""
    metrics = list(dict.fromkeys(mean.metric for mean in sweeps.means if mean.metric.better and not mean.metric.split))
    if not metrics or not sweeps.compared:
        return _svg(
            WIDTH, 40, ['<text x="10" y="24">Nothing to draw: no axis is compared, or no metric has a better side.</text>']
        )
    scale = Scale.of(sweeps)
    height = HEIGHT + scale.bottom
    names = list(dict.fromkeys(", ".join(sweeps.point(entry)[1:]) for entry in sweeps.entries))
    parts = list(_legend(names))
    for at, metric in enumerate(metrics):
        panel = "".join(_panel(sweeps, metric, scale, names))
        parts.append(f'<g transform="translate({at % ACROSS * WIDTH},{LEGEND + at // ACROSS * height})">{panel}</g>')
    return _svg(WIDTH * min(ACROSS, len(metrics)), LEGEND + height * math.ceil(len(metrics) / ACROSS), parts)


def _svg(width: int, height: int, parts: Sequence[str]) -> str:
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
    )
    return f'{opening}<style>{STYLE}</style><rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'


def _legend(names: Sequence[str]) -> Iterator[str]:
    told = "dots: runs with their 95 % intervals; line: mean over repeats; dashed: base model"
    yield f'<text x="{LEFT}" y="17">{told}</text>'
    start = LEFT + 6 * len(told) + 20
    for name, colour in zip(names, _colours(names), strict=True):
        if name:
            yield f'<circle cx="{start}" cy="13" r="4" fill="{colour}"/><text x="{start + 8}" y="17">{escape(name)}</text>'
            start += 7 * len(name) + 30


def _colours(names: Sequence[str]) -> list[str]:
    return [COLOURS[at % len(COLOURS)] for at in range(len(names))]


def _panel(sweeps: Sweeps, metric: Metric, scale: Scale, names: Sequence[str]) -> Iterator[str]:
    """Title, grid, the base model's line, and the series."""
    series = [_series(sweeps, metric, scale, name, colour) for name, colour in zip(names, _colours(names), strict=True)]
    means = [mean for mean in sweeps.means if mean.metric == metric]
    bases = [mean.base for mean in means if mean.base is not None]
    across, down = scale.axis(), _down([dot.span for one in series for dot in one.dots], bases)
    told = escape(f"{metric.title}, {metric.unit} ({metric.better} is better)")
    yield f'<text class="title" x="{LEFT}" y="18">{told}</text>'
    for tick in nice_ticks(down.low, down.high):
        if down.low <= tick <= down.high:
            y = down.at(tick)
            yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
            yield f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{tick:g}</text>'
    for base in sorted(set(bases)):
        yield f'<line class="base" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down.at(base)}" y2="{down.at(base)}"/>'
    yield from _labels(sweeps, scale, across)
    for place, one in enumerate(series):
        yield from _drawn(one, across, down, scale.is_numeric, place - (len(series) - 1) / 2)


def _series(sweeps: Sweeps, metric: Metric, scale: Scale, name: str, colour: str) -> Series:
    of: list[Entry] = [entry for entry in sweeps.entries if ", ".join(sweeps.point(entry)[1:]) == name]
    dots: list[Dot] = []
    for entry in of:
        x = scale.places[sweeps.point(entry)[0]]
        spans = [one.aligned for one in entry.measured if one.metric == metric and one.aligned]
        dots += [Dot(x, sum(dot.x == x for dot in dots), span) for span in spans]
    means: list[Mean] = [mean for mean in sweeps.means if mean.metric == metric and ", ".join(mean.labels[1:]) == name]
    points = sorted((scale.places[mean.labels[0]], mean.value) for mean in means if mean.value is not None)
    return Series(name, colour, dots, points)


def _down(spans: Sequence[Span], bases: Sequence[float]) -> Axis:
    ends = [end for span in spans for end in (span.value, span.low, span.high) if end is not None]
    ticks = nice_ticks(min([*ends, *bases], default=0), max([*ends, *bases], default=1))
    return Axis(ticks[0], ticks[-1], HEIGHT, TOP)


def _labels(sweeps: Sweeps, scale: Scale, across: Axis) -> Iterator[str]:
    for label, place in scale.places.items():
        x, y = across.at(place), HEIGHT + 16
        if scale.bottom > FLAT:
            yield f'<text x="{x}" y="{y}" text-anchor="end" transform="rotate(-30 {x} {y})">{escape(label)}</text>'
        else:
            shown = "all" if label == "null" and sweeps.compared[0] == SIZE else label
            yield f'<text x="{x}" y="{y}" text-anchor="middle">{escape(shown)}</text>'
    yield f'<text x="{WIDTH - RIGHT}" y="{HEIGHT + scale.bottom - 14}" text-anchor="end">{escape(sweeps.compared[0])}</text>'


def _drawn(series: Series, across: Axis, down: Axis, is_numeric: bool, shift: float) -> Iterator[str]:
    """Runs beside each other with their intervals, and the means: joined where the axis is of numbers."""
    last = max((dot.repeat for dot in series.dots), default=0)
    for dot in series.dots:
        x = round(across.at(dot.x) + 14 * shift + 4 * (dot.repeat - last / 2), 2)
        low, high = (dot.span.value if end is None else end for end in (dot.span.low, dot.span.high))
        circle = f'<circle cx="{x}" cy="{down.at(dot.span.value)}" r="2.4"/>'
        reach = f'<line x1="{x}" x2="{x}" y1="{down.at(low)}" y2="{down.at(high)}"/>'
        told = f"<title>{number(dot.span.value)}</title>"
        yield f'<g class="run" stroke="{series.colour}" fill="{series.colour}">{told}{reach}{circle}</g>'
    places = [(round(across.at(x) + 14 * shift, 2), down.at(value)) for x, value in series.means]
    if is_numeric:
        points = " ".join(f"{x},{y}" for x, y in places)
        yield f'<polyline class="mean" stroke="{series.colour}" points="{points}"/>'
    else:
        yield from (
            f'<line class="mean" stroke="{series.colour}" x1="{x - 9}" x2="{x + 9}" y1="{y}" y2="{y}"/>' for x, y in places
        )
