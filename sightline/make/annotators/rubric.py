"""Rubrics: what a judge rates an answer by, on which scale, in whose words. YAML files of the user's own, or shipped ones."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from sightline.errors import RecipeError
from sightline.plugin import Section, recipe_error, suggest

SHIPPED = Path(__file__).parent.parent / "rubrics"
RESERVED = frozenset({"answer", "answers", "reason", "flips", "compared"})


class Aspect(Section):
    """One thing to rate."""

    name: str = Field(min_length=1, max_length=60, pattern=r"^\w[\w /-]*$")
    """What it is called, in the prompt, in the reply and in the annotation."""
    description: str = Field(min_length=1)
    """What to look at."""
    low: int = Field(ge=0)
    """The worst rating."""
    high: int
    """The best rating."""
    levels: Annotated[dict[str, str], BeforeValidator(lambda given: _text_keys(given))] = {}
    """What ratings mean, by number ("3") or range ("1-2"). Need not be complete."""

    @model_validator(mode="after")
    def _scale_is_sound(self) -> Aspect:
        if self.high <= self.low:
            raise _wrong(self.name, f"has an empty scale: from {self.low} to {self.high}", "set high above low")
        meant: dict[int, str] = {}
        for level in self.levels:
            for rating in _span(self.name, level):
                if not self.low <= rating <= self.high:
                    raise _wrong(
                        self.name,
                        f"has a level '{level}' outside its scale {self.low} to {self.high}",
                        "mend the level or the scale",
                    )
                if rating in meant:
                    raise _wrong(
                        self.name,
                        f"has overlapping levels: '{meant[rating]}' and '{level}' both hold {rating}",
                        "let each rating mean one thing",
                    )
                meant[rating] = level
        return self

    @property
    def plain(self) -> str:
        return plain(self.name)


class Rubric(Section):
    """Aspects, and what the judge is told before them."""

    instructions: str = Field(min_length=1)
    """What the judge shall do; the aspects, the question, the answers and the form of the reply follow by themselves."""
    aspects: list[Aspect] = Field(min_length=1)
    """What is rated."""

    @model_validator(mode="after")
    def _aspects_differ(self) -> Rubric:
        names = Counter(aspect.plain for aspect in self.aspects)
        for aspect in self.aspects:
            if names[aspect.plain] > 1:
                raise _wrong(aspect.name, "stands twice", "give each aspect a name of its own")
            if aspect.plain in RESERVED:
                raise _wrong(aspect.name, "has a name that a reply's own fields have", "give it another name")
        return self

    @classmethod
    def read(cls, name: str, folder: Path) -> Rubric:
        """From a path, seen from here or from `folder`, or a shipped one by name. RecipeError with file and aspect."""
        path = _find(name, folder)
        try:
            tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise RecipeError(str(path), f"this rubric cannot be read: {error}", "give a UTF-8 YAML file") from None
        if not isinstance(tree, dict):
            raise RecipeError(str(path), "a rubric is a mapping", f"write {' and '.join(cls.model_fields)}")
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            wrong = recipe_error(error)
            raise RecipeError(f"{path}, {_place(wrong.where, tree)}", wrong.problem, wrong.fix) from None

    @property
    def by_plain(self) -> dict[str, Aspect]:
        return {aspect.plain: aspect for aspect in self.aspects}


def plain(name: str) -> str:
    """A name as replies are compared by: 'Visual_Faithfulness' -> 'visual faithfulness'."""
    return re.sub(r"[\W_]+", " ", name.casefold()).strip()


def shipped() -> dict[str, Path]:
    """Rubrics that come with the package, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def _find(name: str, folder: Path) -> Path:
    ours = shipped()
    found = next((path for path in (Path(name), folder / name) if path.is_file()), ours.get(name))
    if found is None:
        raise RecipeError(
            f"rubric {name}", "there is no such file", f"give a path, or a shipped one; {suggest(name, list(ours))}"
        )
    return found


def _place(where: str, tree: dict[str, Any]) -> str:
    """'aspects.1.high' with the aspect's name, where it has one."""
    at = re.match(r"aspects\.(\d+)", where)
    aspect = tree["aspects"][int(at.group(1))] if at else None
    return f"{where} ('{aspect['name']}')" if isinstance(aspect, dict) and "name" in aspect else where


def _wrong(aspect: str, problem: str, fix: str) -> PydanticCustomError:
    return PydanticCustomError("rubric", "aspect '{aspect}' {problem}", {"aspect": aspect, "problem": problem, "fix": fix})


def _text_keys(given: Any) -> Any:
    """YAML reads 3: as a number."""
    return {str(key): text for key, text in given.items()} if isinstance(given, dict) else given


def _span(aspect: str, level: str) -> range:
    match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", level)
    span = range(int(match[1]), int(match[2] or match[1]) + 1) if match else range(0)
    if not span:
        raise _wrong(aspect, f"has a level '{level}', which is no rating and no range", 'write "3" or "1-2"')
    return span
