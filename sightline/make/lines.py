"""Files of a record a line that the user brings, with the place of what is wrong in them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sightline.engines.weights import seen_from
from sightline.errors import DataError


def lines_of(path: str, folder: Path, what: str) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, each with its number, from a file seen from here or from `folder`; `what` the file holds."""
    for number, line in enumerate(_decoded(seen_from(path, folder), what).splitlines(), start=1):
        if line.strip():
            yield number, line


def record_of(line: str, where: str, form: str) -> dict[str, Any]:
    """The JSON object of a line, an empty one where it holds other JSON; `form` is what it should look like."""
    try:
        record = json.loads(line)
        json.dumps(record, ensure_ascii=False).encode()  # halves of surrogate pairs can be escaped, but not stored
    except (ValueError, RecursionError) as error:
        raise DataError(where, f"this is not JSON: {error}", f"write {form}") from error
    return record if isinstance(record, dict) else {}


def _decoded(path: Path, what: str) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}", "this is not UTF-8", "save the file as UTF-8") from error
    except OSError as error:
        raise DataError(
            str(path), f"the {what} cannot be read ({error.strerror})", "give the path from the recipe's folder"
        ) from error
