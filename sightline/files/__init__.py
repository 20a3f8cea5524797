"""Files that people bring: their records and pictures, judged alike whether they are imported or a run starts from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sightline.errors import DataError
from sightline.rows import Dropped, Row

SHOWN = 10


class Refused(Exception):
    """This row cannot be taken: the reason that is counted, and what it is about."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


@dataclass
class Counts:
    """What went by: rows, their pictures, and refusals by reason, with the first few and each reason's first, and remarks."""

    rows: int = 0
    pictures: set[str] = field(default_factory=set)
    refused: Counter[str] = field(default_factory=Counter)
    first: list[Dropped] = field(default_factory=list)
    remarks: Counter[str] = field(default_factory=Counter)

    def through(self, made: Iterable[Row | Dropped]) -> Iterator[Row | Dropped]:
        """The same rows, counted."""
        for row in made:
            if isinstance(row, Dropped):
                if len(self.first) < SHOWN or row.reason not in self.refused:
                    self.first.append(row)
                self.refused[row.reason] += 1
            else:
                self.rows += 1
                self.pictures.update(row.pictures)  # type: ignore[attr-defined]
            yield row

    def nothing_taken(self, path: Path, folder: Path, setting: str) -> DataError:
        """When every row is refused, the file, or the folder that picture paths start from, is wrong rather than its rows."""
        if not self.refused:
            return DataError(str(path), "this file holds no rows", "give the file that holds them")
        [(reason, count)] = self.refused.most_common(1)
        first = next(row for row in self.first if row.reason == reason)
        fix = f"first {first.key}: {first.detail}" if first.detail else f"first {first.key}"
        if reason == "picture is missing":
            fix = f"give the folder that picture paths start from as {setting} (now {folder}); {fix}"
        return DataError(str(path), f"no row could be taken; {count} of {self.refused.total()}: {reason}", fix)
