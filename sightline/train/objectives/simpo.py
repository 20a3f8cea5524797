"""Simple preference optimisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from sightline.train.objectives import Logprobs
from sightline.train.objectives.pairwise import Pairwise

if TYPE_CHECKING:
    from torch import Tensor


class SimPO(Pairwise):
    """Make the chosen answer's mean log-probability lead by a margin; needs no reference (Meng et al., 2024, eq. 6)."""

    kind: Literal["simpo"] = "simpo"
    beta: float = Field(2.0, gt=0)
    """Scale of the mean log-probabilities."""
    length: Literal["average"] = "average"
    """SimPO compares means over tokens."""
    gamma: float = Field(1.0, ge=0)
    """Margin that the rewards, beta included, should reach."""

    @property
    def needs_reference(self) -> bool:
        return False

    def reward(self, term: str, policy: Logprobs, reference: Logprobs) -> Tensor:
        return self.beta * policy.per_token(term)

    def cost(self, chosen_B: Tensor, rejected_B: Tensor) -> Tensor:
        from torch.nn.functional import logsigmoid

        return -logsigmoid(chosen_B - rejected_B - self.gamma)
