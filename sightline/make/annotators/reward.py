"""A reward model's opinion of an answer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from sightline.errors import RunError
from sightline.execute import Use
from sightline.make.annotators import Annotator, Asking, Reading
from sightline.rows import Annotation, Judgement, Response
from sightline.store.address import digest

SCORE = "score"


class Reward(Annotator):
    """Score each answer with a text reward model. It reads the instruction and the answer; it never sees the picture."""

    sees_picture: ClassVar[bool] = False

    scorer: str
    """Engine that scores; needs the text_scorer role."""

    def engine_roles(self) -> dict[str, str]:
        return {self.scorer: "text_scorer"}

    def asking(self, name: str, folder: Path | None) -> Asking:
        return RewardAsking(name=name, scorer=self.scorer)

    def reading(self, name: str, folder: Path | None = None) -> Reading:
        return RewardReading(name=name)


class RewardAsking(Asking):
    """One judgement an answer: the scalar, and the objectives and gates it was made of."""

    scorer: str

    def engine_roles(self) -> dict[str, str]:
        return {self.scorer: "text_scorer"}

    def ask(self, use: Use, responses: list[Response]) -> Iterator[Judgement]:
        origin = use.engines.origin(self.scorer)
        scorer = use.engines.use(self.scorer, "text_scorer")
        scores = scorer.score([(response.instruction, response.text) for response in responses])
        for response, scored in zip(responses, scores, strict=True):
            numbers = {SCORE: scored.score, **scored.numbers}
            if not all(math.isfinite(number) for number in numbers.values()):
                raise RunError(
                    f"judgements/{self.name}", f"'{self.scorer}' scored an answer with NaN", "try dtype: float32 for this engine"
                )
            yield Judgement(
                id=digest("judgement", self.name, response.id),
                key=response.key,
                response_id=response.id,
                annotator=self.name,
                question=response.instruction,
                reply="",
                numbers=numbers,
                origin=origin,
            )


class RewardReading(Reading):
    """The scalar is the score; the other numbers are its aspects."""

    def read(self, response: Response, judgements: list[Judgement]) -> Annotation:
        numbers = dict(judgements[0].numbers)
        return Annotation(
            id=digest("annotation", self.name, response.id),
            key=response.key,
            response_id=response.id,
            annotator=self.name,
            score=numbers.pop(SCORE),
            aspects=numbers,
            sees_picture=Reward.sees_picture,
        )
