"""What the formats of preference pairs share: one record a pair, in order, with nothing of it lost on the way in and out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from sightline.errors import DataError
from sightline.formats import Format
from sightline.formats.pictures import Album, Gallery, Refused
from sightline.formats.records import missing_key, read_records, write_records
from sightline.rows import Dropped, Pair
from sightline.store.address import digest
from sightline.store.shards import Store

PROVENANCE_KEY = "sightline"
SCORES = ("chosen_score", "rejected_score")
NAMES = ("id", "chosen_id", "rejected_id", "chosen_model", "rejected_model", "instruction_id", "topic", "rule")


class PairFormat(Format):
    """A format with one record a pair."""

    own_id: ClassVar[str] = "id"  # the record's key that names it to people

    def pair(self, record: dict[str, Any], key: str, album: Album) -> Pair:
        """The pair that a record holds; Refused says why it holds none."""
        raise NotImplementedError

    def record(self, pair: Pair, known: dict[str, Any] | None, gallery: Gallery, embed: bool) -> dict[str, Any]:
        """The record of a pair; `known` is what it was imported from in this format, `embed` puts picture bytes inside."""
        raise NotImplementedError

    def read(self, path: Path, album: Album) -> Iterator[Pair | Dropped]:
        used: set[str] = set()
        for number, record in enumerate(read_records(path), start=1):
            key = self._key(record, number)
            try:
                if not isinstance(record, dict):
                    raise Refused("row is not a record of named values", type(record).__name__)
                yield _remembering(self.pair(record, key, album), record, number, self.kind, used)
            except Refused as refused:
                yield Dropped(key=key, reason=refused.reason, detail=refused.detail)

    def write(self, rows: Sequence[Pair], store: Store, file: Path) -> int:
        embed = file.suffix == ".parquet"
        gallery = Gallery(file.parent, store)
        records = [self._written(pair, gallery, embed) for pair in sorted(rows, key=_place)]
        write_records(file, records)
        return len({name for pair in rows for name in pair.pictures})

    def _written(self, pair: Pair, gallery: Gallery, embed: bool) -> dict[str, Any]:
        known = json.loads(pair.record) if pair.record else {}
        if known.get("format") == self.kind:
            return self.record(pair, known["record"], gallery, embed)
        kept = {name: getattr(pair, name) for name in (*NAMES, *SCORES) if getattr(pair, name) is not None}
        made = self.record(pair, None, gallery, embed)
        return {**made, PROVENANCE_KEY: json.dumps(kept, ensure_ascii=False)}

    def _key(self, record: Any, number: int) -> str:
        found = record.get(self.own_id) if isinstance(record, dict) else None
        is_name = isinstance(found, int | str) and not isinstance(found, bool) and str(found).strip()
        return str(found) if is_name and _is_unicode(str(found)) else f"row-{number}"


def text_of(value: Any, name: str) -> str:
    """The value, where it is text that can be stored."""
    if not isinstance(value, str):
        raise Refused(f"{name} is not text", "null" if value is None else type(value).__name__)
    if not _is_unicode(value):
        raise Refused(f"{name} is not valid Unicode", "it holds half of a surrogate pair")
    return value


def both_answers(pair: Pair) -> tuple[str, str]:
    """Chosen and rejected; DataError where one is missing, which no format of pairs can say."""
    if pair.chosen is None or pair.rejected is None:
        missing = "chosen" if pair.chosen is None else "rejected"
        raise DataError(f"pair {pair.key}", f"it has no {missing} answer", "this format holds pairs only")
    return pair.chosen, pair.rejected


def need_key(record: dict[str, Any], key: str) -> Any:
    """The record's value of a key that it must have."""
    if key not in record:
        raise Refused(*missing_key(key, record))
    return record[key]


def imported_pair(kind: str, key: str, instruction: str, pictures: list[str], chosen: str, rejected: str) -> Pair:
    """A pair whose id follows from what it says."""
    return Pair(
        id=digest("imported", key, pictures, instruction, chosen, rejected),
        key=key,
        instruction=instruction,
        pictures=pictures,
        chosen=chosen,
        rejected=rejected,
        rule=f"imported from {kind}",
    )


def _remembering(pair: Pair, record: dict[str, Any], number: int, kind: str, used: set[str]) -> Pair:
    """The pair with all that an export needs to give the record back, and an id that no row before it has."""
    from dataclasses import replace

    if PROVENANCE_KEY in record:
        pair = replace(pair, **_provenance(record[PROVENANCE_KEY]))
    else:
        pair = replace(pair, record=json.dumps({"format": kind, "row": number, "record": _without_bytes(record)}, default=str))
    while pair.id in used:  # the same record twice, or an id that was copied by hand
        pair = replace(pair, id=digest("again", pair.id))
    used.add(pair.id)
    return pair


def _provenance(written: Any) -> dict[str, Any]:
    """What an export of ours noted about a pair."""
    try:
        noted = json.loads(written)
        texts = {name: text_of(noted[name], name) for name in NAMES if name in noted}
        scores = {name: float(noted[name]) for name in SCORES if name in noted}
    except (TypeError, ValueError) as error:
        raise Refused(f"'{PROVENANCE_KEY}' is not what an export of ours wrote", str(error)) from error
    if not all(map(math.isfinite, scores.values())):
        raise Refused(f"'{PROVENANCE_KEY}' is not what an export of ours wrote", "a score is not finite")
    return {**texts, **scores}


def _without_bytes(value: Any) -> Any:
    """The record without picture bytes, which the store keeps."""
    if isinstance(value, dict):
        return {name: _without_bytes(inner) for name, inner in value.items() if not isinstance(inner, bytes)}
    return [_without_bytes(inner) for inner in value] if isinstance(value, list) else value


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _place(pair: Pair) -> int:
    """Where an imported pair stood in its file; shards do not keep the order."""
    return json.loads(pair.record)["row"] if pair.record else 0
