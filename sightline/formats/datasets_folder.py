"""A folder that `datasets` opens and the Hugging Face Hub takes: TRL's columns, what we know of each row, and a card."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from sightline.errors import DataError
from sightline.files import Refused
from sightline.files.pictures import Album, Gallery
from sightline.files.records import CONTAINERS
from sightline.formats import Exported
from sightline.formats.card import LICENCE, card
from sightline.formats.pairs import NAMES, SCORES, checked
from sightline.formats.trl import Trl
from sightline.rows import Pair
from sightline.store.folders import RowFolder
from sightline.store.runs import Run
from sightline.store.shards import written_whole

FILE = "data/train-00000-of-00001.parquet"
SIDES = ("chosen", "rejected")
COLUMNS = {"pair_id" if name == "id" else name: name for name in (*NAMES, *SCORES)}
"""Column -> field of a pair; `id` is the name that people know the row by."""


class DatasetsFolder(Trl):
    """`load_dataset(folder)` gives rows that TRL trains on, pictures decoded, with scores, models, rule and ids beside them.

    Rows of one answer have null for the other. The card's front matter leaves the licence to whoever publishes.
    """

    kind: Literal["datasets"] = "datasets"  # type: ignore[assignment]
    containers: ClassVar[tuple[str, ...]] = (".parquet",)

    def place(self, out: Path) -> Path:
        if out.suffix in CONTAINERS:
            raise DataError(str(out), "the format datasets is a folder, not a file", "give a folder with --out")
        return out / FILE

    def pair(self, record: dict[str, Any], key: str, album: Album) -> Pair:
        absent: dict[str, Any] = {side: None for side in SIDES if side in record and record[side] is None}
        if len(absent) == len(SIDES):
            raise Refused("row has neither a chosen nor a rejected answer")
        return replace(super().pair({**record, **_emptied(absent)}, key, album), **absent)

    def record(self, pair: Pair, known: dict[str, Any] | None, gallery: Gallery, embed: bool) -> dict[str, Any]:
        absent: dict[str, Any] = {side: None for side in SIDES if getattr(pair, side) is None}
        return {**super().record(replace(pair, **_emptied(absent)), known, gallery, embed), **absent}

    def noted(self, pair: Pair) -> dict[str, Any]:
        return {column: getattr(pair, name) for column, name in COLUMNS.items()}

    def recalled(self, record: dict[str, Any]) -> dict[str, Any] | None:
        if record.get("pair_id") is None:
            return None
        return checked({name: record.get(column) for column, name in COLUMNS.items()})

    def accompany(self, done: Exported, source: Run | RowFolder) -> Iterator[str]:
        folder = done.file.parent.parent
        with written_whole(folder / "README.md") as aside:
            aside.write_text(card(done, source, folder.resolve().name), encoding="utf-8")
        yield f"next: fill in '{LICENCE}' in {folder / 'README.md'}, then: hf upload YOU/NAME {folder} --repo-type dataset"


def _emptied(absent: dict[str, Any]) -> dict[str, Any]:
    """Empty texts in place of answers that are not there."""
    return dict.fromkeys(absent, "")
