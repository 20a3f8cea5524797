"""Someone else's answers to a benchmark, read from a file and joined to its questions by their ids."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.errors import DataError
from sightline.eval.samples import as_record, is_sample


@dataclass(frozen=True)
class Said:
    """An answer of a file: the id of its question, its text, and where it stands."""

    question_id: str
    text: str
    where: str


def read_texts(path: Path, question_ids: Sequence[str], ids: Sequence[str], texts: Sequence[str]) -> list[str]:
    """A text for each question, in the questions' order, whatever the order of the file.

    `ids` and `texts` are the names that a record's id and text may have. DataError, with the line and the id, where an answer is
    missing, comes twice, is to no question, or is no text.
    """
    return joined(path, _answers(path, ids, texts), question_ids)


def joined(path: Path, answers: Iterable[Said], question_ids: Sequence[str]) -> list[str]:
    """The answers' texts in the order of the questions; DataError as for `read_texts`."""
    said: dict[str, Said] = {}
    for answer in answers:
        if answer.question_id in said:
            before = said[answer.question_id].where
            raise DataError(answer.where, f"question {answer.question_id} is answered a second time", f"first at {before}")
        said[answer.question_id] = answer
    if not said:
        raise DataError(str(path), "this file holds no answers", "give the file that the model's answers were written to")
    refuse_other_questions(path, said, question_ids)
    return [said[name].text for name in question_ids]


def refuse_other_questions(path: Path, said: dict[str, Said], question_ids: Sequence[str]) -> None:
    """DataError where the answers are to fewer questions than were asked, or to others."""
    known = set(question_ids)
    strangers = [answer for name, answer in said.items() if name not in known]
    missing = [name for name in question_ids if name not in said]
    about = f"{len(said)} answers, {len(known)} questions"
    if strangers:
        first = strangers[0]
        problem = f"no question is called {first.question_id!r}, and {len(strangers) - 1} more ({about})"
        raise DataError(first.where, problem, f"give the data that was answered; its first is {question_ids[0]!r}")
    if missing:
        problem = f"{len(missing)} questions have no answer, the first {missing[0]!r} ({about})"
        raise DataError(str(path), problem, "answer all of them: a part of a benchmark is no score of it")


def records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The records of a .json, .jsonl, .csv or .tsv file, each with its place; DataError where the file or one of them is none.

    JSON may be a list of records or a mapping of ids to texts, which gives records of `id` and `text`. A .json file may also have
    a record a line, as some benchmarks'. The log of lmms-eval gives records of its documents' ids and `text`.
    """
    text = read_text(path)
    if path.suffix in (".csv", ".tsv"):
        yield from _of_table(path, text)
    elif path.suffix == ".json" and not _is_lines(text):
        yield from _of_json(path, text)
    else:
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                where = f"{path}:{number}"
                record = _record(_parsed(line, where), where)
                yield where, as_record(record, where) if is_sample(record) else record


def read_text(path: Path) -> str:
    """A file's text; DataError where it cannot be read or is no UTF-8."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(str(path), f"cannot be read: {error.strerror}", "check the path") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"{path}:{line}", "this is not UTF-8", "save the file as UTF-8") from error


def _is_lines(text: str) -> bool:
    """True where the first of several lines is a record by itself."""
    first, _, rest = text.strip().partition("\n")
    try:
        return bool(rest) and isinstance(json.loads(first), dict)
    except json.JSONDecodeError:
        return False


def _answers(path: Path, ids: Sequence[str], texts: Sequence[str]) -> Iterator[Said]:
    for where, record in records(path):
        name, text = _field(record, ids, where), _field(record, texts, where)
        if not isinstance(text, str):
            raise DataError(where, f"the answer to {name} is {text!r}, no text", "write it as text, an empty one as ''")
        yield Said(str(name), text, where)


def _field(record: dict[str, Any], names: Sequence[str], where: str) -> Any:
    found = [name for name in names if name in record]
    if not found:
        wanted = " or ".join(f"'{name}'" for name in names)
        raise DataError(where, f"no {wanted} here", f"it has: {', '.join(map(str, record)) or 'nothing'}")
    return record[found[0]]


def _of_table(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter="," if path.suffix == ".csv" else "\t")
    try:
        yield from ((f"{path}:{rows.line_num}", dict(row)) for row in rows)
    except csv.Error as error:  # such as a cell of over 128 KB, which holds a picture
        raise DataError(f"{path}:{rows.line_num}", f"this table cannot be read: {error}", "keep ids and answers only") from error


def _of_json(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if not text.strip():
        return
    content = _parsed(text, str(path))
    if isinstance(content, dict):
        yield from ((f"{path}, {name}", {"id": name, "text": said}) for name, said in content.items())
    elif isinstance(content, list):
        for number, record in enumerate(content, 1):
            yield f"{path}, record {number}", _record(record, f"{path}, record {number}")
    else:
        raise DataError(str(path), "neither a list of answers nor a mapping of ids to answers", "give one of the two")


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(where, f"this is no JSON: {error}", "mend it, or write the file again") from error


def _record(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(where, f"this is no record: {str(value)[:60]}", 'write {"question_id": ..., "answer": "..."}')
    return value
