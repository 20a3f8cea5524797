"""Objectives that compare two answers, of which one is preferred."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from sightline.train.objectives import Logprobs, Loss, Objective, Term, with_nll

if TYPE_CHECKING:
    from torch import Tensor


class Pairwise(Objective):
    """Rewards of the two answers, and a cost of them that a subclass names. Axis B: pairs."""

    terms: ClassVar[tuple[Term, ...]] = (Term("chosen"), Term("rejected"))

    beta: float = Field(0.1, gt=0)
    """Scale of the rewards: pull towards the reference; larger moves less."""
    length: Literal["sum", "average"] = "sum"
    """An answer's reward sums over its tokens or averages them. Averages want a beta that is 10 to 100 times larger."""
    nll: float = Field(0.0, ge=0)
    """Weight of the chosen answer's own loss, a mean over its tokens; it keeps the chosen answer likely."""

    def reward(self, term: str, policy: Logprobs, reference: Logprobs) -> Tensor:
        """(B,): the implicit reward, beta times what the answer gained on the reference (Rafailov et al., 2023, eq. 5)."""
        gained_B = policy[term] - reference[term]
        return self.beta * (gained_B / policy.num_tokens[term] if self.length == "average" else gained_B)

    def cost(self, chosen_B: Tensor, rejected_B: Tensor) -> Tensor:
        """(B,): loss of pairs with these rewards."""
        raise NotImplementedError

    def loss(self, policy: Logprobs, reference: Logprobs) -> Loss:
        chosen_B, rejected_B = (self.reward(term, policy, reference) for term in ("chosen", "rejected"))
        preference = self.cost(chosen_B, rejected_B).mean()
        margin_B = chosen_B - rejected_B
        logs = {
            "preference_loss": preference,
            "margin": margin_B.mean(),
            "accuracy": (margin_B > 0).to(margin_B.dtype).mean(),
            "chosen_reward": chosen_B.mean(),
            "rejected_reward": rejected_B.mean(),
        }
        return with_nll(preference, self.nll, policy, logs)
