"""Pictures of your own, and what is asked about them and answered, as far as a table says: where a run may start."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from sightline.engines.weights import seen_from
from sightline.errors import DataError, RecipeError
from sightline.execute import Step, Task, Use
from sightline.files import Counts, Refused
from sightline.files.pictures import Album
from sightline.files.records import read_records
from sightline.files.texts import IMAGE_TOKEN, name_of, need_key, text_of, unasked
from sightline.make.instructions import Instructions, InstructionSource, chosen
from sightline.make.slots import slots_in
from sightline.plugin import Section, suggest
from sightline.rows import Dropped, Instruction, Origin, Response, Sample
from sightline.store.address import digest
from sightline.store.shards import Store

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class Columns(Section):
    """What the table's columns are called."""

    picture: str = "image"
    """The picture: a path, what `datasets` keeps of it ({bytes, path}), or a list of several."""
    instruction: str = "instruction"
    """What is asked about it. Not read where make.instructions asks."""
    id: str | None = None
    """Names the row. Absent: `id`, where there is one; rows without are named by their content."""
    topic: str | None = None
    """What it is about. Absent: `topic`, where there is one."""


class Pictures(Section):
    """Start from a folder of pictures, from a table about them (.jsonl, .json, .csv or .parquet), or from a dataset that holds
    them (a folder that `datasets` saved, or Parquet).

    A row whose picture is missing, cut off, animated, above 50 megapixels or outside the folder is dropped with its reason; so is
    one that asks the same about the same picture as an earlier one. Pictures are the same where their bytes are.
    """

    folder: str | None = None
    """Where the pictures are; without a table, all of them are taken. A table's paths start here, or else from its own folder."""
    table: str | None = None
    """File or saved dataset with a row an instruction, or a row a picture where make.instructions asks."""
    columns: Columns = Columns()
    """What the table calls its columns."""
    answers: dict[Name, str] = {}
    """Answers of your own: what to call the model that gave them, and their column: a text, or a list of several. They stand
    beside those of make.responses, or in their place."""
    per_picture: int | None = Field(None, ge=1)
    """Most rows about the same picture; those that come later in the table are dropped as duplicates, before anybody is asked."""

    @model_validator(mode="after")
    def _has_a_source(self) -> Pictures:
        if self.folder is None and self.table is None:
            fix = "add folder: photos, or table: questions.jsonl, or both"
            raise PydanticCustomError("no_source", "this names neither a folder nor a table", {"fix": fix})
        if self.answers and self.table is None:
            raise PydanticCustomError(
                "no_table", "answers stand in a table, and there is none", {"fix": "add table: answers.jsonl"}
            )
        return self

    def place(self) -> str:
        """What to name in messages."""
        return self.table or self.folder or ""

    def read(self, near: Path, store: Store | None, asked: bool) -> Iterator[Sample | Dropped]:
        """Each row, or why it was refused; pictures go to the store, where there is one. Paths start from here or from `near`.

        `asked` says that instructions are read from the table. DataError where no row can be taken.
        """
        folder = self._folder(near)
        counts = Counts()
        intake = _Intake(self, Album(folder, store), asked)
        yield from counts.through(intake.rows(self._records(near, folder, asked)))  # type: ignore[misc]
        if not counts.rows:
            raise counts.nothing_taken(Path(self.place()), folder, "make.pictures.folder")

    def tasks(self, instructions: InstructionSource | None) -> list[Task]:
        """The steps that ask about the pictures, by templates or as the table does, and those that hand its answers on."""
        asking: list[Task] = []
        if instructions:
            if not isinstance(instructions, Instructions):
                problem = f"instructions of kind '{instructions.kind}' go by prompts, and pictures of your own have none"
                raise RecipeError("make.instructions", problem, "give templates, or a table with instructions in make.pictures")
            self._check_templates(instructions)
            asking = [Task("instructions", Templates(templates=instructions.templates, all=instructions.all), ("pictures",))]
        elif self.table:
            asking = [Task("instructions", GivenInstructions(), ("pictures",))]
        return [*asking, *(Task(f"responses/{name}", GivenAnswers(name=name), ("pictures",)) for name in self.answers)]

    def _check_templates(self, instructions: Instructions) -> None:
        for number, template in enumerate(instructions.templates):
            if "prompt" in slots_in(template):
                problem = f"'{template}' needs a prompt, and pictures of your own have none"
                raise RecipeError(f"make.instructions.templates.{number}", problem, "leave {prompt} out of it")
        if self.answers:
            problem = "these answers are to instructions of the table, and make.instructions asks others"
            raise RecipeError("make.pictures.answers", problem, "leave out make.instructions, or the answers")

    def _folder(self, near: Path) -> Path:
        if self.folder is None:
            table = seen_from(self.place(), near)
            return table if table.is_dir() else table.parent
        folder = seen_from(self.folder, near)
        if not folder.is_dir():
            there = [entry.name for entry in folder.parent.iterdir() if entry.is_dir()] if folder.parent.is_dir() else []
            otherwise = "set make.pictures.folder to it, as a path from here or from the recipe's folder"
            fix = suggest(folder.name, there) if there else otherwise
            raise DataError(str(folder), "no such folder of pictures", fix)
        return folder

    def _records(self, near: Path, folder: Path, asked: bool) -> Iterator[tuple[str, Any]]:
        """What each row is called in messages, and the row: of a folder alone, one for each file in it."""
        if self.table is None:
            yield from ((name, {self.columns.picture: name}) for name in _all_in(folder))
            return
        records = read_records(seen_from(self.table, near))
        first = next(records, None)
        if isinstance(first, dict):
            self._require_columns(list(first), asked)
        elif first is None:
            raise DataError(self.table, "this table holds no rows", "give the file that holds them")
        for number, record in enumerate(chain([first], records), start=1):
            yield f"row {number}", record

    def _require_columns(self, there: list[str], asked: bool) -> None:
        wanted = {f"columns.{key}": column for key, column in self.columns if key != "instruction" or asked}
        wanted |= {f"answers.{model}": column for model, column in self.answers.items()}
        lacking = {key: column for key, column in wanted.items() if column is not None and column not in there}
        if lacking:
            problem = " and ".join(f"no column '{column}' (make.pictures.{key})" for key, column in lacking.items())
            raise DataError(self.place(), f"this table has {problem}", suggest(next(iter(lacking.values())), there))


@dataclass
class _Intake:
    """Takes records in, and knows those that it took."""

    section: Pictures
    album: Album
    asked: bool
    keys: set[str] = field(default_factory=set)
    contents: set[str] = field(default_factory=set)
    uses: Counter[str] = field(default_factory=Counter)

    def rows(self, records: Iterable[tuple[str, Any]]) -> Iterator[Sample | Dropped]:
        for place, record in records:
            try:
                yield self._new(self._sample(record, place))
            except Refused as refused:
                yield Dropped(key=place, reason=refused.reason, detail=refused.detail)

    def _sample(self, record: Any, place: str) -> Sample:
        if not isinstance(record, dict):
            raise Refused("row is not a record of named values", f"{type(record).__name__}: {record!s:.80}")
        columns = self.section.columns
        given = need_key(record, columns.picture)
        entries = given if isinstance(given, list) else [given]
        if not entries or any(entry is None or entry == "" for entry in entries):
            raise Refused("row names no picture")
        asked = self._question(record) if self.asked else None
        pictures = [self.album.given(entry, place) for entry in entries]
        topic = record.get(columns.topic or "topic")
        return Sample(
            id="",
            key=name_of(record.get(columns.id or "id")) or digest("sample", pictures, asked),
            pictures=pictures,
            files=[_file(entry, place) for entry in entries],
            instruction=asked,
            topic=None if topic in (None, "") else text_of(topic, "topic"),
            answers={model: _answers(need_key(record, column), model) for model, column in self.section.answers.items()},
        )

    def _question(self, record: dict[str, Any]) -> str:
        text = unasked(text_of(need_key(record, self.section.columns.instruction), "instruction"))
        if not text.strip():
            raise Refused("instruction is empty")
        if token := IMAGE_TOKEN.search(text):
            raise Refused("image token in the instruction", token.group())
        return text

    def _new(self, sample: Sample) -> Sample:
        """The sample with its id; Refused where it was there before, or its pictures often enough."""
        content, files = digest(sample.pictures, sample.instruction), ", ".join(sample.files)
        if content in self.contents:
            raise Refused("duplicate picture" if sample.instruction is None else "duplicate instruction", files)
        if sample.key in self.keys:
            raise Refused("duplicate id", sample.key)
        limit = self.section.per_picture
        if limit is not None and any(self.uses[name] >= limit for name in sample.pictures):
            raise Refused("duplicate picture", f"{files}: {limit} rows are about it")
        self.contents.add(content)
        self.keys.add(sample.key)
        self.uses.update(set(sample.pictures))
        return replace(sample, id=digest("sample", sample.key, content, sample.topic, sample.answers))


class GivenInstructions(Step):
    """What the table asks."""

    def make(self, use: Use, samples: list[Sample]) -> Iterator[Instruction]:  # type: ignore[override]
        for sample in samples:
            yield _instruction(sample, sample.instruction or "")


class Templates(Step):
    """The templates of make.instructions, filled for pictures that have no prompt."""

    templates: list[str]
    all: bool

    def make(self, use: Use, samples: list[Sample]) -> Iterator[Instruction | Dropped]:  # type: ignore[override]
        for sample in samples:
            for template in chosen(self.templates, self.all, use.seed, sample.key):
                if sample.topic is None and "topic" in slots_in(template):
                    yield Dropped(key=sample.key, reason="picture has no topic", row_id=sample.id, detail=template)
                else:
                    yield _instruction(sample, template.format(topic=sample.topic))


class GivenAnswers(Step):
    """One model's answers that stand in the table."""

    name: str

    def make(self, use: Use, samples: list[Sample]) -> Iterator[Response | Dropped]:  # type: ignore[override]
        for sample in samples:
            asked, answers = _instruction(sample, sample.instruction or ""), sample.answers.get(self.name, [])
            if not answers:
                yield Dropped(key=sample.key, reason="no answer in the table", row_id=asked.id, detail=self.name)
            for index, text in enumerate(answers):
                yield Response(
                    id=digest("response", asked.id, self.name, index, text),
                    key=sample.key,
                    instruction_id=asked.id,
                    instruction=asked.text,
                    pictures=asked.pictures,
                    text=text,
                    model=self.name,
                    index=index,
                    finish="given",
                    num_tokens=None,
                    origin=Origin(engine="own", model=self.name, revision=""),
                )


def _instruction(sample: Sample, text: str) -> Instruction:
    return Instruction(
        id=digest("instruction", sample.key, sample.pictures, text),
        key=sample.key,
        text=text,
        pictures=sample.pictures,
        topic=sample.topic,
        image_id=sample.id,
    )


def _answers(given: Any, model: str) -> list[str]:
    """A cell's answers; none where it is null."""
    entries = given if isinstance(given, list) else [] if given is None else [given]
    return [text_of(entry, f"answer of {model}") for entry in entries]


def _file(entry: Any, place: str) -> str:
    """The picture's own name, or that of the row that holds it."""
    path = entry.get("path") if isinstance(entry, dict) else entry
    return str(path or place)


def _all_in(folder: Path) -> list[str]:
    """Paths of all files below a folder but hidden ones, in order."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    found = sorted(path.as_posix() for path in paths if not any(part.startswith(".") for part in path.parts))
    if not found:
        raise DataError(str(folder), "no pictures are in this folder", "give the folder that holds them")
    return found
