"""From prompts, or pictures of your own, to preference pairs: the recipe's make section, and the verb that carries it out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.engines import Engine, Engines
from sightline.engines.weights import locate
from sightline.errors import DataError, RecipeError
from sightline.execute import Executor, Tally, Task, Watch, tally_of, watched
from sightline.files import Counts
from sightline.make.annotators import ANNOTATORS
from sightline.make.images import Images
from sightline.make.instructions import INSTRUCTIONS
from sightline.make.pairs import PAIRS
from sightline.make.pictures import Pictures
from sightline.make.prompts import PROMPTS, PromptSource
from sightline.make.ranking import Ranking
from sightline.make.responses import Responses
from sightline.plugin import Section, suggest
from sightline.rows import Dropped

if TYPE_CHECKING:
    from sightline.make.annotators import Annotator as AnyAnnotator
    from sightline.make.instructions import InstructionSource as AnyInstructions
    from sightline.make.pairs import AnswerPolicy as AnyPairs
    from sightline.make.prompts import PromptSource as AnyPrompts
else:
    AnyPrompts, AnyInstructions = PROMPTS.section(), INSTRUCTIONS.section()
    AnyAnnotator, AnyPairs = ANNOTATORS.section(), PAIRS.section()

ORDER = ("prompts", "images", "ranking", "instructions", "responses", "annotations", "pairs")
FROM_PICTURES = ("pictures", *ORDER[3:])
SECTIONS = {"replies": "", "splits": "annotations", "judgements": "annotations"}
"""Where the recipe names the engines of steps of raw replies: splits/claims is of annotations.claims, replies/instructions of
instructions."""


class Make(Section):
    """Prompts, or pictures of your own, to pairs. A run may stop after any step: leave out those after it."""

    prompts: AnyPrompts | None = None
    """What pictures shall show."""
    pictures: Pictures | None = None
    """Pictures of your own in place of prompts, images and ranking; a table may bring instructions and answers, too."""
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
        """The steps after the first, in order. Files that steps need are read from `folder`; without one they are not."""
        self._check_order()
        tasks = []
        if self.images:
            tasks.append(Task("images", self.images, ("prompts",)))
        if self.ranking:
            tasks.append(Task("ranking", self.ranking, ("images",)))
        if self.pictures:
            tasks += self.pictures.tasks(self.instructions)
        elif self.instructions:
            tasks += self.instructions.tasks(folder)
        tasks += self.responses.tasks() if self.responses else []
        answers = tuple(task.name for task in tasks if task.name.startswith("responses/"))
        self._check_names(answers)
        return [*tasks, *self._annotation_tasks(answers, folder), *self._pair_tasks(answers)]

    @property
    def table_asks(self) -> bool:
        """Whether instructions are read from the table of pictures of one's own."""
        return bool(self.pictures and self.pictures.table and not self.instructions)

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
        order = FROM_PICTURES if self.pictures else ORDER
        given = {"instructions": self.table_asks, "responses": bool(self.pictures and self.pictures.answers)}
        for name in ORDER:
            if getattr(self, name) and name not in order:
                fix = f"leave out make.{name}, or else make.pictures"
                raise RecipeError(f"make.{name}", "this recipe starts from pictures of your own, not from prompts", fix)
        present = [name for name in order if getattr(self, name) or given.get(name)]
        for name, before in zip(present, [None, *present], strict=False):
            needed = order[order.index(name) - 1] if name != order[0] else None
            if needed != before:
                raise RecipeError(f"make.{name}", f"this step needs '{needed}', which the recipe lacks", f"add make.{needed}")

    def _check_names(self, answers: tuple[str, ...]) -> None:
        twice = [name.partition("/")[2] for name, count in Counter(answers).items() if count > 1]
        if twice:
            problem = f"'{twice[0]}' answers in make.responses, too"
            raise RecipeError("make.pictures.answers", problem, "give one of them another name")

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
    first = (
        _store_pictures(section.pictures, section.table_asks, executor, recipe_folder)
        if section.pictures
        else _store_prompts(section, executor, recipe_folder, on_step)
    )
    tallies = {first.name: first}
    on_step(first)
    _require_rows(first)
    for task in tasks:
        tally = executor.run(task, [tallies[name].shards for name in task.after])
        tallies[task.name] = tally
        on_step(tally)
        if not task.step.may_be_empty:
            _require_rows(tally)
    return tallies


def check(section: Make, engines: Mapping[str, Engine], recipe_folder: Path, watch: Watch) -> tuple[str, list[Dropped]]:
    """What the prompts, or pictures of one's own, come to, in a line, and which of these are refused; a UserError where they, or
    files that steps read, are wrong. Nothing is stored. Needs no torch."""
    section.tasks(recipe_folder)
    if section.pictures:
        return _look(section.pictures, recipe_folder, section.table_asks, watch)
    painter = engines.get(section.images.engine) if section.images else None
    prompts, said = _source(section).foreseen(recipe_folder, painter)
    if prompts is None or section.instructions is None:
        return said, []
    return "; ".join(filter(None, [said, section.instructions.foreseen(prompts, recipe_folder)])), []


def _look(source: Pictures, folder: Path, asked: bool, watch: Watch) -> tuple[str, list[Dropped]]:
    counts, refused = Counts(), []
    for row in counts.through(watched(source.read(folder, None, asked), watch, "read pictures")):
        if isinstance(row, Dropped):
            refused.append(row)
    told = f"{counts.rows:,} rows about {len(counts.pictures):,} pictures, {len(refused):,} left out"
    return f"pictures {source.place()}: {told}", refused


def _source(section: Make) -> PromptSource:
    if section.prompts is None:
        raise RecipeError(
            "make", "nothing to start from", "add make.prompts, for example {kind: file, path: prompts.txt}, or make.pictures"
        )
    return section.prompts


def _store_pictures(source: Pictures, asked: bool, executor: Executor, folder: Path) -> Tally:
    """Read and store the user's pictures, and what a table says of them."""
    rows = watched(source.read(folder, executor.store, asked), executor.watch, "pictures")
    shards = executor.store.sort_in("pictures", "pictures", rows, executor.execution.shard_size)
    return tally_of(executor.store, "pictures", shards)


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
        raise DataError(tally.name, f"nothing is left after this step ({reasons})", "loosen what drops the rows, or bring others")
