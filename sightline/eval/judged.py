"""Benchmarks that ask a judge about each answer, and those whose answers it rates: it is told in words what a picture shows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from sightline.engines.roles import Decoding
from sightline.errors import DataError, RecipeError
from sightline.eval import Benchmark, Question
from sightline.eval.compare import Metric, Score, Sums
from sightline.rows import Answer, Item
from sightline.store.address import digest

HUGE = 1e9
"""Python reads '1e999' as a number, too; what no judge can mean is no rating, so that sums stay finite."""
NO_REPLY = "no reply of the judge could be read"


class Judged(Benchmark):
    """Ask a model, and a judge about its answers. The judge's replies are stored as they came; scores are read off them.

    A reply that could not be had gives no score, whatever the rule; one that cannot be read is counted as unreadable.
    """

    forms: ClassVar[tuple[str, ...]]
    """What the judge is asked, its blanks unfilled. Results under other words are not compared."""

    retries: ClassVar[Sequence[float]] = ()
    """How much warmer than `judging` the judge is each time that it is asked again, because its reply could not be read."""
    retry_form: ClassVar[str] = ""
    """What the prompt ends with then; one of the forms."""

    judge: str = ""
    """Engine that judges; needs the text_chat role. There is none where its replies come from a file (`sightline score`)."""
    judging: Decoding = Decoding(max_tokens=1024)
    """How the judge picks its words."""

    @property
    def num_runs(self) -> int:
        """Times that the judge is asked about each answer."""
        return 1

    def engine_roles(self) -> dict[str, str]:
        """The judge's. None where no judge is asked; RecipeError where one should be and is not named."""
        if not self.judge:
            raise RecipeError(f"eval, {self.title}", "it names no judge", "set its judge to an engine of the recipe")
        return {self.judge: "text_chat"}

    def prompts(self, items: Sequence[Item], answers: Sequence[str]) -> Sequence[str | None]:
        """What the judge is asked about each answer; None where it is asked nothing."""
        raise NotImplementedError

    def replied(self, answer: Answer, reply: Answer | None) -> Answer:
        """What `scores` reads of an answer and the judge's reply about it, which is None where it was asked nothing.

        A reply that could not be had has the finish 'error'.
        """
        raise NotImplementedError

    def can_read(self, reply: str) -> bool:
        """False where the judge is to be asked again."""
        return True

    def prompt_digest(self) -> str:
        """Stands for the words that the judge is asked with."""
        return digest(self.forms)[:16]


class Rated(Judged):
    """Have a judge rate every answer."""

    fallback: ClassVar[Any]
    """What the published script makes of a reply that it cannot read; None where it leaves the reply out."""
    picture_folder: ClassVar[str] = "images"

    pictures: str | None = None
    """Folder of its pictures; `images` in the data folder where none is given."""
    repeats: int = Field(1, ge=1, le=20)
    """Times that the judge is asked about each answer. The scores of all times are averaged, and their spread is told."""
    rule: Literal["published", "clean"] = "published"
    """published: as the original script, quirks included. clean: a reply without exactly one valid rating is left out."""

    @property
    def num_runs(self) -> int:
        return self.repeats

    def replied(self, answer: Answer, reply: Answer | None) -> Answer:
        assert reply is not None  # it is asked about every answer
        return reply

    def can_read(self, reply: str) -> bool:
        return self.published(reply) is not None

    def published(self, reply: str) -> Any:
        """The rating that the original script reads; None where it finds none."""
        raise NotImplementedError

    def clean(self, reply: str) -> Any:
        """The one valid rating of the reply; None where there is none, or another one beside it."""
        raise NotImplementedError

    def counted(self, target: Any, value: Any) -> dict[str, float]:
        """What a rating adds to the counts."""
        raise NotImplementedError

    def numbers(self) -> list[Metric]:
        """The benchmark's own metrics, the most important first."""
        raise NotImplementedError

    def scores(self, place: Path, items: Sequence[Item], answers: Sequence[Answer]) -> list[Score]:
        """`answers` are the judge's replies here; one that could not be had has the finish 'error'."""
        return [self._score(item, answer) for item, answer in zip(items, answers, strict=True)]

    def metrics(self) -> list[Metric]:
        numbers = self.numbers()
        return [*numbers, _spread(numbers[0], self.repeats)] if self.repeats > 1 else numbers

    def _score(self, item: Item, answer: Answer) -> Score:
        if answer.finish == "error":
            return Score(item.id, item.group, {"unjudged": 1})
        is_published, clean = self.rule == "published", self.clean(answer.text)
        read = self.published(answer.text) if is_published else clean
        value = self.fallback if read is None and is_published else read
        counts = {} if value is None else self.counted(json.loads(item.target), value)
        return Score(item.id, item.group, {**counts, "unreadable": read is None}, guessed=value != clean)


def data_file(place: Path, *names: str) -> Path:
    """The place where it is a file, else the first of these that it holds."""
    if place.is_file():
        return place
    found = next((place / name for name in names if (place / name).is_file()), None)
    if found is None:
        raise DataError(str(place), f"no {' or '.join(names)} is here", "`sightline eval --help` says where it is to be had")
    return found


def field(record: Mapping[str, Any], name: str, kind: type, where: str) -> Any:
    """A record's field; DataError where it is missing or of another kind."""
    if not isinstance(record.get(name), kind):
        wanted = {str: "text", list: "a list", dict: "a record", int: "a number"}[kind]
        said = repr(record[name])[:60] if name in record else "missing"
        raise DataError(where, f"'{name}' is {said}, not {wanted}", "check that this is the benchmark's own file")
    return record[name]


def named_once(place: Path, questions: list[Question]) -> list[Question]:
    """The questions; DataError where two have one name, or there are none."""
    names = Counter(question.id for question in questions)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise DataError(str(place), f"question {twice[0]} stands here {names[twice[0]]} times", "get the benchmark's file again")
    if not questions:
        raise DataError(str(place), "no questions are here", "get the benchmark's file again")
    return questions


def _spread(headline: Metric, repeats: int) -> Metric:
    """Standard deviation of the headline over the judge's runs (of these runs, as NumPy's std and MM-Vet's script)."""

    def value(sums: Sums) -> np.ndarray:
        return np.std([headline.of(_Run(sums, number)) for number in range(repeats)], axis=0)

    return Metric(f"spread of {headline.name}", value, headline.items, None, headline.unit, undefined=headline.undefined)


class _Run(Mapping[str, np.ndarray]):
    """The sums of one run of the judge."""

    def __init__(self, sums: Sums, number: int) -> None:
        self.sums, self.number = sums, number

    def __getitem__(self, column: str) -> np.ndarray:
        return self.sums[f"{column} #{self.number}"]

    def __iter__(self) -> Any:
        return (name for name in self.sums if name.endswith(f" #{self.number}"))

    def __len__(self) -> int:
        return sum(1 for _ in self)
