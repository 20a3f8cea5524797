"""The root of a recipe: read from YAML, overridden with --set, checked, and written back resolved."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationError

from sightline.engines import ENGINES, Engine, Engines
from sightline.errors import RecipeError
from sightline.eval import Answering, Eval
from sightline.execute import Execution
from sightline.make import Make
from sightline.plugin import Section, recipe_error, suggest
from sightline.report import Report
from sightline.train import Train


class Recipe(Section):
    """One run, from prompts (or whatever you bring) to a page that says whether the model now hallucinates less."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Names the run's folder."""
    seed: int = Field(0, ge=0)
    """Everything random follows from it."""
    execution: Execution = Execution()
    """How many processes work on the steps. Changes no result."""
    engines: dict[str, SerializeAsAny[Annotated[Engine, BeforeValidator(ENGINES.read)]]] = {}
    """Models by the names that the steps use."""
    make: Make | None = None
    """Prompts to pairs."""
    train: Train | None = None
    """Pairs to an adapter or model."""
    eval: Eval | None = None
    """Benchmarks, before and after."""
    report: Report = Report()
    """The page."""

    def check_engines(self) -> None:
        """RecipeError where a step names an engine that is not declared, or that cannot do the step's work."""
        engines = Engines(self.engines)
        for place, name, role in self.make.engine_roles() if self.make else ():
            engines.section(name, role, place)
        for who, name in self.eval.engines.items() if self.eval else ():
            engines.section(name, Answering.role, f"eval.engines.{who}")
        for benchmark in self.eval.benchmarks if self.eval else ():
            for name, role in benchmark.engine_roles().items():
                engines.section(name, role, f"eval, {benchmark.title}")

    def asking(self) -> str:
        """What is added to each question for the trained model, because the rows it learned from taught it to read that;
        RecipeError where levels are asked and none were taught."""
        asked = self.eval.asked if self.eval else {}
        if self.train and self.train.pairs is None and self.make and self.make.pairs:
            return self.make.pairs.asking(asked)
        if asked:
            raise RecipeError("eval.asked", "this recipe makes no rows that teach attributes", "write eval.suffix instead")
        return ""

    def resolved(self) -> str:
        """The whole recipe as YAML, defaults written out."""
        return yaml.safe_dump(self.model_dump(), sort_keys=False, allow_unicode=True, width=120)


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 5e-4 as text; people mean a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)$"), list("-+0123456789.")
)


def read(path: str | Path, overrides: Sequence[str] = ()) -> tuple[Recipe, Path]:
    """The recipe in a file (or a shipped one, by name) with `a.b=value` overrides, and the folder it is in."""
    found = find(path)
    tree = read_yaml(found.read_bytes(), str(path))
    if not isinstance(tree, dict):
        raise RecipeError(str(path), "a recipe is a mapping of sections", f"known: {', '.join(Recipe.model_fields)}")
    return parse(overridden(tree, overrides)), found.parent


def read_yaml(text: str | bytes, where: str) -> Any:
    """Plain values, numbers as people write them; RecipeError where it is not YAML."""
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(where, f"this is not YAML: {error}", "mend the line it names") from error


def parse(tree: dict[str, Any]) -> Recipe:
    """A checked recipe from plain values."""
    try:
        recipe = Recipe.model_validate(tree)
    except ValidationError as error:
        raise recipe_error(error) from None
    recipe.check_engines()
    recipe.asking()
    return recipe


def shipped(of: str = "") -> dict[str, Path]:
    """Recipes that come with the package, by name; or the YAML files of a folder `of` beside them."""
    package = Path(str(files("sightline")))
    folder = next((place for place in (package / "recipes", package.parent / "recipes") if place.is_dir()), None)
    return {path.stem: path for path in sorted((folder / of).glob("*.yaml"))} if folder else {}


def find(path: str | Path) -> Path:
    """A recipe's file; RecipeError with what there is where it does not exist."""
    if Path(path).is_file():
        return Path(path)
    ours = shipped()
    if str(path) in ours:
        return ours[str(path)]
    raise RecipeError(str(path), "no such recipe", f"give a YAML file, or a shipped recipe; {suggest(str(path), list(ours))}")


def overridden(tree: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The tree with each `key.of.a.section=value` put in its place; RecipeError where one has none."""
    for override in overrides:
        _override(tree, override)
    return tree


def _override(tree: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals:
        raise RecipeError(f"--set {override}", "an override is key=value", "for example --set train.objective.beta=0.2")
    *parents, last = path.split(".")
    place: Any = tree
    for name in parents:
        place = _step_into(place, name, override)
    if isinstance(place, list):
        place[_index(place, last, override)] = yaml.load(text, _Loader)
    else:
        place[last] = yaml.load(text, _Loader)


def _step_into(place: Any, name: str, override: str) -> Any:
    if isinstance(place, list):
        return place[_index(place, name, override)]
    inner = place.setdefault(name, {})
    if inner is None:
        inner = place[name] = {}
    if not isinstance(inner, dict | list):
        raise RecipeError(f"--set {override}", f"'{name}' is a value, not a section", "give the path of a key")
    return inner


def _index(place: list[Any], name: str, override: str) -> int:
    if not name.isdigit() or int(name) >= len(place):
        raise RecipeError(f"--set {override}", f"'{name}' is no place in a list of {len(place)}", f"use 0 to {len(place) - 1}")
    return int(name)
