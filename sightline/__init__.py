"""Sightline teaches vision-language models to say what they see.

The verbs of the command line are functions here: `run`, `make`, `train`, `evaluate`, `check`, `import_rows`, `export_rows`, and `rows`
opens any step of a run as a `datasets.Dataset`.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_VERBS = {
    "run": "sightline.run:run",
    "make": "sightline.run:make",
    "train": "sightline.run:train",
    "evaluate": "sightline.run:evaluate",
    "check": "sightline.check:check",
    "rows": "sightline.run:rows",
    "report": "sightline.run:report",
    "import_rows": "sightline.formats:import_rows",
    "export_rows": "sightline.formats:export_rows",
    "Recipe": "sightline.recipe:Recipe",
}

__all__ = ["__version__", *sorted(_VERBS)]


def __getattr__(name: str) -> Any:
    """Verbs load when they are asked for, so that `import sightline` costs nothing."""
    if name not in _VERBS:
        raise AttributeError(f"module 'sightline' has no attribute {name!r}")
    module, _, attribute = _VERBS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
