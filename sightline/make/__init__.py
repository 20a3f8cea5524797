"""From prompts to preference pairs: the recipe's make section, and the verb that carries it out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.engines import Engine, Engines
from sightline.engines.weights import locate
from sightline.errors import DataError, RecipeError
from sightline.execute import Executor, Tally, Task, tally_of
from sightline.make.annotators import ANNOTATORS
from sightline.make.images import Images
from sightline.make.instructions import INSTRUCTIONS
from sightline.make.pairs import PAIRS
from sightline.make.prompts import PROMPTS, PromptSource
from sightline.make.ranking import Ranking
from sightline.make.responses import Responses
from sightline.plugin import Section, suggest

if TYPE_CHECKING:
    from sightline.make.annotators import Annotator as AnyAnnotator
    from sightline.make.instructions import InstructionSource as AnyInstructions
    from sightline.make.pairs import AnswerPolicy as AnyPairs
    from sightline.make.prompts import PromptSource as AnyPrompts
else:
    AnyPrompts, AnyInstructions = PROMPTS.section(), INSTRUCTIONS.section()
    AnyAnnotator, AnyPairs = ANNOTATORS.section(), PAIRS.section()

ORDER = ("prompts", "images", "ranking", "instructions", "responses", "annotations", "pairs")
SECTIONS = {"replies": "", "splits": "annotations", "judgements": "annotations"}
"""Where the recipe names the engines of steps of raw replies: splits/claims is of annotations.claims, replies/instructions of
instructions."""


class Make(Section):
    """Prompts to pairs. A run may stop after any step: leave out those after it."""

    prompts: AnyPrompts | None = None
    """What pictures shall show."""
    images: Images | None = None
    """Several pictures a prompt."""
    ranking: Ranking | None = None
    """The best picture of each prompt."""
    instructions: AnyInstructions | None = None
    """What is asked about it."""
    responses: Responses | None = None
    """Answers of a pool of models."""
    annotations: dict[str, AnyAnnotator] = {}
    """Annotators, by names of your choice, which say what each answer is worth."""
    pairs: AnyPairs | None = None
    """Which answers become chosen and rejected, or are learned by themselves."""

    def tasks(self, folder: Path | None = None) -> list[Task]:
        """The steps after the prompts, in order. Files that steps need are read from `folder`; without one they are not."""
        self._check_order()
        tasks = []
        if self.images:
            tasks.append(Task("images", self.images, ("prompts",)))
        if self.ranking:
            tasks.append(Task("ranking", self.ranking, ("images",)))
        if self.instructions:
            tasks += self.instructions.tasks(folder)
        answers = self.responses.tasks() if self.responses else []
        names = tuple(task.name for task in answers)
        return [*tasks, *answers, *self._annotation_tasks(names, folder), *self._pair_tasks(names)]

    def engine_roles(self) -> Iterator[tuple[str, str, str]]:
        """All engines that this section names, each with the place of its name and the role it needs."""
        if self.prompts:
            yield from (("make.prompts", name, role) for name, role in self.prompts.engine_roles().items())
        for task in self.tasks():
            family, _, rest = task.name.partition("/")
            place = ".".join(filter(None, ["make", SECTIONS.get(family, family), rest]))
            yield from ((place, name, role) for name, role in task.step.engine_roles().items())

    def _check_order(self) -> None:
        """RecipeError where a step lacks the one before it."""
        present = [name for name in ORDER if getattr(self, name)]
        for name, before in zip(present, [None, *present], strict=False):
            needed = ORDER[ORDER.index(name) - 1] if name != "prompts" else None
            if needed != before:
                raise RecipeError(f"make.{name}", f"this step needs '{needed}', which the recipe lacks", f"add make.{needed}")

    def _annotation_tasks(self, answers: tuple[str, ...], folder: Path | None) -> list[Task]:
        tasks = []
        for name, annotator in self.annotations.items():
            tasks += annotator.tasks(name, folder, answers)
        return tasks

    def _pair_tasks(self, answers: tuple[str, ...]) -> list[Task]:
        if self.pairs is None:
            return []
        read = self.pairs.annotators()
        for name in read:
            if name not in self.annotations:
                raise RecipeError("make.pairs", f"no annotator named '{name}'", suggest(name, list(self.annotations)))
        return self.pairs.tasks(("instructions", *answers, *(f"annotations/{name}" for name in read)))


def make(section: Make, executor: Executor, recipe_folder: Path, on_step: Callable[[Tally], None]) -> dict[str, Tally]:
    """Carry the section out; what each step came to, by name. `on_step` hears of each step as it ends."""
    tasks = section.tasks(recipe_folder)
    _require_engines(section, executor.use.engines)
    tallies = {"prompts": _store_prompts(section, executor, recipe_folder, on_step)}
    on_step(tallies["prompts"])
    _require_rows(tallies["prompts"])
    for task in tasks:
        tally = executor.run(task, [tallies[name].shards for name in task.after])
        tallies[task.name] = tally
        on_step(tally)
        if not task.step.may_be_empty:
            _require_rows(tally)
    return tallies


def check(section: Make, engines: Mapping[str, Engine], recipe_folder: Path) -> str:
    """What the prompts come to, in a line; a UserError where they, or files that steps read, are wrong. Needs no torch."""
    section.tasks(recipe_folder)
    painter = engines.get(section.images.engine) if section.images else None
    prompts, said = _source(section).foreseen(recipe_folder, painter)
    if prompts is None or section.instructions is None:
        return said
    return "; ".join(filter(None, [said, section.instructions.foreseen(prompts, recipe_folder)]))


def _source(section: Make) -> PromptSource:
    if section.prompts is None:
        raise RecipeError("make", "nothing to start from", "add make.prompts, for example {kind: file, path: prompts.txt}")
    return section.prompts


def _store_prompts(section: Make, executor: Executor, folder: Path, on_step: Callable[[Tally], None]) -> Tally:
    """Get, check and store the prompts, before anything is painted."""
    painter = executor.use.engines.sections[section.images.engine] if section.images else None
    prompts, dropped = _source(section).obtain(executor, folder, painter, on_step)
    shards = executor.store.source("prompts", "prompts", prompts, dropped, executor.execution.shard_size)
    return tally_of(executor.store, "prompts", shards)


def _require_engines(section: Make, engines: Engines) -> None:
    """RecipeError before the first step where a later one names an engine that is missing, or a model that is not shipped."""
    for place, name, role in section.engine_roles():
        engine = engines.section(name, role, place)
        if not engine.served:
            locate(engine.model)


def _require_rows(tally: Tally) -> None:
    if tally.rows == 0:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(tally.dropped.items())) or "no rows came in"
        raise DataError(
            tally.name, f"nothing is left after this step ({reasons})", "loosen what drops the rows, or bring other prompts"
        )
