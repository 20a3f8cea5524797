"""Recipe sections, the tables that find plug-ins by name, and optional packages."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cached_property
from importlib.metadata import entry_points
from types import ModuleType
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, SerializeAsAny, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from sightline.errors import MissingPackage, RecipeError


class Section(BaseModel):
    """A part of the recipe: strict, frozen, its fields documented beneath them."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _know_every_key(cls, value: Any) -> Any:
        unknown = [key for key in value if key not in cls.model_fields] if isinstance(value, dict) else []
        if unknown:
            raise PydanticCustomError(
                "unknown_key",
                "unknown key '{key}'",
                {"key": unknown[0], "fix": suggest(str(unknown[0]), list(cls.model_fields))},
            )
        return value


class Plugin(Section):
    """A section that a table finds by its `kind`."""

    kind: str = ""
    """Name of the plug-in in its family's table."""


def suggest(word: str, known: list[str]) -> str:
    """What to write instead of an unknown word."""
    near = get_close_matches(word, known, n=1, cutoff=0.5)
    listed = ", ".join(sorted(known))
    return f"did you mean '{near[0]}'? known: {listed}" if near else f"known: {listed}"


class Table:
    """Plug-ins of one family: name -> "module:Class", ours and other packages' entry points (group `sightline.<family>`).

    `default` is meant where a section names no kind.
    """

    def __init__(self, family: str, ours: dict[str, str], default: str | None = None) -> None:
        self.family = family
        self.ours = ours
        self.default = default

    @cached_property
    def places(self) -> dict[str, str]:
        theirs = {entry.name: entry.value for entry in entry_points(group=f"sightline.{self.family}")}
        return {**theirs, **self.ours}

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.places))

    def find(self, name: str) -> type[Any]:
        """The plug-in's class; ValueError-compatible where the table has no such name."""
        if name not in self.places:
            raise PydanticCustomError(
                "unknown_plugin",
                "no {family} named '{name}'",
                {"family": self.family, "name": name, "fix": suggest(name, list(self.places))},
            )
        module, _, attribute = self.places[name].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def read(self, value: Any) -> Any:
        """Turn {'kind': name, ...} into that plug-in's section. For use as a pydantic validator."""
        if isinstance(value, Plugin):
            return value
        kind = value.get("kind") or self.default if isinstance(value, dict) else None
        if not isinstance(kind, str):
            raise PydanticCustomError(
                "no_kind", "a {family} needs a kind", {"family": self.family, "fix": f"add kind: one of {', '.join(self)}"}
            )
        return self.find(kind).model_validate(value)

    def section(self) -> Any:
        """The annotation of a recipe field that holds one plug-in of this family."""
        return SerializeAsAny[Annotated[Plugin, BeforeValidator(self.read)]]


def problems(error: ValidationError, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str, str, str]]:
    """Every fault of a recipe as (where, problem, fix), plug-ins' own sections included."""
    for fault in error.errors():
        place = (*at, *fault["loc"])
        context = fault.get("ctx", {})
        inner = context.get("error")
        if isinstance(inner, ValidationError):
            yield from problems(inner, place)
        else:
            where = ".".join(map(str, place)) or "the recipe"
            yield where, fault["msg"], str(context.get("fix", f"got {fault.get('input')!r}"))


def recipe_error(error: ValidationError, at: tuple[str | int, ...] = ()) -> RecipeError:
    """A pydantic error as one message for the user; the first fault leads, the others follow."""
    (where, problem, fix), *others = problems(error, at)
    more = "".join(f"\n  also {place}: {what} ({remedy})" for place, what, remedy in others)
    return RecipeError(where, problem, fix + more)


def need(package: str, extra: str | None = None) -> ModuleType:
    """Import an optional package, or say which command brings it."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package.partition(".")[0]:
            raise
        what = f"sightline[{extra}]" if extra else package
        raise MissingPackage(package, "this package is not installed", f"pip install '{what}'") from error
