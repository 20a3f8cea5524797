"""A dataset's file as plain records: a JSON array, JSON lines or Parquet, recognised by content, not by name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sightline.errors import DataError
from sightline.plugin import suggest
from sightline.store.shards import written_whole

CONTAINERS = (".json", ".jsonl", ".parquet")
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


def write_records(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Write the records in the container that the file's suffix names."""
    with written_whole(path) as aside:
        if path.suffix == ".parquet":
            import pyarrow
            import pyarrow.parquet

            columns = {name: [record.get(name) for record in records] for name in _all_keys(records)}
            pyarrow.parquet.write_table(pyarrow.Table.from_pydict(columns), aside, compression="zstd")
        elif path.suffix == ".jsonl":
            aside.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
        else:
            aside.write_text(json.dumps(records, ensure_ascii=False, indent=2), encoding="utf-8")


def _all_keys(records: Sequence[dict[str, Any]]) -> list[str]:
    return list({name: None for record in records for name in record})


def missing_key(key: str, record: Iterable[str]) -> tuple[str, str]:
    """Reason and remedy for a record that lacks a key."""
    return f"no key '{key}'", suggest(key, [str(name) for name in record])


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(path.glob("*.parquet"))
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
