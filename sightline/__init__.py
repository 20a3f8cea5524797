"""Sightline teaches vision-language models to say what they see.

The verbs of the command line are functions here: `sightline.run(recipe)`, `make`, `train`, `eval`, `sweep`, `check`,
`import_rows`, `export_rows`; `rows` opens any step of a run as a `datasets.Dataset`.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

_FUNCTIONS = {
    "run": "sightline.run:run",
    "make": "sightline.run:make",
    "train": "sightline.run:train",
    "eval": "sightline.run:evaluate",
    "rows": "sightline.run:rows",
    "sweep": "sightline.sweep:sweep",
    "check": "sightline.check:check",
    "import_rows": "sightline.formats:import_rows",
    "export_rows": "sightline.formats:export_rows",
    "Recipe": "sightline.recipe:Recipe",
}
__all__ = ["Recipe", "__version__", "check", "eval", "export_rows", "import_rows", "make", "rows", "run", "sweep", "train"]


def _function(name: str) -> Any:
    module, _, attribute = _FUNCTIONS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


class _Verb(ModuleType):
    """A module that is called like the verb it is named after: `sightline.make(recipe)` works beside `sightline.make.pairs`."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        return _function(self.__name__.rpartition(".")[2])(*args, **options)


class _Package(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FUNCTIONS and isinstance(value, ModuleType):
            value.__class__ = _Verb
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        # functions load when they are asked for, so that `import sightline` costs nothing
        if name not in _FUNCTIONS:
            raise AttributeError(f"module 'sightline' has no attribute {name!r}")
        return _function(name)


sys.modules[__name__].__class__ = _Package
