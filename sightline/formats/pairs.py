"""What the formats of preference pairs share: one record a pair, in order, with nothing of it lost on the way in and out."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from sightline.errors import DataError
from sightline.files import Refused
from sightline.files.pictures import Album, Gallery
from sightline.files.records import read_records, write_records
from sightline.files.texts import name_of, text_of
from sightline.formats import Format
from sightline.rows import Dropped, Pair
from sightline.store.address import digest
from sightline.store.shards import Store
from sightline.store.spill import Spill

PROVENANCE_KEY = "sightline"
SCORES = ("chosen_score", "rejected_score")
NAMES = ("id", "chosen_id", "rejected_id", "chosen_model", "rejected_model", "instruction_id", "topic", "rule", "record")


class PairFormat(Format):
    """A format of records that hold a pair each, or several.

    What a record of another origin cannot say in the format's own keys stands in one of ours, `sightline`, as JSON: other tools
    pass it over, an import takes it back. The record that a pair was imported from is part of it.
    """

    own_id: ClassVar[str] = "id"  # the record's key that names it to people
    picture_columns: ClassVar[tuple[str, ...]] = ()  # in Parquet, `datasets` opens these as pictures

    def pair(self, record: dict[str, Any], key: str, album: Album) -> Pair:
        """The pair that a record holds; Refused says why it holds none."""
        raise NotImplementedError

    def pairs(self, record: dict[str, Any], key: str, album: Album) -> Iterable[Pair | Dropped]:
        """The pairs of a record, where the format may hold several in one; Refused says why it holds none."""
        return [self.pair(record, key, album)]

    def record(self, pair: Pair, known: dict[str, Any] | None, gallery: Gallery, embed: bool) -> dict[str, Any]:
        """The record of a pair; `known` is what it was imported from in this format, `embed` puts picture bytes inside."""
        raise NotImplementedError

    def instruction_of(self, pair: Pair) -> str:
        """The instruction as reading the pair's new record would give it."""
        return pair.instruction

    def read(self, path: Path, album: Album) -> Iterator[Pair | Dropped]:
        used: set[str] = set()
        for number, record in enumerate(read_records(path), start=1):
            key = self._key(record, number)
            try:
                if not isinstance(record, dict):
                    raise Refused("row is not a record of named values", type(record).__name__)
                for made in self.pairs(record, key, album):
                    yield made if isinstance(made, Dropped) else self._remembering(made, record, number, used)
            except Refused as refused:
                yield Dropped(key=key, reason=refused.reason, detail=refused.detail)

    def write(self, rows: Iterable[Pair], store: Store, file: Path) -> None:
        pairs = _in_file_order(rows, file.parent)
        made = self.records(pairs, Gallery(file.parent, store), embed=file.suffix == ".parquet")
        write_records(file, made, self.picture_columns)

    def records(self, pairs: Iterable[Pair], gallery: Gallery, embed: bool) -> Iterator[dict[str, Any]]:
        """The records of pairs, in order."""
        for pair in pairs:
            known = json.loads(pair.record) if pair.record else {}
            if known.get("format") == self.kind:
                with whole_record_of(pair):
                    made = self.record(pair, known["record"], gallery, embed)
                yield made
            else:
                yield {**self.record(pair, None, gallery, embed), **self.noted(pair)}

    def noted(self, pair: Pair) -> dict[str, Any]:
        """What of a pair its new record does not say, under keys of our own."""
        kept = {name: getattr(pair, name) for name in (*NAMES, *SCORES) if getattr(pair, name) is not None}
        if self.instruction_of(pair) != pair.instruction:
            kept["instruction"] = pair.instruction
        return {PROVENANCE_KEY: json.dumps(kept, ensure_ascii=False)}

    def recalled(self, record: dict[str, Any]) -> dict[str, Any] | None:
        """What an export of ours noted about a record's pair; None where it is no record of ours."""
        return _provenance(record[PROVENANCE_KEY]) if record.get(PROVENANCE_KEY) is not None else None

    def _remembering(self, pair: Pair, record: dict[str, Any], number: int, used: set[str]) -> Pair:
        """The pair with all that an export needs to give the record back, and an id that no row before it has."""
        recalled = self.recalled(record)
        if recalled is None:
            known = {"format": self.kind, "row": number, "record": _without_bytes(record)}
            recalled = {"record": json.dumps(known, default=str)}
        pair = replace(pair, **recalled)
        while pair.id in used:  # the same record twice, or an id that was copied by hand
            pair = replace(pair, id=digest("again", pair.id))
        used.add(pair.id)
        return pair

    def _key(self, record: Any, number: int) -> str:
        found = record.get(self.own_id) if isinstance(record, dict) else None
        return name_of(found) or f"row-{number}"


@contextmanager
def whole_record_of(pair: Pair) -> Iterator[None]:
    """DataError in place of what a record raises that lacks what an import would have asked for: a note of ours was spoilt."""
    try:
        yield
    except (KeyError, Refused) as error:
        problem = f"the record that it was imported from is broken: {' '.join(map(str, error.args))}"
        raise DataError(f"pair {pair.key}", problem, "import it again from where it was published") from error


def both_answers(pair: Pair) -> tuple[str, str]:
    """Chosen and rejected; DataError where one is missing, which no format of pairs can say."""
    if pair.chosen is None or pair.rejected is None:
        missing = "chosen" if pair.chosen is None else "rejected"
        raise DataError(f"pair {pair.key}", f"it has no {missing} answer", "this format holds pairs only")
    return pair.chosen, pair.rejected


def need_one_picture(pair: Pair, limit: str) -> None:
    """DataError where the pair has none or several; `limit` says that the format holds one."""
    if len(pair.pictures) != 1:
        fix = "export to the format llava, which holds several pictures"
        raise DataError(f"pair {pair.key}", f"it has {len(pair.pictures)} pictures; {limit}", fix)


def imported_pair(kind: str, key: str, instruction: str, pictures: list[str], chosen: str, rejected: str, **more: Any) -> Pair:
    """A pair whose id follows from what it says; `more` are further fields."""
    return Pair(
        id=digest("imported", key, pictures, instruction, chosen, rejected),
        key=key,
        instruction=instruction,
        pictures=pictures,
        chosen=chosen,
        rejected=rejected,
        rule=f"imported from {kind}",
        **more,
    )


def _provenance(written: Any) -> dict[str, Any]:
    """What the key `sightline` says."""
    try:
        noted = json.loads(written)
    except (TypeError, ValueError, RecursionError) as error:
        raise _not_ours(error) from error
    if not isinstance(noted, dict):
        raise _not_ours("it is no JSON object")
    return checked(noted)


def checked(noted: dict[str, Any]) -> dict[str, Any]:
    """Fields of a pair that came back from a file, as far as they are there; Refused where they are not what a pair holds."""
    texts = {name: text_of(noted[name], name) for name in (*NAMES, "instruction") if noted.get(name) is not None}
    try:
        scores = {name: float(noted[name]) for name in SCORES if noted.get(name) is not None}
        known = json.loads(texts["record"]) if "record" in texts else None
    except (TypeError, ValueError, RecursionError) as error:
        raise _not_ours(error) from error
    if not all(map(math.isfinite, scores.values())):
        raise _not_ours("a score is not finite")
    if known is not None and not _is_remembered(known):
        raise _not_ours("its record is not one")
    return {**texts, **scores}


def _is_remembered(known: Any) -> bool:
    kinds = {"format": str, "row": int, "record": dict}
    is_one = isinstance(known, dict) and all(isinstance(known.get(name), kind) for name, kind in kinds.items())
    return is_one and 0 <= known["row"] < 2**63


def _not_ours(why: object) -> Refused:
    return Refused(f"'{PROVENANCE_KEY}' is not what an export of ours wrote", str(why))


def _without_bytes(value: Any) -> Any:
    """The record without picture bytes, which the store keeps."""
    if isinstance(value, dict):
        return {name: _without_bytes(inner) for name, inner in value.items() if not isinstance(inner, bytes)}
    return [_without_bytes(inner) for inner in value] if isinstance(value, list) else value


def _in_file_order(pairs: Iterable[Pair], folder: Path) -> Iterator[Pair]:
    """The pairs as they stood in the file they came from, which shards do not keep; they wait on the folder's disk."""
    import numpy

    waiting, places = Spill(folder), array("q")
    for pair in pairs:
        waiting.add(pair)
        places.append(json.loads(pair.record)["row"] if pair.record else 0)
    for number in numpy.argsort(numpy.frombuffer(places, dtype=numpy.int64), kind="stable"):
        yield waiting[int(number)]
