"""What served models took, and how far a judge's verdicts hang on the order in which it saw the answers."""

from __future__ import annotations

from collections.abc import Iterator

from sightline.report.evidence import Evidence


def served(evidence: Evidence) -> list[tuple[str, str]]:
    """Facts for the page; none where no step asked a server or a judge twice."""
    return [*_usage(evidence), *_flips(evidence)]


def _usage(evidence: Evidence) -> Iterator[tuple[str, str]]:
    for name in evidence.steps:
        usage = evidence.manifest["steps"][name].get("usage") or {}
        if usage:
            counted = {"calls": "calls", "input_tokens": "tokens read", "output_tokens": "tokens written"}
            parts = [f"{_counted(usage.get(what))} {said}" for what, said in counted.items()]
            cost = usage.get("cost")
            yield f"{name}, served", ", ".join([*parts, "cost unknown" if cost is None else f"cost {cost:.4g}"])


def _counted(number: float | None) -> str:
    return "unknown" if number is None else f"{number:,.0f}"


def _flips(evidence: Evidence) -> Iterator[tuple[str, str]]:
    for name in evidence.steps_of("annotations"):
        twice = [row.aspects for row in evidence.rows_of(name) if "compared" in row.aspects]
        # each pair of answers is counted at both of them
        compared = sum(aspects["compared"] for aspects in twice) / 2
        flips = sum(aspects["flips"] for aspects in twice) / 2
        if compared:
            share = f"{flips:,.0f} of {compared:,.0f} pairs of answers ({flips / compared:.1%})"
            yield f"{name}, order", f"{share} change their better one when shown in reversed order"
