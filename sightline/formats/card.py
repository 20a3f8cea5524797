"""The card of a published dataset, from what is known of where its rows come from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sightline import __version__
from sightline.formats import Exported, rows_of, shards_of, store_of
from sightline.rows import Origin, place_of
from sightline.store.folders import RowFolder
from sightline.store.runs import Run

TEMPLATE = Path(__file__).parent / "card.md"
LICENCE = "license:"
FAMILIES = ("replies", "images", "ranking", "responses", "splits", "judgements")
"""Steps whose rows say which model made them."""
SIZES = (("n<1K", 10**3), ("1K<n<10K", 10**4), ("10K<n<100K", 10**5), ("100K<n<1M", 10**6), ("1M<n<10M", 10**7))
"""The Hub's words for how many rows there are."""


def card(done: Exported, source: Run | RowFolder, name: str) -> str:
    """README.md: front matter for the Hub, then what the rows are, who made them, and what was dropped on the way."""
    import jinja2
    import yaml  # type: ignore[import-untyped, unused-ignore]

    front = {
        "pretty_name": name,
        "task_categories": ["image-text-to-text"],
        "tags": ["preference", "dpo", "vision-language", "sightline"],
        "size_categories": [next((words for words, below in SIZES if done.rows < below), "n>10M")],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}],
    }
    room = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined)
    room.filters["cell"] = _cell
    return room.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        front=yaml.safe_dump(front, sort_keys=False, allow_unicode=True),
        licence=LICENCE,
        name=name,
        done=done,
        version=__version__,
        made_by=list(_made_by(source)),
        steps=list(_steps(source, done.step)),
        came_from=_came_from(source),
        **_counts(source, done.step),
    )


def _counts(source: Run | RowFolder, step: str) -> dict[str, Counter[str]]:
    """Rows by rule, and how often each model's answer is chosen and rejected."""
    rules: Counter[str] = Counter()
    chosen: Counter[str] = Counter()
    rejected: Counter[str] = Counter()
    for pair in rows_of(source, step):
        rules[pair.rule] += 1
        chosen.update([pair.chosen_model] if pair.chosen_model else [])
        rejected.update([pair.rejected_model] if pair.rejected_model else [])
    return {"rules": rules, "chosen": chosen, "rejected": rejected}


def _made_by(source: Run | RowFolder) -> Iterator[tuple[str, str, str, str]]:
    """Step, engine, model and revision of each model that made rows of a run."""
    for step in source.manifest["steps"] if isinstance(source, Run) else ():
        if step.partition("/")[0] in FAMILIES:
            origins: set[Origin] = {row.origin for row in rows_of(source, step)}
            yield from sorted({(step, origin.engine, origin.model, origin.revision) for origin in origins})


def _steps(source: Run | RowFolder, step: str) -> Iterator[tuple[str, int, list[tuple[str, int]]]]:
    """Each step's rows, in a run's order, and how many were dropped for which reason."""
    if isinstance(source, Run):
        steps = source.manifest["steps"]
        for name in sorted(steps, key=lambda name: (place_of(name), name)):
            yield name, steps[name].get("rows", 0), sorted(steps[name].get("dropped", {}).items())
        return
    store, shards = store_of(source), shards_of(source, step)
    dropped = Counter(row.reason for shard in shards for row in store.read_dropped(shard))
    yield "import", sum(int(store.counts(shard)["rows"]) for shard in shards), sorted(dropped.items())


def _came_from(source: Run | RowFolder) -> list[tuple[str, str]]:
    """A run's recipe and seed; an import's file, format and digest."""
    if isinstance(source, RowFolder):
        about = json.loads((source.root / "about.json").read_text())
        return [(name, str(about[name])) for name in ("source", "format", "digest") if about.get(name)]
    import yaml  # type: ignore[import-untyped, unused-ignore]

    recipe = yaml.safe_load((source.folder / "recipe.yaml").read_text(encoding="utf-8"))
    return [(name, str(recipe[name])) for name in ("name", "seed") if recipe.get(name) is not None]


def _cell(value: Any) -> str:
    """A value as a cell of a table in Markdown."""
    return " ".join(str(value).split()).replace("|", "\\|")
