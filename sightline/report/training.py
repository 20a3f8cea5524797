"""Training curves, and what to know when reading them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup

from sightline.report.charts import Line, curves
from sightline.report.evidence import Evidence
from sightline.report.readings import readings


@dataclass(frozen=True)
class Panel:
    """One chart: its title, what it means, its lines' names with their colours."""

    title: str
    meaning: str
    chart: Markup
    legend: list[tuple[str, str]]


@dataclass(frozen=True)
class Training:
    """All charts of a training run."""

    panels: list[Panel]
    num_steps: int
    readings: list[str]


PANELS = (
    ("Loss", "falls when chosen and rejected move apart", (("loss", "loss", "ink"),), None),
    ("Margin", "how far chosen leads rejected; 0 at the start", (("margin", "margin", "ink"),), 0.0),
    ("Accuracy", "share of pairs in the right order", (("accuracy", "accuracy", "ink"),), 0.5),
    (
        "Picture margin",
        "how far the chosen answer with its own picture leads it with a spoilt one; 0 at the start",
        (("picture_margin", "picture", "ink"), ("margin/chosen/picture", "picture", "ink")),
        0.0,
    ),
    (
        "Rewards",
        "log-probability gained or lost since the start, times beta",
        (("chosen_reward", "chosen", "good"), ("rejected_reward", "rejected", "bad")),
        0.0,
    ),
    ("NLL", "per word of the chosen answers; should not rise for long", (("nll", "nll", "ink"),), None),
    ("KL estimate", "how far the model has moved on the stored answers, in nats a token", (("kl", "KL", "ink"),), 0.0),
    ("Gradient norm", "spikes are steps to look at", (("grad_norm", "gradient norm", "ink"),), None),
    (
        "Answer length",
        "tokens, a mean over the pairs of each step",
        (("chosen_tokens", "chosen", "good"), ("rejected_tokens", "rejected", "bad")),
        None,
    ),
    ("Speed", "pairs a second, saving included", (("pairs_per_second", "pairs a second", "ink"),), None),
)


def training(evidence: Evidence) -> Training | None:
    log = [line for line in evidence.log if "step" in line]
    panels = [panel for title, meaning, fields, level in PANELS if (panel := _panel(log, title, meaning, fields, level))]
    if not panels:
        return None
    return Training(panels, int(max(line["step"] for line in log)), readings(log))


def _panel(
    log: list[dict[str, float]], title: str, meaning: str, fields: tuple[tuple[str, str, str], ...], level: float | None
) -> Panel | None:
    lines = [Line(name, tone, _points(log, field)) for field, name, tone in fields]
    lines = [line for line in lines if len(line.points) > 1]
    if not lines or all(value == 0 for line in lines for _, value in line.points):
        return None
    if title == "Loss" and not any("margin" in line for line in log):
        meaning = "per word of the answers that are learned; falls as they become likelier"
    elif title == "Loss" and abs(lines[0].points[0][1] - math.log(2)) < 0.002:
        level, meaning = math.log(2), "starts at log 2 = 0.69, where chosen and rejected are alike"
    legend = [(line.name, line.tone) for line in lines] if len(lines) > 1 else []
    return Panel(title, meaning, curves(title, lines, level), legend)


def _points(log: list[dict[str, float]], field: str) -> list[tuple[float, float]]:
    return [(line["step"], line[field]) for line in log if field in line]
