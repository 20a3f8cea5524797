"""A dataset's file as plain records: a JSON array, JSON lines or Parquet, recognised by content, not by name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import DataError
from sightline.plugin import suggest
from sightline.store.shards import written_whole
from sightline.store.spill import Spill

if TYPE_CHECKING:
    import pyarrow

CONTAINERS = (".json", ".jsonl", ".parquet")
BATCH = 100
"""Records of a row group in Parquet: their pictures are in memory together."""
SOUND_FIX = "mend the file there, or fetch it again: it may be cut off"


def read_records(path: Path) -> Iterator[Any]:
    """The file's records in order; of a folder, those of its Parquet files. DataError where it holds none."""
    for file in _files(path):
        with file.open("rb") as stream:
            start = stream.read(64)
        if not start.strip():
            raise DataError(str(file), "this file is empty", "give the file that holds the rows")
        if start.startswith(b"version https://git-lfs"):
            raise DataError(str(file), "this is a Git LFS pointer, not the data", "run `git lfs pull` where it came from")
        yield from _parquet(file) if start.startswith(b"PAR1") else _json(file)


def write_records(path: Path, records: Iterable[dict[str, Any]], picture_columns: Sequence[str] = ()) -> None:
    """Write the records in the container that the file's suffix names; in Parquet, `datasets` opens these columns as pictures."""
    with written_whole(path) as aside:
        if path.suffix == ".parquet":
            _write_parquet(aside, records, picture_columns)
            return
        with aside.open("w", encoding="utf-8") as stream:
            if path.suffix == ".jsonl":
                stream.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
            else:
                stream.writelines(_array_pieces(records))


def _array_pieces(records: Iterable[dict[str, Any]]) -> Iterator[str]:
    """A JSON array as json.dumps writes it with an indent of 2."""
    opening = "["
    for record in records:
        # line ends within texts are escaped: those that are there are the layout's
        yield f"{opening}\n  " + json.dumps(record, ensure_ascii=False, indent=2).replace("\n", "\n  ")
        opening = ","
    yield "[]" if opening == "[" else "\n]"


def _write_parquet(path: Path, records: Iterable[dict[str, Any]], picture_columns: Sequence[str]) -> None:
    """Columns' types follow from all records: these wait on the disk until the last is seen."""
    import pyarrow
    import pyarrow.parquet

    waiting, schema, given = Spill(path.parent), pyarrow.schema([]), iter(records)
    try:
        while batch := list(islice(given, BATCH)):
            columns = {name: [record.get(name) for record in batch] for name in _all_keys(batch)}
            found = pyarrow.Table.from_pydict(columns).schema
            schema, count = pyarrow.unify_schemas([schema, found], promote_options="permissive"), waiting.add(columns) + 1
        schema = _with_pictures(schema, picture_columns)
        with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
            for number in range(count):
                writer.write_table(_table(waiting[number], schema))
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, pyarrow.ArrowNotImplementedError, OverflowError) as error:
        problem = f"these records do not fit into columns: {str(error).splitlines()[0]}"
        raise DataError(str(path.parent), problem, "write JSON lines instead: a file that ends in .jsonl") from error


def _table(columns: dict[str, list[Any]], schema: pyarrow.Schema) -> pyarrow.Table:
    import pyarrow

    count = len(next(iter(columns.values())))
    arrays = [pyarrow.array(columns.get(column.name, [None] * count), type=column.type) for column in schema]
    return pyarrow.Table.from_arrays(arrays, schema=schema)


def _with_pictures(schema: pyarrow.Schema, names: Sequence[str]) -> pyarrow.Schema:
    """The schema, saying in the words of `datasets` which columns hold pictures."""
    if not names:
        return schema
    import datasets

    features = datasets.Features.from_arrow_schema(schema)
    for name in (name for name in names if name in features):
        features[name] = datasets.List(datasets.Image()) if isinstance(features[name], datasets.List) else datasets.Image()
    return features.arrow_schema


def _all_keys(records: Sequence[dict[str, Any]]) -> list[str]:
    return list({name: None for record in records for name in record})


def missing_key(key: str, record: Iterable[str]) -> tuple[str, str]:
    """Reason and remedy for a record that lacks a key."""
    return f"no key '{key}'", suggest(key, [str(name) for name in record])


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet"))
        if not found:
            raise DataError(str(path), "this folder holds no Parquet files", "give the dataset's file")
        return found
    if not path.is_file():
        there = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(str(path), "no such file", suggest(path.name, there) if there else "give the dataset's file")
    return [path]


def _json(file: Path) -> Iterator[Any]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        where, fix = f"{file}, byte {error.start + 1}", "give a JSON, JSON lines or Parquet file"
        raise DataError(where, "this is not UTF-8 text", fix) from error
    if not text.lstrip().startswith("["):
        return _lines(file, text)
    records = _parse(text, file, first_line=1)
    if not records:
        raise DataError(str(file), "the list in this file is empty", "give the file that holds the rows")
    return iter(records)


def _lines(file: Path, text: str) -> Iterator[Any]:
    if text.lstrip().startswith("{") and _is_one_object(text):
        problem = f"one object with the keys {', '.join(json.loads(text))}, not a list of rows"
        raise DataError(str(file), problem, "give a JSON array, or one row a line")
    # splitlines would also break at characters such as U+2028, which JSON allows inside a text
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _parse(line, file, first_line=number)


def _is_one_object(text: str) -> bool:
    """A lone record is a file of JSON lines as well, unless it spreads over lines."""
    if "\n" not in text.strip():
        return False
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _parse(text: str, file: Path, first_line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"{file}, line {first_line + error.lineno - 1}, column {error.colno}"
        raise DataError(where, f"this is not JSON: {error.msg}", SOUND_FIX) from error
    except RecursionError as error:
        raise DataError(f"{file}, line {first_line}", "brackets are nested too deep to read", SOUND_FIX) from error


def _parquet(file: Path) -> Iterator[Any]:
    import pyarrow
    import pyarrow.parquet

    try:
        opened = pyarrow.parquet.ParquetFile(file)
        if opened.metadata.num_rows == 0:
            raise DataError(str(file), "this Parquet file has no rows", "give the file that holds the rows")
        for batch in opened.iter_batches(batch_size=256):
            yield from batch.to_pylist()
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise DataError(str(file), f"this Parquet file cannot be read: {str(error).splitlines()[0]}", SOUND_FIX) from error
