"""Published preference data in, and rows out again, in the formats that other tools read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

from sightline.errors import DataError, RunError
from sightline.execute import Silent, Watch, watched
from sightline.files import SHOWN, Counts
from sightline.files.pictures import Album
from sightline.files.records import CONTAINERS
from sightline.plugin import Plugin, Table, suggest
from sightline.rows import Dropped, Row
from sightline.store.address import digest_file
from sightline.store.folders import RowFolder
from sightline.store.runs import Run
from sightline.store.shards import Shard, Store

FORMATS = Table(
    "formats",
    {
        "datasets": "sightline.formats.datasets_folder:DatasetsFolder",
        "llamafactory": "sightline.formats.llamafactory:LlamaFactory",
        "llava": "sightline.formats.llava:Llava",
        "mllm_dpo": "sightline.formats.mllm_dpo:MllmDpo",
        "rlaif_v": "sightline.formats.rlaif_v:RlaifV",
        "swift": "sightline.formats.swift:Swift",
        "trl": "sightline.formats.trl:Trl",
        "vlfeedback": "sightline.formats.vlfeedback:VLFeedback",
    },
)

OURS = {"rows", "pictures", "datasets", "about.json"}


class Format(Plugin):
    """A way to write rows in a file. A subclass reads it, writes it, or both."""

    step: ClassVar[str] = "pairs"  # the step whose rows this format holds
    containers: ClassVar[tuple[str, ...]] = CONTAINERS

    def read(self, path: Path, album: Album) -> Iterator[Row | Dropped]:
        """Each row of the file, or why it was refused; its pictures go to the album."""
        raise NotImplementedError

    def remark(self, row: Any) -> str | None:
        """Something to tell of an imported row; equal ones are counted."""
        return None

    def place(self, out: Path) -> Path:
        """The file to write: `out` itself where its name says how, else one in the folder `out`."""
        file = out if out.suffix in CONTAINERS else out / f"{self.step}{self.containers[0]}"
        if file.suffix not in self.containers:
            problem = f"format {self.kind} is not written as {file.suffix}"
            raise DataError(str(out), problem, f"one of {', '.join(self.containers)}")
        return file

    def write(self, rows: Iterable[Any], store: Store, file: Path) -> None:
        """Write the rows, and beside the file the pictures that it points to."""
        raise NotImplementedError

    def accompany(self, done: Exported, source: Run | RowFolder) -> Iterator[str]:
        """Write what else belongs to the file once it is there; lines that say what is left to do."""
        yield from ()


@dataclass(frozen=True)
class Imported:
    """What an import came to."""

    folder: RowFolder
    step: str
    counts: Counts

    @property
    def rows(self) -> int:
        return self.counts.rows

    @property
    def pictures(self) -> int:
        return len(self.counts.pictures)

    @property
    def dropped(self) -> list[Dropped]:
        """All refused rows, as they are stored."""
        return [row for shard in self.folder.shards for row in Store(self.folder.root).read_dropped(shard)]

    def lines(self) -> Iterator[str]:
        """For the terminal."""
        yield f"{self.rows} {self.step} with {self.pictures} pictures are in {self.folder.root}"
        for reason, count in self.counts.refused.most_common():
            yield f"{count} refused: {reason}"
        for row in self.counts.first[:SHOWN]:
            yield f"  {row.key}: {row.reason} ({row.detail})"
        for remark, count in self.counts.remarks.most_common():
            yield f"{count} {remark}"
        yield f"next: sightline check {self.folder.root}"


@dataclass(frozen=True)
class Exported:
    """What an export came to."""

    file: Path
    step: str
    rows: int
    pictures: int
    todo: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        """For the terminal."""
        yield f"{self.rows} {self.step} are in {self.file}, with {self.pictures} pictures"
        yield from self.todo


def import_rows(
    path: str | Path, format: str | Format, images: str | Path | None, out: str | Path, watch: Watch | None = None
) -> Imported:
    """Turn a dataset's file into a folder of rows. Picture paths start from `images`, or else from the file's own folder."""
    path, out = Path(path), Path(out)
    how = _format(format)
    folder = _images_folder(images, path)
    _check_target(out)
    album = Album(folder, Store(out))
    counts = Counts()

    def taken() -> Iterator[Row | Dropped]:
        made = _remarked(how.read(path, album), how, counts.remarks)
        yield from counts.through(watched(made, watch or Silent(), "import"))
        if not counts.rows:
            raise counts.nothing_taken(path, folder, "the images folder")

    about = {"format": how.kind, "source": path.name, "digest": digest_file(path) if path.is_file() else ""}
    return Imported(RowFolder.write(out, how.step, taken(), about), how.step, counts)


def export_rows(source: str | Path | Run | RowFolder, format: str | Format, out: str | Path, step: str | None = None) -> Exported:
    """Write rows of a run, or of a folder of imported ones, in another tool's format, pictures beside them.

    `out` is the file, where it ends in .json, .jsonl or .parquet, or else a folder for it.
    """
    how = _format(format)
    if (step or how.step) != how.step:
        raise DataError(f"format {how.kind}", f"it holds {how.step}, not {step}", "choose another format for these rows")
    held = _open(source, how.step)
    rows = rows_of(held, how.step)
    first = next(rows, None)
    if first is None:
        raise DataError(str(source), f"there are no {how.step} to write", "look at what was dropped, with `sightline show`")
    file, seen = how.place(Path(out)), Counts()
    how.write(seen.through(chain([first], rows)), store_of(held), file)
    done = Exported(file, how.step, seen.rows, len(seen.pictures))
    return replace(done, todo=tuple(how.accompany(done, held)))


def _format(format: str | Format) -> Any:
    if isinstance(format, Format):
        return format
    if format not in FORMATS.places:
        raise DataError("format", f"no format named '{format}'", suggest(format, list(FORMATS)))
    return FORMATS.read({"kind": format})


def _images_folder(images: str | Path | None, path: Path) -> Path:
    folder = Path(images) if images else path if path.is_dir() else path.parent
    if path.exists() and not folder.is_dir():
        raise DataError(str(folder), "no such folder for the pictures", "give the one that picture paths in the file start from")
    return folder


def _check_target(out: Path) -> None:
    foreign = [entry.name for entry in out.iterdir() if entry.name not in OURS] if out.is_dir() else []
    if foreign or (out.exists() and not out.is_dir()):
        there = f"there is {sorted(foreign)[0]} in it" if foreign else "it is a file"
        raise RunError(str(out), f"this is no folder of imported rows: {there}", "give a new folder with --out")


def _remarked(made: Iterable[Row | Dropped], how: Any, remarks: Counter[str]) -> Iterator[Row | Dropped]:
    for row in made:
        if not isinstance(row, Dropped) and (remark := how.remark(row)):
            remarks[remark] += 1
        yield row


def _open(source: str | Path | Run | RowFolder, step: str) -> Run | RowFolder:
    if not isinstance(source, str | Path):
        return source
    return RowFolder.open(Path(source), step) if (Path(source) / "about.json").is_file() else Run.open(Path(source))


def store_of(source: Run | RowFolder) -> Store:
    """The store that holds the rows and pictures."""
    return source.store if isinstance(source, Run) else Store(source.root)


def shards_of(source: Run | RowFolder, step: str) -> list[Shard]:
    return source.shards(step) if isinstance(source, Run) else source.shards


def rows_of(source: Run | RowFolder, step: str) -> Iterator[Any]:
    """A step's rows, of which memory holds a shard's."""
    store = store_of(source)
    for shard in shards_of(source, step):
        yield from store.read(shard)
