"""Training curves, and one sentence on how to read them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup

from sightline.report.charts import Line, curves
from sightline.report.evidence import Evidence
from sightline.report.wording import number


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
    reading: str


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
    ("Gradient norm", "spikes are steps to look at", (("grad_norm", "gradient norm", "ink"),), None),
)


def training(evidence: Evidence) -> Training | None:
    log = [line for line in evidence.log if "step" in line]
    panels = [panel for title, meaning, fields, level in PANELS if (panel := _panel(log, title, meaning, fields, level))]
    if not panels:
        return None
    return Training(panels, int(max(line["step"] for line in log)), reading(log))


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


def reading(log: list[dict[str, float]]) -> str:
    """What the last rewards mean: a falling chosen reward alarms people who have not met it before."""
    last = [
        (line["chosen_reward"], line["rejected_reward"]) for line in log if {"chosen_reward", "rejected_reward"} <= line.keys()
    ]
    if not last:
        return ""
    tail = last[-max(1, len(last) // 10) :]
    chosen, rejected = (sum(values) / len(tail) for values in zip(*tail, strict=True))
    ended = f"Over the last steps the chosen reward was {number(chosen)} and the rejected one {number(rejected)}"
    if rejected >= chosen:
        return f"{ended}: the rejected answers did not fall behind, so this training has not learned the preference."
    if chosen >= 0:
        return f"{ended}: chosen answers became likelier than at the start, and rejected ones fell behind."
    return (
        f"{ended}. A falling chosen reward is usual with DPO, which only widens the gap between the two; worry when coverage or "
        "length fall with it, and then train less or raise the NLL weight."
    )
