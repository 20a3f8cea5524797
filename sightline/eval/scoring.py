"""Numbers of someone else's answers: no model, no pictures, no run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sightline.errors import DataError, RecipeError
from sightline.eval import BENCHMARKS, Benchmark, Results, find_data
from sightline.eval.results import Sheet, measure, outcome
from sightline.plugin import recipe_error, suggest
from sightline.rows import Answer, Item
from sightline.store.address import digest, seed_from

WHO = "answers"


def score(benchmark: Benchmark, answers: Path, draws: int = 2000, seed: int = 0) -> Results:
    """A benchmark's numbers for the answers of a file, with intervals, in the shape of an evaluation's."""
    place = find_data(benchmark.data)
    questions = benchmark.questions(place)
    if not questions:
        raise DataError(str(place), f"{benchmark.title} asks nothing here", "give data with questions")
    items = [question.item([]) for question in questions]
    said = [answered(item, text) for item, text in zip(items, benchmark.read_answers(answers, questions), strict=True)]
    sheets = {WHO: Sheet(said, benchmark.scores(place, items, said))}
    lines = measure(benchmark.metrics(), sheets, draws, seed_from(seed, benchmark.title))
    told = outcome(benchmark.title, benchmark.kind, benchmark.rule, lines, items, sheets)
    return Results([replace(told, terms=benchmark.terms(place))], [], seed, draws)


def read_benchmark(kind: str, values: dict[str, Any]) -> Benchmark:
    """The benchmark of this kind with these values; RecipeError where there is none or a value is wrong."""
    if kind not in BENCHMARKS:
        raise RecipeError(kind, "no such benchmark", suggest(kind, list(BENCHMARKS)))
    try:
        found: Benchmark = BENCHMARKS.find(kind).model_validate({"kind": kind, **values})
    except ValidationError as error:
        raise recipe_error(error, (kind,)) from None
    return found


def about(kind: str) -> Sequence[str]:
    """What a benchmark is, where its files are to be had, and its settings, line by line."""
    benchmark: type[Benchmark] = BENCHMARKS.find(kind)
    described = (benchmark.__doc__ or "").strip().splitlines()
    settings = [
        f"  {name}: {' '.join((field.description or '').split())}"
        for name, field in benchmark.model_fields.items()
        if name != "kind"
    ]
    return [
        f"{kind}: {described[0]}",
        *(line.strip() for line in described[1:]),
        "",
        benchmark.origin,
        "",
        "Settings:",
        *settings,
    ]


def answered(item: Item, text: str) -> Answer:
    """The text as a row, from wherever it comes."""
    return Answer(
        id=digest(item.id, text),
        key=item.key,
        item_id=item.id,
        group=item.group,
        question=item.question,
        text=text,
        finish="",
        num_tokens=None,
    )
