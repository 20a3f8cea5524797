"""A dataset as plain records: a JSON array, JSON lines or Parquet (by content, not by name), CSV, or what `datasets` saved."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from sightline.errors import DataError
from sightline.plugin import suggest
from sightline.store.shards import written_whole
from sightline.store.spill import Spill

if TYPE_CHECKING:
    import pyarrow

CONTAINERS = (".json", ".jsonl", ".parquet")
BATCH = 100
"""Records of a row group in Parquet: their pictures are in memory together."""
PIECE = 1 << 20
"""Letters of a JSON array that are read at once."""
WHITESPACE = re.compile(r"[ \t\n\r]*")
SOUND_FIX = "mend the file there, or fetch it again: it may be cut off"


def read_records(path: Path) -> Iterator[Any]:
    """The file's records in order; of a folder, those of its Parquet files, or what `save_to_disk` put there. DataError where it
    holds none."""
    if (path / "state.json").is_file():
        yield from _saved(path)
        return
    for file in _files(path):
        with file.open("rb") as stream:
            start = stream.read(64)
        if not start.strip():
            raise DataError(str(file), "this file is empty", "give the file that holds the rows")
        if start.startswith(b"version https://git-lfs"):
            raise DataError(str(file), "this is a Git LFS pointer, not the data", "run `git lfs pull` where it came from")
        if start.startswith(b"PAR1"):
            yield from _parquet(file)
        else:
            yield from _csv(file) if file.suffix.lower() == ".csv" else _json(file)


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
    if (path / "dataset_dict.json").is_file():
        splits = sorted(entry.name for entry in path.iterdir() if (entry / "state.json").is_file())
        fix = f"give one of them, for example {path / splits[0]}" if splits else SOUND_FIX
        raise DataError(str(path), f"this dataset has splits: {', '.join(splits) or 'none that is whole'}", fix)
    if path.is_dir():
        found = sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet"))
        if not found:
            raise DataError(str(path), "this folder holds no Parquet files and no saved dataset", "give the dataset's file")
        return found
    if not path.is_file():
        there = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(str(path), "no such file", suggest(path.name, there) if there else "give the dataset's file")
    return [path]


def _json(file: Path) -> Iterator[Any]:
    with _opened(file) as stream:
        first = next((letter for letter in iter(lambda: stream.read(1), "") if not letter.isspace()), "")
        yield from _array(file, stream) if first == "[" else _lines(file, stream)


def _csv(file: Path) -> Iterator[Any]:
    """A record a line by the names in the first; a line of more or fewer cells is a list."""
    with _opened(file) as stream:
        lines = csv.reader(stream, strict=True)
        try:
            header = next(lines)
            if twice := [name for name, count in Counter(header).items() if count > 1]:
                raise DataError(str(file), f"two columns are called '{twice[0]}'", "rename one of them")
            for cells in filter(None, lines):
                yield dict(zip(header, cells, strict=True)) if len(cells) == len(header) else cells
        except csv.Error as error:
            raise DataError(f"{file}, line {lines.line_num}", f"this is not CSV: {error}", SOUND_FIX) from error


@contextmanager
def _opened(file: Path) -> Iterator[TextIO]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            yield stream
    except UnicodeDecodeError as error:
        where, fix = f"{file}, byte {_undecodable(file) + 1}", "save it as UTF-8, or give a JSON, JSON lines or Parquet file"
        raise DataError(where, "this is not UTF-8 text", fix) from error


def _saved(folder: Path) -> Iterator[Any]:
    """Rows of a dataset that `save_to_disk` wrote; pictures as {path, bytes}, not decoded."""
    import datasets
    import pyarrow

    try:
        saved = datasets.load_from_disk(str(folder))
        for batch in saved.with_format("arrow").iter(BATCH):
            yield from batch.to_pylist()
    except (pyarrow.ArrowInvalid, OSError, ValueError, KeyError, TypeError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(str(folder), f"this saved dataset cannot be read: {said}", "save it again with save_to_disk") from error


def _array(file: Path, stream: TextIO) -> Iterator[Any]:
    """Entries of an array that has been read up to its bracket."""
    text = _Pieces(stream)
    if text.mark() == "]":
        raise DataError(str(file), "the list in this file is empty", "give the file that holds the rows")
    try:
        yield from _entries(text)
    except (json.JSONDecodeError, RecursionError):
        _parse(file.read_text(encoding="utf-8-sig"), file, first_line=1)  # in one piece, so as to say where it is wrong
        raise


def _entries(text: _Pieces) -> Iterator[Any]:
    mark = text.mark()
    while mark != "]":
        yield text.value()
        mark = text.mark()
        if mark == ",":
            text.at += 1
        elif mark != "]":
            raise json.JSONDecodeError("Expecting ',' delimiter", text.text, text.at)
    text.at += 1
    if text.mark():
        raise json.JSONDecodeError("Extra data", text.text, text.at)


class _Pieces:
    """JSON text of which memory holds the piece that is being read."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.text = ""
        self.at = 0

    def more(self) -> bool:
        """Drop what is read and add a piece, longer than what was not enough; False at the end."""
        rest = self.text[self.at :]
        piece = self.stream.read(max(PIECE, len(rest)))
        self.text, self.at = rest + piece, 0
        return bool(piece)

    def mark(self) -> str:
        """The next letter that is no space, not yet read; '' at the end."""
        while True:
            self.at = WHITESPACE.match(self.text, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.text) or not self.more():
                return self.text[self.at : self.at + 1]

    def value(self) -> Any:
        """The value that starts at the next mark."""
        self.mark()
        while True:
            try:
                value, end = json.JSONDecoder().raw_decode(self.text, self.at)
            except json.JSONDecodeError:
                if not self.more():
                    raise
                continue
            # a number may go on in the next piece
            if self.text[end : end + 1] in tuple(",] \t\n\r") or not self.more():
                self.at = end
                return value


def _undecodable(file: Path) -> int:
    """Place of the first byte that is no UTF-8."""
    try:
        file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return error.start
    raise AssertionError("decoded in one piece it is sound")


def _lines(file: Path, stream: TextIO) -> Iterator[Any]:
    stream.seek(0)
    is_first = True
    # splitlines would also break at characters such as U+2028, which JSON allows inside a text
    for number, line in enumerate(stream, start=1):
        if line.strip():
            if is_first:
                _check_first(file, line)
            yield _parse(line.removesuffix("\n"), file, first_line=number)
            is_first = False


def _check_first(file: Path, line: str) -> None:
    """A lone record is a file of JSON lines as well, unless it spreads over lines."""
    if line.lstrip().startswith("{") and _loaded(line) is None:
        found = _loaded(file.read_text(encoding="utf-8-sig"))
        if found is not None:
            problem = f"one object with the keys {', '.join(found)}, not a list of rows"
            raise DataError(str(file), problem, "give a JSON array, or one row a line")


def _loaded(text: str) -> Any:
    """What the JSON says; None where it is not sound."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


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
