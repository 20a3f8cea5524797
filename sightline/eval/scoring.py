"""Numbers of someone else's answers: no model, no pictures, no run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sightline.engines.weights import locate_data
from sightline.errors import DataError, RecipeError
from sightline.eval import BENCHMARKS, Benchmark, Results
from sightline.eval.results import Outcome, Sheet, measure, outcome
from sightline.plugin import recipe_error, suggest
from sightline.rows import Answer, Item
from sightline.store.address import digest, seed_from

WHO = "answers"


def score(benchmark: Benchmark, answers: Path, draws: int = 2000, seed: int = 0) -> Results:
    """A benchmark's numbers for the answers of a file, with intervals, in the shape of an evaluation's."""
    items, sheets = read_sheets(benchmark, {WHO: answers})
    return Results([told(benchmark, items, sheets, draws, seed)], [], seed, draws)


def read_sheets(benchmark: Benchmark, answers: Mapping[str, Path]) -> tuple[list[Item], dict[str, Sheet]]:
    """What was asked, and each model's answers of a file, with their scores."""
    place = locate_data(benchmark.data)
    questions = benchmark.questions(place)
    if not questions:
        raise DataError(str(place), f"{benchmark.title} asks nothing here", "give data with questions")
    items = [question.item([]) for question in questions]
    sheets = {}
    for who, path in answers.items():
        said = [answered(item, text) for item, text in zip(items, benchmark.read_answers(path, questions), strict=True)]
        sheets[who] = Sheet(said, benchmark.scores(place, items, said))
    return items, sheets


def told(benchmark: Benchmark, items: list[Item], sheets: Mapping[str, Sheet], draws: int, seed: int) -> Outcome:
    """The benchmark's numbers for these; of two models also the second's less the first's."""
    lines = measure(benchmark.metrics(), sheets, draws, seed_from(seed, benchmark.title))
    found = outcome(benchmark.title, benchmark.kind, benchmark.rule, lines, items, sheets)
    return replace(found, terms=benchmark.terms(locate_data(benchmark.data)))


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
