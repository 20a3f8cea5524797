"""What annotators share: one step that asks and keeps the raw replies, another that only reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from sightline.execute import Step, Task, Use
from sightline.plugin import Plugin, Table
from sightline.rows import Annotation, Dropped, Judgement, Response

ANNOTATORS = Table(
    "annotators",
    {
        "reward": "sightline.make.annotators.reward:Reward",
        "claims": "sightline.make.annotators.claims:Claims",
        "judge": "sightline.make.annotators.judge:Judge",
    },
)


class Annotator(Plugin):
    """Thinks something of every answer. Its recipe section; `name` is the recipe's name for it."""

    sees_picture: ClassVar[bool]

    def engine_roles(self) -> dict[str, str]:
        """Engines this annotator asks: name -> role."""
        raise NotImplementedError

    def asking(self, name: str, folder: Path | None) -> Asking:
        """The step that asks. Files are read from `folder`; without one they are not, which is enough for names and roles."""
        raise NotImplementedError

    def reading(self, name: str, folder: Path | None = None) -> Reading:
        """The step that turns raw replies into annotations, without an engine. `folder` as above."""
        raise NotImplementedError

    def tasks(self, name: str, folder: Path | None, answers: tuple[str, ...]) -> list[Task]:
        """This annotator's steps, which take the answers of those steps; the last of them is `annotations/<name>`."""
        asking = Task(f"judgements/{name}", self.asking(name, folder), answers)
        return [asking, Task(f"annotations/{name}", self.reading(name, folder), (*answers, asking.name))]


class Asking(Step):
    """Asks about answers and keeps every reply as it came."""

    name: str

    def ask(self, use: Use, responses: list[Response]) -> Iterable[Judgement | Dropped]:
        raise NotImplementedError

    def make(self, use: Use, *inputs: list[Any]) -> Iterable[Judgement | Dropped]:
        return self.ask(use, [response for responses in inputs for response in responses])


class Reading(Step):
    """Reads raw replies into one annotation an answer. Raise its `version` for a better reading: nothing is asked again."""

    name: str

    def read(self, response: Response, judgements: list[Judgement]) -> Annotation:
        raise NotImplementedError

    def make(self, use: Use, *inputs: list[Any]) -> Iterator[Annotation]:
        *answers, judgements = inputs
        about: dict[str, list[Judgement]] = {}
        for judgement in judgements:
            about.setdefault(judgement.response_id, []).append(judgement)
        for responses in answers:
            for response in responses:
                yield self.read(response, about.get(response.id, []))
