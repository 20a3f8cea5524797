"""A benchmark's scores for answers that a test gives."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.eval import Benchmark
from sightline.eval.compare import Comparison, Counts, Number, Score
from sightline.rows import Answer

GOLDEN_ROWS = Path(__file__).parent / "golden"


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


def write_coco(folder: Path, rows: Sequence[Mapping[str, Any]], kinds: Sequence[str]) -> None:
    """COCO's two files about the rows' pictures (image_id, instances, captions), as an original script was given them."""
    images = [{"id": row["image_id"], "file_name": f"{row['image_id']}.jpg"} for row in rows]
    seen = [{"image_id": row["image_id"], "category_id": kinds.index(kind)} for row in rows for kind in row["instances"]]
    said = [{"image_id": row["image_id"], "caption": caption} for row in rows for caption in row["captions"]]
    categories = [{"id": number, "name": kind} for number, kind in enumerate(kinds)]
    instances = {"images": images, "categories": categories, "annotations": seen}
    (folder / "instances_val2014.json").write_text(json.dumps(instances))
    (folder / "captions_val2014.json").write_text(json.dumps({"annotations": said}))
