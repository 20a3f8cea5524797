"""A benchmark's scores for answers that a test gives."""

from collections.abc import Sequence
from pathlib import Path

from sightline.eval import Benchmark
from sightline.eval.compare import Comparison, Counts, Number, Score
from sightline.rows import Answer


def scored(benchmark: Benchmark, place: Path, texts: Sequence[str]) -> list[Score]:
    """What the texts, in the order of the benchmark's questions, add to its counts."""
    items = [question.item([]) for question in benchmark.questions(place)]
    answers = [
        Answer(
            id="", key=item.key, item_id=item.id, group=item.group, question=item.question, text=text, finish="stop", num_tokens=1
        )
        for item, text in zip(items, texts, strict=True)
    ]
    return benchmark.scores(place, items, answers)


def measured(benchmark: Benchmark, place: Path, texts: Sequence[str]) -> dict[str, Number]:
    """The benchmark's numbers for these texts, by metric and split ("accuracy", "accuracy (random)")."""
    comparison = Comparison({"base": Counts.of(scored(benchmark, place, texts))}, draws=200, seed=0)
    return {
        f"{metric.name} ({metric.split})" if metric.split else metric.name: comparison.number(metric, "base")
        for metric in benchmark.metrics()
    }
