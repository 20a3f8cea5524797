"""What an evaluation came to: per benchmark and metric each model's number and the difference, and examples to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from sightline.eval.compare import Comparison, Counts, Difference, Metric, Number, Score
from sightline.rows import Answer, Item, Scored
from sightline.store.address import digest

NUM_EXAMPLES = 12
UNUSABLE = ("unreadable", "unjudged")
"""Columns that count a judge's replies which could not be read, or not be had."""


@dataclass(frozen=True)
class Line:
    """One metric: a number for each model, and the second's less the first's where there are two."""

    metric: str
    split: str | None
    better: str | None
    unit: str
    n: int
    numbers: dict[str, Number]
    difference: Difference | None

    def to_json(self) -> dict[str, Any]:
        name = f"{self.metric} ({self.split})" if self.split else self.metric
        line: dict[str, Any] = {"metric": name, "split": self.split, "better": self.better, "unit": self.unit, "n": self.n}
        line.update({who: plain(number) for who, number in self.numbers.items()})
        return line if self.difference is None else {**line, "difference": plain(self.difference)}


@dataclass(frozen=True)
class Outcome:
    """A benchmark's lines, and what a reader has to know of its answers; the counts are by model.

    `suffix` was added to each question for the aligned model. `judge` says who rated the answers and how it was asked, where one
    did and is known; `unreadable` and `unjudged` count its replies that could not be read, or not be had. `terms` are what else
    decides the scores.
    """

    benchmark: str
    kind: str
    rule: str
    n: int
    pictures: int
    lines: list[Line]
    guesses: dict[str, int]
    cut: dict[str, int]
    empty: dict[str, int]
    unreadable: dict[str, int]
    unjudged: dict[str, int]
    suffix: str = ""
    terms: dict[str, Any] = field(default_factory=dict)
    judge: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        about = {key: value for key, value in asdict(self).items() if key != "lines"}
        return {**about, "metrics": [line.to_json() for line in self.lines]}


@dataclass(frozen=True)
class Results:
    """All benchmarks of an evaluation; `seed` made the draws, `draws` many for each interval."""

    benchmarks: list[Outcome]
    examples: list[dict[str, Any]]
    seed: int
    draws: int

    def to_json(self) -> dict[str, Any]:
        """Plain values for results.json."""
        benchmarks = [outcome.to_json() for outcome in self.benchmarks]
        return {"benchmarks": benchmarks, "examples": self.examples, "seed": self.seed, "draws": self.draws}


def plain(entry: Number | Difference) -> dict[str, Any]:
    """What is known of it, to six digits."""
    known = {key: value for key, value in asdict(entry).items() if value is not None or key == "value"}
    return {key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in known.items()}


@dataclass(frozen=True)
class Sheet:
    """One model's answers to a benchmark, and their scores, both in the order of the items."""

    answers: list[Answer]
    scores: list[Score]

    def rows(self) -> list[Scored]:
        """The scores as they are stored."""
        return [
            Scored(
                id=digest(answer.id, "score"),
                key=answer.key,
                item_id=score.item_id,
                group=score.group,
                counts={column: float(count) for column, count in score.counts.items()},
                guessed=score.guessed,
            )
            for answer, score in zip(self.answers, self.scores, strict=True)
        ]


def measure(metrics: Sequence[Metric], sheets: Mapping[str, Sheet], draws: int, seed: int) -> list[Line]:
    """A line for each metric that the benchmark's items allow."""
    comparison = Comparison({who: Counts.of(sheet.scores) for who, sheet in sheets.items()}, draws, seed)
    lines = []
    for metric in metrics:
        numbers = {who: comparison.number(metric, who) for who in sheets}
        n = min(number.n for number in numbers.values())
        if n:
            change = comparison.difference(metric) if len(sheets) == 2 else None
            lines.append(Line(metric.name, metric.split, metric.better, metric.unit, n, numbers, change))
    return lines


def outcome(name: str, kind: str, rule: str, lines: list[Line], items: list[Item], sheets: Mapping[str, Sheet]) -> Outcome:
    """The lines with what a reader has to know of the answers."""
    return Outcome(
        benchmark=name,
        kind=kind,
        rule=rule,
        n=len(items),
        pictures=len({item.group for item in items}),
        lines=lines,
        guesses={who: sum(score.guessed for score in sheet.scores) for who, sheet in sheets.items()},
        cut={who: sum(answer.finish == "length" for answer in sheet.answers) for who, sheet in sheets.items()},
        empty={who: sum(not answer.text.strip() for answer in sheet.answers) for who, sheet in sheets.items()},
        unreadable={who: _sum(sheet, "unreadable") for who, sheet in sheets.items()},
        unjudged={who: _sum(sheet, "unjudged") for who, sheet in sheets.items()},
    )


def _sum(sheet: Sheet, column: str) -> int:
    return round(sum(score.counts.get(column, 0) for score in sheet.scores))


def examples(benchmark: str, items: Sequence[Item], sheets: Mapping[str, Sheet], number: int, seed: int) -> list[dict[str, Any]]:
    """Pictures with what each model says of them: half, where so many are, of those where the models differ."""
    shown = [
        place
        for place, item in enumerate(items)
        if item.pictures and all(sheet.scores[place].truth is not None for sheet in sheets.values())
    ]
    texts = [{sheet.answers[place].text for sheet in sheets.values()} for place in range(len(items))]
    changed = _shuffled([place for place in shown if len(texts[place]) > 1], seed)
    same = _shuffled([place for place in shown if len(texts[place]) == 1], seed)
    num_changed = max(min(len(changed), number // 2), number - len(same))
    chosen = _shuffled([*changed[:num_changed], *same[: number - num_changed]], seed)
    return [_example(benchmark, items[place], {who: (sheet, place) for who, sheet in sheets.items()}) for place in chosen]


def _shuffled(places: list[int], seed: int) -> list[int]:
    return [places[at] for at in np.random.default_rng([seed, 2]).permutation(len(places))]


def _example(benchmark: str, item: Item, said: Mapping[str, tuple[Sheet, int]]) -> dict[str, Any]:
    example: dict[str, Any] = {"benchmark": benchmark, "picture": item.pictures[0], "name": item.group, "question": item.question}
    for who, (sheet, place) in said.items():
        score = sheet.scores[place]
        example |= {who: sheet.answers[place].text, f"hallucinated_{who}": list(score.hallucinated)}
        example["truth"] = list(score.truth or ())
    return example
