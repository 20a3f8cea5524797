"""Odds-ratio preference optimisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from sightline.train.objectives import Logprobs, Loss
from sightline.train.objectives.pairwise import Pairwise

if TYPE_CHECKING:
    from torch import Tensor


class ORPO(Pairwise):
    """Learn the chosen answer and raise its odds over the rejected one's; needs no reference (Hong et al., 2024, eq. 6)."""

    kind: Literal["orpo"] = "orpo"
    beta: float = Field(0.1, gt=0)
    """Weight of the odds ratio; lambda in the paper."""
    length: Literal["average"] = "average"
    """The odds are of mean log-probabilities."""
    nll: float = Field(1.0, ge=0)
    """Weight of the chosen answer's own loss, a mean over its tokens; 1 in the paper."""

    @property
    def needs_reference(self) -> bool:
        return False

    def reward(self, term: str, policy: Logprobs, reference: Logprobs) -> Tensor:
        """(B,): log odds p / (1 - p) of an answer whose p is exp of its mean log-probability."""
        from torch import expm1, log

        mean_B = policy.per_token(term)
        # of an answer that is certain the odds are infinite: the mean is kept a little below 0
        return mean_B - log(-expm1(mean_B.clamp(max=-1e-6)))

    def cost(self, chosen_B: Tensor, rejected_B: Tensor) -> Tensor:
        from torch.nn.functional import logsigmoid

        return -self.beta * logsigmoid(chosen_B - rejected_B)

    def loss(self, policy: Logprobs, reference: Logprobs) -> Loss:
        made = super().loss(policy, reference)
        scaled = {name: self.beta * made.logs[name] for name in ("margin", "chosen_reward", "rejected_reward")}
        return Loss(made.value, {**made.logs, **scaled})
