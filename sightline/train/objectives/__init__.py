"""What training pushes towards: objectives, and the log-probabilities that they ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from sightline.plugin import Plugin, Table

if TYPE_CHECKING:
    from torch import Tensor

OBJECTIVES = Table("objectives", {"dpo": "sightline.train.objectives.dpo:DPO"})


@dataclass(frozen=True)
class Term:
    """A log-probability that an objective needs: of this answer, after the pair's own pictures and instruction."""

    response: Literal["chosen", "rejected"]

    @property
    def name(self) -> str:
        return self.response


@dataclass(frozen=True)
class Logprobs:
    """Summed log-probabilities by term, and how many tokens each sums. Axis B: pairs."""

    sums: dict[str, Tensor]
    num_tokens: dict[str, Tensor]

    def __getitem__(self, term: str) -> Tensor:
        return self.sums[term]

    def per_token(self, term: str) -> Tensor:
        """Mean log-probability of a token of the term."""
        return self.sums[term] / self.num_tokens[term]


@dataclass(frozen=True)
class Loss:
    """The mean over the pairs, and what the log shall say beside it (means over the pairs too)."""

    value: Tensor
    logs: dict[str, Tensor]


class Objective(Plugin):
    """An objective's recipe section. Its loss is a mean over pairs, so that it is the same however a step is split."""

    terms: ClassVar[tuple[Term, ...]] = ()

    def loss(self, policy: Logprobs, reference: Logprobs) -> Loss:
        raise NotImplementedError
