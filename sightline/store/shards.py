"""Stored rows and pictures: Parquet shards and image files, addressed by content, written aside and renamed when whole."""

from __future__ import annotations

import json
import os
import uuid
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from sightline.errors import RunError
from sightline.rows import ROW_TYPES, Dropped, Row
from sightline.store.address import digest, digest_bytes, digest_file
from sightline.store.records import arrow_schema, from_record, to_record
from sightline.store.spill import Spill, room_on_disk


@dataclass(frozen=True)
class Shard:
    """Where one step's rows of one bucket of keys are stored."""

    step: str
    bucket: int
    address: str


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the wanted name only when the block ends well."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.aside")
    try:
        with room_on_disk(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield aside
            os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def row_type(step: str) -> type[Row]:
    """Type of a step's rows; 'responses/policy' has the rows of 'responses'."""
    return ROW_TYPES[step.partition("/")[0]]


class Store:
    """A folder of results that runs share."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, shard: Shard) -> Path:
        return self.root / "rows" / shard.step / f"{shard.address}.parquet"

    def has(self, shard: Shard) -> bool:
        return self.path(shard).exists()

    def write(
        self,
        shard: Shard,
        rows: Sequence[Row],
        dropped: Sequence[Dropped] = (),
        seconds: float = 0.0,
        usage: Mapping[str, float | None] | None = None,
    ) -> None:
        """Store a shard. `usage`: what served models took. The rows' file comes last: where it exists, the shard is whole."""
        path = self.path(shard)
        refused = path.with_suffix(".dropped.parquet")
        if dropped:
            _write_table(refused, Dropped, dropped)
        else:
            refused.unlink(missing_ok=True)
        with written_whole(path.with_suffix(".json")) as aside:
            counts = {"rows": len(rows), "dropped": len(dropped), "seconds": round(seconds, 3)}
            aside.write_text(json.dumps({**counts, "usage": dict(usage)} if usage else counts))
        _write_table(path, row_type(shard.step), rows)

    def read(self, shard: Shard) -> list[Any]:
        return _read_table(self.path(shard), row_type(shard.step))

    def read_dropped(self, shard: Shard) -> list[Dropped]:
        path = self.path(shard).with_suffix(".dropped.parquet")
        return _read_table(path, Dropped) if path.exists() else []

    def counts(self, shard: Shard) -> dict[str, Any]:
        """Rows, dropped, the seconds that making them took, and the usage of served models where any was asked."""
        return json.loads(self.path(shard).with_suffix(".json").read_text())

    def source(self, step: str, identity: Any, rows: Sequence[Row], dropped: Sequence[Dropped], shard_size: int) -> list[Shard]:
        """Store rows that come from outside; each shard's address is made of its rows."""
        return self.sort_in(step, identity, chain(rows, dropped), shard_size)

    def sort_in(self, step: str, identity: Any, made: Iterable[Row | Dropped], shard_size: int) -> list[Shard]:
        """The same, however many rows come: they wait on the disk until their keys are counted, and memory holds a shard's."""
        shards = []
        for bucket, rows in self._buckets(made, shard_size):
            held = [row for row in rows if not isinstance(row, Dropped)]
            refused = [row for row in rows if isinstance(row, Dropped)]
            shard = Shard(step, bucket, digest(identity, [to_record(row) for row in held], [to_record(row) for row in refused]))
            if not self.has(shard):
                self.write(shard, held, refused)
            shards.append(shard)
        return shards

    def _buckets(self, made: Iterable[Row | Dropped], shard_size: int) -> Iterator[tuple[int, list[Row | Dropped]]]:
        """Each bucket's rows, in the order in which they came; refused rows do not count towards the number of buckets."""
        import numpy

        places, of_rows = array("Q"), array("b")
        waiting = Spill(self.root)
        for row in made:
            waiting.add(row)
            places.append(_place(row.key))
            of_rows.append(not isinstance(row, Dropped))
        keys = numpy.frombuffer(places, dtype=numpy.uint64)
        num_keys = len(numpy.unique(keys[numpy.frombuffer(of_rows, dtype=bool)]))
        bucket_of_row = _bucket(keys, num_buckets(num_keys, shard_size))
        order = numpy.argsort(bucket_of_row, kind="stable")
        firsts = numpy.flatnonzero(numpy.diff(bucket_of_row[order])) + 1
        for numbers in numpy.split(order, firsts) if len(order) else []:
            yield int(bucket_of_row[numbers[0]]), [waiting[number] for number in numbers]

    def put_picture(self, content: bytes) -> str:
        """Store a picture file's bytes, which somebody has seen decode; returns its digest, by which rows name it."""
        name = digest_bytes(content)
        if not self.holds(name):
            with written_whole(self.picture(name)) as aside:
                aside.write_bytes(content)
        return name

    def holds(self, name: str) -> bool:
        """Whether a picture is stored and its file is whole: about 0.1 ms a picture of 100 kB."""
        path = self.picture(name)
        return path.is_file() and digest_file(path) == name

    def picture(self, name: str) -> Path:
        """File of a stored picture: PNG or JPEG, as its first bytes say."""
        return self.root / "pictures" / name[:2] / name

    def folder(self, step: str, address: str) -> Path:
        """Place of a result that is a folder (a checkpoint, say)."""
        return self.root / step / address


def num_buckets(num_keys: int, shard_size: int) -> int:
    """A power of two, so that a few keys more seldom move the others."""
    return 1 << max(0, (max(num_keys, 1) - 1) // shard_size).bit_length()


def bucket_of(key: str, buckets: int) -> int:
    return _bucket(_place(key), buckets)


def _place(key: str) -> int:
    """64 bits that stand for the key."""
    return int(digest(key)[:16], 16)


def _bucket(place: Any, buckets: int) -> Any:
    """The bucket of a place, or of an array of places."""
    return (place >> 32) % buckets


def _write_table(path: Path, kind: type, rows: Sequence[Any]) -> None:
    import pyarrow
    import pyarrow.parquet

    schema = arrow_schema(kind)
    records = [to_record(row) for row in rows]
    table = pyarrow.Table.from_arrays([_column(records, field) for field in schema], schema=schema)
    with written_whole(path) as aside:
        # tighter compression doubles the time to write and to read a shard of a hundred rows
        pyarrow.parquet.write_table(table, aside, compression="snappy", use_dictionary=False)


def _column(records: Sequence[dict[str, Any]], field: Any) -> Any:
    """The field's values for Arrow, where a mapping stands as its entries."""
    import pyarrow

    values = [record[field.name] for record in records]
    if pyarrow.types.is_list(field.type):
        values = [_entries(value) if isinstance(value, dict) else value for value in values]
    return pyarrow.array(values, type=field.type)


def _entries(mapping: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": value} for key, value in mapping.items()]


def _read_table(path: Path, kind: type) -> list[Any]:
    import pyarrow.parquet

    # read_table would import datasets and pandas for nothing; a shard is too small for threads to pay
    table = pyarrow.parquet.ParquetFile(path).read(use_threads=False)
    _refuse_older(path, table.schema, kind)
    return [from_record(kind, record) for record in table.to_pylist()]


def _refuse_older(path: Path, found: Any, kind: type) -> None:
    """RunError where these rows were stored when their type was another; columns that have come to it since may be absent."""
    older = [
        column for column in arrow_schema(kind) if column.name in found.names and found.field(column.name).type != column.type
    ]
    if older:
        is_now = f"its column '{older[0].name}' is {found.field(older[0].name).type}, now {older[0].type}"
        fix = (
            f"delete {path.parent}; what a run made is made again by the same command, what was imported is to be imported again"
        )
        raise RunError(str(path), f"these rows were stored by an older version of Sightline: {is_now}", fix)
