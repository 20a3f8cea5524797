"""Benchmarks: what a model says of pictures whose truth is known, before and after training, with intervals."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from sightline.engines import ENGINES, Engine
from sightline.engines.roles import Decoding
from sightline.engines.weights import MINIATURE, locate_data
from sightline.errors import DataError, RunError
from sightline.eval.answer_files import read_texts
from sightline.eval.answering import Answering
from sightline.eval.bridge import LmmsEval
from sightline.eval.compare import Metric, Score
from sightline.eval.judging import Judging, judge_of
from sightline.eval.results import NUM_EXAMPLES, Line, Outcome, Results, Sheet, examples, measure, outcome
from sightline.execute import Executor, Tally, Task, tally_of
from sightline.files import Refused
from sightline.files.pictures import Album
from sightline.plugin import Plugin, Section, Table
from sightline.rows import Answer, Item
from sightline.store.address import digest, seed_from
from sightline.store.shards import Shard, Store

if TYPE_CHECKING:
    from sightline.eval.judged import Judged

__all__ = ["BENCHMARKS", "Answering", "Benchmark", "Eval", "Line", "Outcome", "Question", "Results", "evaluate"]

BENCHMARKS = Table(
    "benchmarks",
    {
        "pope": "sightline.eval.pope:Pope",
        "chair": "sightline.eval.chair:Chair",
        "object_halbench": "sightline.eval.object_halbench:ObjectHalBench",
        "alt_text": "sightline.eval.alt_text:AltText",
        "mmbench": "sightline.eval.mmbench:MMBench",
        "scienceqa": "sightline.eval.scienceqa:ScienceQa",
        "vqav2": "sightline.eval.vqav2:VqaV2",
        "textvqa": "sightline.eval.textvqa:TextVqa",
        "amber": "sightline.eval.amber:Amber",
        "mme": "sightline.eval.mme:Mme",
        "hallusionbench": "sightline.eval.hallusionbench:HallusionBench",
        "mmhal": "sightline.eval.mmhal:MMHal",
        "mm_vet": "sightline.eval.mm_vet:MMVet",
        "llava_bench": "sightline.eval.llava_bench:LlavaBench",
        "mt_bench": "sightline.eval.mt_bench:MTBench",
    },
)


@dataclass(frozen=True)
class Question:
    """What a benchmark asks, under its own name for it. `group` names the picture; `target` is whatever scoring needs."""

    id: str
    group: str
    picture: Path | bytes | None
    text: str
    target: Any
    after: str | None = None
    """Id of the question that is asked before it in one conversation; both are of one group."""

    def item(self, pictures: list[str]) -> Item:
        """The question as a row, with the stored names of its pictures."""
        return Item(
            id=digest(self.id, self.group, pictures, self.text),
            key=self.group,
            group=self.group,
            question_id=self.id,
            question=self.text,
            pictures=pictures,
            target=json.dumps(self.target),
            after=self.after,
        )


class Benchmark(Plugin):
    """A benchmark's recipe section. A subclass says what is asked, what an answer is worth, and which numbers come of it."""

    origin: ClassVar[str] = ""
    """Where a user gets its files, which they are, and under what licence."""
    answer_ids: ClassVar[Sequence[str]] = ("question_id", "id")
    """Names that a question's id may have in a file of answers."""
    answer_texts: ClassVar[Sequence[str]] = ("answer", "text", "response", "prediction")
    """Names that an answer may have in it."""
    picture_folder: ClassVar[str] = "pictures"
    """Where its pictures are in the data folder, if the recipe does not say."""
    version: ClassVar[int] = 1
    """Raised when the same answers would now be scored otherwise."""

    name: str = Field("", pattern=r"^[A-Za-z0-9._-]*$")
    """Names its rows and results; its kind where none is given. Two benchmarks of one kind need two names."""
    data: str
    """Folder of the benchmark's files, or one of them; miniature/heldout are the scenes that are shipped."""
    pictures: str | None = None
    """Folder of its pictures; `pictures` in the data folder where none is given."""
    decoding: Decoding = Decoding()
    """How the model answers: greedy unless a temperature is given. The length limit is part of the score of a description."""
    rule: str = "published"
    """How answers are read."""
    suffixed: bool = True
    """Add the evaluation's suffix to the aligned model's questions here. Rows that teach descriptions spoil yes and no."""

    @property
    def title(self) -> str:
        return self.name or self.kind

    def engine_roles(self) -> dict[str, str]:
        """Engines of the recipe that scoring needs: name -> role."""
        return {}

    def questions(self, place: Path) -> list[Question]:
        """What is asked, in the order of the benchmark's files."""
        raise NotImplementedError

    def scores(self, place: Path, items: Sequence[Item], answers: Sequence[Answer]) -> list[Score]:
        """What each answer adds to the counts, in the order of the items."""
        raise NotImplementedError

    def metrics(self) -> list[Metric]:
        """The numbers, the most important first."""
        raise NotImplementedError

    def terms(self, place: Path) -> dict[str, Any]:
        """What decides a score besides the items: runs that differ in any of it are not compared.

        All settings but names and places. A benchmark whose scores hang on more (a list of words, a judge) adds that.
        """
        settings = self.model_dump(mode="json", exclude={"name", "data", "pictures", "suffixed"})
        return {**settings, "version": self.version}

    def read_answers(self, path: Path, questions: Sequence[Question]) -> list[str]:
        """Someone else's answers, in the order of the questions; DataError where they are not answers to all of them."""
        return read_texts(path, [question.id for question in questions], self.answer_ids, self.answer_texts)

    def picture(self, place: Path, name: str) -> Path:
        """File of a picture that the benchmark's files name."""
        folder = place if place.is_dir() else place.parent
        return (folder / self.picture_folder if self.pictures is None else Path(self.pictures)) / name


class Eval(Section):
    """What is measured, on which model."""

    benchmarks: list[BENCHMARKS.section()] = []  # type: ignore[valid-type]
    """What to run."""
    lmms_eval: LmmsEval | None = None
    """Tasks of lmms-eval, in an environment of yours that has it."""
    model: str | None = None
    """Model folder, hub name or miniature/<name>; the one that the recipe trains where none is given."""
    adapter: str | None = None
    """Adapter to compare with the model as it is; the one that the recipe trains where none is given."""
    engines: dict[Literal["base", "aligned"], str] = {}
    """Engines of the recipe that answer instead, such as a server's: base, and aligned where there are two to compare. Nothing is
    trained for that."""
    asked: dict[str, Annotated[int, Field(ge=0, le=4)]] = {}
    """Levels that are asked of a model that learned attributes (`make.pairs` of kind steerlm), by attribute; 4, the best, for
    those that are not named."""
    suffix: str | None = None
    """Added to each question for the aligned model, and for it alone. Absent: what the recipe's rows taught it to read."""
    batch_size: int = Field(32, ge=1)
    """Questions that go through the model at once."""
    draws: int = Field(2000, ge=100)
    """Resamples behind each interval."""
    seed: int = Field(0, ge=0)
    """Of the resamples, of the pictures that a limit leaves, and of the examples."""
    limit: int | None = Field(None, ge=1)
    """Ask about this many pictures only: for a quick look. All benchmarks on the same pictures get the same ones."""
    shard_size: int = Field(64, ge=1)
    """About how many pictures' answers are stored at once."""

    @model_validator(mode="after")
    def _measures_something(self) -> Self:
        if not self.benchmarks and self.lmms_eval is None:
            raise PydanticCustomError("nothing", "nothing is measured", {"fix": "add benchmarks, or tasks of lmms_eval"})
        return self

    @model_validator(mode="after")
    def _answers_are_of_one_origin(self) -> Self:
        if not self.engines:
            return self
        if "base" not in self.engines:
            raise PydanticCustomError("no_base", "aligned is compared with base", {"fix": "name the engine of base, too"})
        for name in ("model", "adapter", "lmms_eval"):
            if getattr(self, name) is not None:
                problem = "the engines answer, and {name} would have others answer"
                raise PydanticCustomError("conflict", problem, {"name": name, "fix": f"leave out engines or {name}"})
        return self

    @model_validator(mode="after")
    def _asked_once(self) -> Self:
        if self.asked and self.suffix is not None:
            raise PydanticCustomError("conflict", "asked writes the suffix", {"fix": "leave out asked or suffix"})
        return self

    @model_validator(mode="after")
    def _titles_differ(self) -> Self:
        titles = [benchmark.title for benchmark in self.benchmarks]
        twice = [title for title in titles if titles.count(title) > 1]
        if twice:
            context = {"name": twice[0], "fix": "give one of them a name"}
            raise PydanticCustomError("same_name", "two benchmarks are named '{name}'", context)
        return self

    def models(self, trained: str | None = None, adapter: str | None = None) -> dict[str, Engine]:
        """Who answers: `base`, and `aligned` where there is an adapter. The section's own model and adapter go first."""
        model = self.model or trained
        if model is None:
            return {}
        chosen = {"base": None, "aligned": self.adapter or adapter}
        section = {"kind": "transformers", "model": model, "batch_size": self.batch_size}
        return {who: ENGINES.read({**section, "adapter": put}) for who, put in chosen.items() if who == "base" or put}


def evaluate(
    section: Eval,
    executor: Executor,
    models: Mapping[str, Engine],
    on_step: Callable[[Tally], None] | None = None,
    folder: Path | None = None,
) -> Results:
    """Every model's numbers on every benchmark; of two models also the second's less the first's. Paths may start in `folder`."""
    asked = {benchmark.title: _ask(section, benchmark, executor, on_step, folder) for benchmark in section.benchmarks}
    # a model's benchmarks follow each other, so that it is loaded once
    answered = {
        who: {title: _answer(who, engine, found, executor, on_step) for title, found in asked.items()}
        for who, engine in models.items()
    }
    _require_answers([tally for tallies in answered.values() for tally in tallies.values()])
    outcomes, shown = [], []
    for title, found in asked.items():
        sheets = {who: _score(section, found, who, answered[who][title], executor, on_step) for who in models}
        terms = found.benchmark.terms(found.place)
        for who, sheet in sheets.items():
            _keep(f"scores/{title}-{who}", terms, sheet, executor.store, section.shard_size, on_step)
        seed = seed_from(section.seed, title)
        lines = measure(found.benchmark.metrics(), sheets, section.draws, seed)
        told = outcome(title, found.benchmark.kind, found.benchmark.rule, lines, found.items, sheets)
        judge = _judge(found.benchmark, executor)
        outcomes.append(replace(told, suffix=found.suffix if "aligned" in models else "", terms=terms, judge=judge))
        shown += examples(title, found.items, sheets, NUM_EXAMPLES, seed)
    return Results(outcomes, shown, section.seed, section.draws)


@dataclass(frozen=True)
class _Asked:
    """A benchmark's items, stored, and what is added to them for the aligned model."""

    benchmark: Benchmark
    place: Path
    items: list[Item]
    shards: list[Shard]
    suffix: str


def _ask(
    section: Eval, benchmark: Benchmark, executor: Executor, on_step: Callable[[Tally], None] | None, folder: Path | None
) -> _Asked:
    place = located(benchmark, folder)
    questions = limited(benchmark.questions(place), section.limit, section.seed)
    if not questions:
        raise DataError(str(place), f"{benchmark.title} asks nothing here", "give a data folder with questions")
    items = list(_items(questions, executor.store))
    if judged := _judged(benchmark):
        judged.prompts(items, [""] * len(items))  # what it lacks to ask a judge is told before a model answers
    name = f"items/{benchmark.title}"
    shards = executor.store.source(name, benchmark.kind, items, [], section.shard_size)
    if on_step:
        on_step(tally_of(executor.store, name, shards))
    return _Asked(benchmark, place, items, shards, (section.suffix or "") if benchmark.suffixed else "")


def located(benchmark: Benchmark, folder: Path | None = None) -> Path:
    """Where a benchmark's data is; DataError that says where to get it where it is not."""
    try:
        return locate_data(benchmark.data, folder)
    except DataError as error:
        of_ours = benchmark.data.startswith(MINIATURE)
        fix = error.fix if of_ours else f"set the benchmark's data to its place. {_origin(benchmark)}"
        raise DataError(f"benchmark {benchmark.title}, data {error.where}", error.problem, fix) from error


def look(section: Eval, benchmark: Benchmark, folder: Path | None = None) -> str:
    """What a benchmark asks, in a line; a UserError where its data, its pictures or a package is missing. Nothing is stored."""
    questions = limited(benchmark.questions(located(benchmark, folder)), section.limit, section.seed)
    pictures = {question.picture for question in questions if isinstance(question.picture, Path)}
    lacking = sorted(picture for picture in pictures if not picture.is_file())
    if lacking:
        more = f", nor {len(lacking) - 1:,} more of {len(pictures):,}" if len(lacking) > 1 else ""
        fix = f"set the benchmark's pictures to their folder. {_origin(benchmark)}"
        raise DataError(f"benchmark {benchmark.title}, pictures", f"{lacking[0]} is not here{more}", fix)
    groups = len({question.group for question in questions})
    return f"benchmark {benchmark.title}: {len(questions):,} questions about {groups:,} pictures"


def _origin(benchmark: Benchmark) -> str:
    return " ".join(benchmark.origin.split())


def limited(questions: Sequence[Question], limit: int | None, seed: int) -> list[Question]:
    """The questions about `limit` pictures, chosen by their names, so that benchmarks of the same pictures keep the same."""
    groups = sorted({question.group for question in questions}, key=lambda group: digest(seed, group))[:limit]
    kept = set(groups)
    return [question for question in questions if question.group in kept]


def _items(questions: Sequence[Question], store: Store) -> Iterator[Item]:
    stored: dict[Path, str] = {}
    for question in questions:
        picture = question.picture
        if picture is None:
            yield question.item([])
        elif isinstance(picture, bytes):
            yield question.item([_stored(picture, question.group, store)])
        else:
            if picture not in stored:
                stored[picture] = _stored(picture, str(picture), store)
            yield question.item([stored[picture]])


def _stored(picture: Path | bytes, name: str, store: Store) -> str:
    """The stored name of a benchmark's picture, which must decode: whoever finds a picture in the store relies on that."""
    try:
        if isinstance(picture, bytes):
            return Album(Path(), store).keep(picture, name)
        return Album(picture.parent, store).take(picture.name)
    except Refused as refused:
        problem = f"the benchmark asks about this picture, and it cannot be used: {refused.reason}"
        raise DataError(name, problem, "set the benchmark's pictures to their folder, or fetch them again") from refused


def _answer(who: str, engine: Engine, asked: _Asked, executor: Executor, on_step: Callable[[Tally], None] | None) -> Tally:
    # by its identity: a worker that holds another model under the same name would go on with that one
    name = f"evaluated/{who}-{digest(engine.identity())[:8]}"
    executor.use.engines.sections[name] = engine
    suffix = asked.suffix if who == "aligned" else ""
    step = Answering(engine=name, decoding=asked.benchmark.decoding, suffix=suffix)
    items = f"items/{asked.benchmark.title}"
    tally = executor.run(Task(f"answers/{asked.benchmark.title}-{who}", step, (items,)), [asked.shards])
    if on_step:
        on_step(tally)
    return tally


def _require_answers(tallies: Sequence[Tally]) -> None:
    """RunError where questions have no answer: a part of a benchmark is no score of it."""
    owed = [tally for tally in tallies if tally.dropped]
    if owed:
        told = [f"{count} of {tally.name}: {reason}" for tally in owed for reason, count in sorted(tally.dropped.items())]
        number = sum(sum(tally.dropped.values()) for tally in owed)
        fix = "run the same command again: these alone are asked again, what was answered is stored"
        raise RunError("eval", f"{number} questions have no answer ({'; '.join(told)})", fix)


def _score(
    section: Eval, asked: _Asked, who: str, tally: Tally, executor: Executor, on_step: Callable[[Tally], None] | None
) -> Sheet:
    answers = {answer.item_id: answer for shard in tally.shards for answer in executor.store.read(shard)}
    ordered = [answers[item.id] for item in asked.items]
    if judged := _judged(asked.benchmark):
        judging = Judging(executor, section.shard_size, on_step)
        return Sheet(ordered, judging.scores(judged, asked.place, who, asked.items, ordered))
    return Sheet(ordered, asked.benchmark.scores(asked.place, asked.items, ordered))


def _keep(
    name: str, terms: dict[str, Any], sheet: Sheet, store: Store, shard_size: int, on_step: Callable[[Tally], None] | None
) -> None:
    """Store the scores: runs are compared by them, where the benchmark's files may be out of reach."""
    shards = store.source(name, terms, sheet.rows(), [], shard_size)
    if on_step:
        on_step(tally_of(store, name, shards))


def _judged(benchmark: Benchmark) -> Judged | None:
    """The benchmark where a judge is asked about its answers; RecipeError where it lacks one."""
    from sightline.eval.judged import Judged  # it builds on this module

    return benchmark if isinstance(benchmark, Judged) and benchmark.engine_roles() else None


def _judge(benchmark: Benchmark, executor: Executor) -> dict[str, Any] | None:
    """Who judges, and how, where a judge does."""
    judged = _judged(benchmark)
    return judge_of(judged, executor) if judged else None
