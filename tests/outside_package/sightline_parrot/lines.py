"""A format of one line a pair: instruction, chosen and rejected between tabs. It holds no pictures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from sightline.formats import Format
from sightline.rows import Pair
from sightline.store.shards import Store


class Lines(Format):
    """Pairs for people who like to read."""

    kind: Literal["parrot_lines"] = "parrot_lines"

    def write(self, rows: Iterable[Pair], store: Store, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{row.instruction}\t{row.chosen}\t{row.rejected}\n" for row in rows))
