"""Long functions and files owe a reason; these are listed here by name, with it."""

import ast
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
FUNCTION_LINES = 60
FILE_LINES = 400

REASONS: dict[str, str] = {}


def sources() -> list[Path]:
    return sorted(path for folder in ("sightline", "tests", "benchmarks") for path in (REPOSITORY / folder).rglob("*.py"))


def too_long() -> Iterator[str]:
    """Names of files (path) and functions (path:name) past the bounds."""
    for path in sources():
        text = path.read_text(encoding="utf-8")
        place = str(path.relative_to(REPOSITORY))
        if len(text.splitlines()) > FILE_LINES:
            yield place
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno >= FUNCTION_LINES:
                yield f"{place}:{node.name}"


def test_long_functions_and_files_are_those_with_a_reason():
    assert sorted(too_long()) == sorted(REASONS)
