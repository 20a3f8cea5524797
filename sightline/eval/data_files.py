"""Files of a benchmark's data: found by the names they are published under, and read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sightline.errors import DataError
from sightline.eval.answer_files import read_text


def only_file(place: Path, pattern: str) -> Path:
    """The place itself where it is a file, else the one file of the folder that is named so; DataError where there are others."""
    if place.is_file():
        return place
    found = sorted(place.glob(pattern))
    if len(found) != 1:
        told = f"{len(found)} files named {pattern} are here"
        raise DataError(str(place), told, "give the file itself, or a folder with one of them")
    return found[0]


def read_json(path: Path) -> Any:
    """What a JSON file holds; DataError where it cannot be read or is none."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(str(path), f"this is no JSON: {error}", "fetch the file again") from error


def entry(record: Any, name: str, kind: type | tuple[type, ...], where: str) -> Any:
    """A record's entry of this type; DataError where it lacks it."""
    value = record.get(name) if isinstance(record, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        told = f"{name} is {value!r}" if isinstance(record, dict) and name in record else f"no {name}"
        raise DataError(where, told[:200], "the published form has it; sightline eval --help BENCH says where its files are")
    return value
