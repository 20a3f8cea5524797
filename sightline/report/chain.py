"""How rows went from step to step: counts, what was dropped and why, and the time it took."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sightline.report.evidence import FAMILIES, Evidence, family_of, member_of

ON_THE_STRIP = ("prompts", "pictures", "images", "ranking", "instructions", "responses", "annotations", "pairs")


@dataclass(frozen=True)
class Link:
    """A step of the chain; the members of a family (each model's responses) are one link."""

    name: str
    rows: int
    dropped: int
    members: list[tuple[str, int]]


@dataclass(frozen=True)
class Drop:
    """Rows that a step refused for one reason."""

    step: str
    reason: str
    count: int
    example: str


@dataclass(frozen=True)
class Timing:
    """Seconds that a step's rows took; `length` is its bar, in percent of the longest."""

    step: str
    seconds: float
    rows: int
    length: float
    note: str


def links(evidence: Evidence) -> list[Link]:
    found = [_link(evidence, family) for family in ON_THE_STRIP if evidence.steps_of(family)]
    return [link for link in found if link.rows or link.dropped]


def _link(evidence: Evidence, family: str) -> Link:
    steps = evidence.manifest["steps"]
    names = evidence.steps_of(family)
    members = [(member_of(name), int(steps[name].get("rows", 0))) for name in names]
    dropped = sum(count for name in names for count in (steps[name].get("dropped") or {}).values())
    return Link(family, sum(rows for _, rows in members), dropped, members if len(members) > 1 else [])


def drops(evidence: Evidence) -> list[Drop]:
    """Every reason of every step, the commonest of each step first."""
    return [drop for name in evidence.steps for drop in _drops_of(evidence, name)]


def _drops_of(evidence: Evidence, step: str) -> Iterator[Drop]:
    counts = evidence.manifest["steps"][step].get("dropped") or {}
    details: dict[str, str] = {}
    for row in evidence.dropped(step) if counts else ():
        if row.detail:
            details.setdefault(row.reason, row.detail)
    for reason, count in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])):
        yield Drop(step, reason, count, details.get(reason, ""))


def timings(evidence: Evidence) -> list[Timing]:
    """Seconds of every step that took any, in the run's order, training at its place."""
    steps = evidence.manifest.get("steps", {})
    spent = [(name, _seconds(entry), int(entry.get("rows", 0)), _reused(entry)) for name, entry in steps.items()]
    for name, stage in (("training/sft", evidence.checkpoint.get("sft") or {}), ("training", evidence.checkpoint)):
        if stage.get("seconds"):
            spent.append((name, float(stage["seconds"]), 0, ""))
    trained = FAMILIES.index("items")
    order = [*FAMILIES[:trained], "training", *FAMILIES[trained:]]
    spent.sort(key=lambda entry: (order.index(family_of(entry[0])) if family_of(entry[0]) in order else len(order), entry[0]))
    longest = max((seconds for _, seconds, _, _ in spent), default=0.0)
    shown = [entry for entry in spent if entry[1] > 0]
    return [Timing(name, seconds, rows, round(100 * seconds / longest, 1), note) for name, seconds, rows, note in shown]


def _seconds(entry: dict[str, Any]) -> float:
    """By the clock where that was noted; else the sum over the shards, which workers share."""
    return float(entry.get("wall_seconds") or entry.get("seconds") or 0)


def _reused(entry: dict[str, Any]) -> str:
    reused, shards = int(entry.get("reused") or 0), len(entry.get("shards") or ())
    if not reused:
        return ""
    return "stored before" if reused == shards else f"{reused} of {shards} shards stored before"
