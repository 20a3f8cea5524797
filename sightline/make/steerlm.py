"""SteerLM: every answer is learned, together with what was measured of it (Dong et al., 2023; with pictures, mllm-dpo)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Annotated

from pydantic import AfterValidator, Field, field_validator
from pydantic_core import PydanticCustomError

from sightline.errors import RecipeError
from sightline.make.pairs import AnswerPolicy, Standing, row_to_learn
from sightline.plugin import Section, suggest
from sightline.rows import Dropped, Instruction, Pair, Response

LEVELS = 5
"""A Likert scale: 0 is the worst, 4 the best."""


def _in_order(cuts: list[float]) -> list[float]:
    steps = [after - before for before, after in pairwise(cuts)]
    if not (all(step > 0 for step in steps) or all(step < 0 for step in steps)):
        fix = "write the least value of levels 1 to 4; where less is better, the greatest"
        raise PydanticCustomError("no_order", "the cuts neither rise nor fall", {"fix": fix})
    return cuts


class Attribute(Section):
    """A property of answers on a scale from 0 to 4."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z _-]*$")
    """As the model reads it."""
    annotator: str
    """Who measures it."""
    aspect: str | None = None
    """One of the numbers that the annotator gives beside its score, such as the `rejected` of claims; absent: the score."""
    cuts: Annotated[list[float], Field(min_length=LEVELS - 1, max_length=LEVELS - 1), AfterValidator(_in_order)]
    """The four values that an answer has to reach for levels 1, 2, 3 and 4; where they fall, less is better."""

    @property
    def measure(self) -> str:
        return self.annotator if self.aspect is None else f"{self.annotator}.{self.aspect}"

    def level(self, value: float) -> int:
        """How many cuts the measured value reaches."""
        return sum(value >= cut if self.cuts[0] < self.cuts[-1] else value <= cut for cut in self.cuts)


class SteerLM(AnswerPolicy):
    """A row for every answer: the instruction with the attributes as they were measured, to be learned by itself (objective sft).

    When the trained model is evaluated, the same words ask for the levels of `eval.asked`: the best, where it names none.
    """

    attributes: list[Attribute] = Field(min_length=1)
    """What is measured, in the order in which the model reads it."""
    request: str = Field("Answer with these attributes in 5-point Likert scale:", min_length=1)
    """Stands between the instruction and the attributes, which read Helpfulness:4,Correctness:3."""

    @field_validator("attributes")
    @classmethod
    def _names_differ(cls, attributes: list[Attribute]) -> list[Attribute]:
        names = [attribute.name for attribute in attributes]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise PydanticCustomError("same_name", "two attributes are named '{name}'", {"name": twice[0], "fix": "rename one"})
        return attributes

    def measures(self) -> list[str]:
        return [attribute.measure for attribute in self.attributes]

    def standing(self, response: Response, scores: dict[str, float]) -> Standing:
        levels = {one.name: float(one.level(scores[one.measure])) for one in self.attributes}
        return Standing(response, levels, sum(levels.values()))

    def settle(self, instruction: Instruction, standing: list[Standing], seed: int) -> Iterator[Pair | Dropped]:
        for one in standing:
            yield row_to_learn(self.kind, instruction, one, self.suffix({name: int(one.scores[name]) for name in one.scores}))

    def asking(self, levels: Mapping[str, int]) -> str:
        names = [attribute.name for attribute in self.attributes]
        for name in levels:
            if name not in names:
                raise RecipeError("eval.asked", f"no attribute named '{name}'", suggest(name, names))
        return self.suffix({name: levels.get(name, LEVELS - 1) for name in names})

    def suffix(self, levels: Mapping[str, int]) -> str:
        """What is added to a question: the same words for what was measured and for what is asked."""
        return f"\n{self.request}\n" + ",".join(f"{attribute.name}:{levels[attribute.name]}" for attribute in self.attributes)
