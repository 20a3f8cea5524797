"""Small charts as inline SVG. Colours and fonts come from the page's style sheet, so they follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from sightline.report.wording import number

WIDTH, HEIGHT = 320, 190
LEFT, RIGHT, TOP, BOTTOM = 40, 10, 14, 26
MAX_POINTS = 300

STRIP_WIDTH, STRIP_HEIGHT = 240, 50


@dataclass(frozen=True)
class Line:
    """A curve: its name, the style class that colours it, and its points."""

    name: str
    tone: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Span:
    """A value and its interval."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Axis:
    """Maps values onto pixels."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return round(self.start + share * (self.end - self.start), 2)


def curves(title: str, lines: Sequence[Line], level: float | None = None) -> Markup:
    """A line chart over training steps; `level` draws a dashed line where nothing has been learned."""
    values = [value for line in lines for _, value in line.points] + ([level] if level is not None else [])
    steps = [step for line in lines for step, _ in line.points]
    ticks = nice_ticks(min(values), max(values))
    across = Axis(min(steps), max(steps), LEFT, WIDTH - RIGHT)
    down = Axis(min(ticks[0], min(values)), max(ticks[-1], max(values)), HEIGHT - BOTTOM, TOP)
    digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    parts = [_grid_line(down.at(tick), number(tick, digits)) for tick in ticks]
    parts += [_step_label(across, step, anchor) for step, anchor in ((across.low, "start"), (across.high, "end"))]
    if level is not None:
        parts.append(f'<line class="level" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down.at(level)}" y2="{down.at(level)}"/>')
    parts += [_path(line, across, down) for line in lines]
    ends = "; ".join(f"{line.name} from {number(line.points[0][1])} to {number(line.points[-1][1])}" for line in lines)
    return _svg("curves", WIDTH, HEIGHT, f"{title} over training: {ends}", parts)


def _svg(style: str, width: int, height: int, label: str, parts: Sequence[str]) -> Markup:
    opening = f'<svg class="{style}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
    return Markup("".join([opening, *parts, "</svg>"]))


def _grid_line(y: float, label: str) -> str:
    line = f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
    return f'{line}<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{label}</text>'


def _step_label(across: Axis, step: float, anchor: str) -> str:
    label = f"step {step:g}" if anchor == "start" else f"{step:g}"
    return f'<text x="{across.at(step)}" y="{HEIGHT - 7}" text-anchor="{anchor}">{label}</text>'


def _path(line: Line, across: Axis, down: Axis) -> str:
    points = " ".join(f"{across.at(step)},{down.at(value)}" for step, value in thinned(line.points))
    step, value = line.points[-1]
    end = f'<circle cx="{across.at(step)}" cy="{down.at(value)}" r="3.2"/>'
    return f'<g class="line {line.tone}"><polyline points="{points}"/>{end}</g>'


def thinned(points: Sequence[tuple[float, float]], most: int = MAX_POINTS) -> list[tuple[float, float]]:
    """At most this many points: the means of neighbours, the last one kept as it is."""
    if len(points) <= most:
        return list(points)
    size = math.ceil(len(points) / (most - 1))
    groups = [points[at : at + size] for at in range(0, len(points), size)]
    means = [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]
    return [*means, points[-1]] if len(means) < most else [*means[:-1], points[-1]]


def nice_ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers, evenly spaced, from at or below `low` to at or above `high`."""
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    raw = (high - low) / about
    size = 10 ** math.floor(math.log10(raw))
    gap = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= raw - 1e-12)
    first, last = math.floor(low / gap + 1e-9), math.ceil(high / gap - 1e-9)
    return [round(count * gap, 10) for count in range(first, last + 1)]


def before_and_after(base: Span, aligned: Span, bounds: tuple[float, float] | None = None) -> Markup:
    """Two values with their intervals on one scale: hollow above is the base model, filled below the aligned one."""
    ticks = strip_ticks([base, aligned], bounds)
    axis = Axis(ticks[0], ticks[-1], 14, STRIP_WIDTH - 14)
    parts = [f'<line class="grid" x1="{axis.at(tick)}" x2="{axis.at(tick)}" y1="2" y2="34"/>' for tick in ticks]
    for tick in (ticks[0], ticks[-1]):
        parts.append(f'<text x="{axis.at(tick)}" y="{STRIP_HEIGHT - 3}" text-anchor="middle">{tick:g}</text>')
    parts += [_whisker(base, axis, 11, "base"), _whisker(aligned, axis, 25, "aligned")]
    label = f"base {number(base.value)}, aligned {number(aligned.value)}, on a scale from {ticks[0]:g} to {ticks[-1]:g}"
    return _svg("strip", STRIP_WIDTH, STRIP_HEIGHT, label, parts)


def strip_ticks(spans: Sequence[Span], bounds: tuple[float, float] | None) -> list[float]:
    """Ends and middle of a scale that the intervals fill well. It starts at zero where that costs little room."""
    ends = [end for span in spans for end in (span.value, span.low, span.high) if end is not None]
    low, high = min(ends), max(ends)
    if 0 <= low < 0.4 * high:
        low = 0.0
    ticks = nice_ticks(low, high)
    if bounds:
        ticks = [tick for tick in ticks if bounds[0] <= tick <= bounds[1]] or list(bounds)
    return ticks if len(ticks) > 1 else [ticks[0] - 1, ticks[0] + 1]


def _whisker(span: Span, axis: Axis, y: float, tone: str) -> str:
    ends = (span.value if span.low is None else span.low, span.value if span.high is None else span.high)
    start, end = (axis.at(min(max(value, axis.low), axis.high)) for value in ends)
    reach = f'<line x1="{start}" x2="{end}" y1="{y}" y2="{y}"/>'
    return f'<g class="whisker {tone}">{reach}<circle cx="{axis.at(span.value)}" cy="{y}" r="4"/></g>'
