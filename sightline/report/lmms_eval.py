"""What lmms-eval made of its tasks, in its own words and numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """A metric of a task, as it is shown."""

    task: str
    metric: str
    base: str
    aligned: str
    n: int | None


@dataclass(frozen=True)
class LmmsEval:
    """All rows, with the version that made them, and why answers were not scored by our benchmarks as well."""

    version: str
    rows: list[Row]
    notes: list[str]


def lmms_eval(results: dict[str, Any]) -> LmmsEval | None:
    """None where none of its tasks has run."""
    found = results.get("lmms_eval")
    if not found:
        return None
    rows = [
        Row(task["task"], metric["metric"], number(metric.get("base")), number(metric.get("aligned")), task["n"])
        for task in found["tasks"]
        for metric in task["metrics"]
    ]
    notes = [f"{task} was not recomputed: {reason}" for task, reason in found["not_recomputed"].items()]
    return LmmsEval(found["packages"]["lmms-eval"], rows, notes)


def number(told: dict[str, Any] | None) -> str:
    """A value, with lmms-eval's standard error where that is the metric's own."""
    if told is None:
        return "–"
    error = told.get("stderr_clt", told.get("stderr"))
    return f"{told['value']:.4g}" + (f" ± {error:.2g}" if error is not None and "stderr_is_of" not in told else "")
