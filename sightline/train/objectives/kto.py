"""Kahneman-Tversky optimisation: answers praised or blamed, each by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from sightline.train.objectives import UNRELATED, Logprobs, Loss, Objective, Term

if TYPE_CHECKING:
    from torch import Tensor


class KTO(Objective):
    """Raise chosen answers above, and push rejected ones below, what the policy gained on any answer (Ethayarajh et al., 2024).

    Takes pairs, and rows that lack one of the two answers. The bar between praise and blame, z0, is the mean gain of answers that
    belong to other rows, and never below 0. It has no gradient. Bar and loss are means over what goes through the model together,
    as in TRL 1.16: few rows make a coarse bar, and splitting a step by train.accumulation changes both a little. Axis B: rows.
    """

    terms: ClassVar[tuple[Term, ...]] = (Term("chosen", optional=True), Term("rejected", optional=True), UNRELATED)

    kind: Literal["kto"] = "kto"
    beta: float = Field(0.1, gt=0)
    """Scale of the rewards: pull towards the reference; larger moves less."""
    desirable_weight: float = Field(1.0, gt=0)
    """What a chosen answer counts. With few of them raise it until both kinds weigh about the same."""
    undesirable_weight: float = Field(1.0, gt=0)
    """What a rejected answer counts."""
    nll: float = Field(0.0, ge=0)
    """Weight of the chosen answers' own loss, a mean over each one's tokens."""

    def loss(self, policy: Logprobs, reference: Logprobs) -> Loss:
        gained = {term.name: policy[term.name] - reference[term.name] for term in self.terms}
        bar = gained["unrelated"].mean().detach().clamp(min=0)
        chosen_B, rejected_B = policy.present("chosen"), policy.present("rejected")
        praised_B = self.desirable_weight * (1 - (self.beta * (gained["chosen"] - bar)).sigmoid())
        blamed_B = self.undesirable_weight * (1 - (self.beta * (bar - gained["rejected"])).sigmoid())
        costs = (praised_B * chosen_B).sum() + (blamed_B * rejected_B).sum()
        preference = costs / (chosen_B.sum() + rejected_B.sum())
        nll = -mean_where(chosen_B, policy["chosen"] / policy.num_tokens["chosen"].clamp(min=1))
        margin_B, both_B = self.beta * (gained["chosen"] - gained["rejected"]), chosen_B & rejected_B
        logs = {
            "preference_loss": preference,
            "margin": mean_where(both_B, margin_B),
            "accuracy": mean_where(both_B, (margin_B > 0).to(margin_B.dtype)),
            "chosen_reward": mean_where(chosen_B, self.beta * gained["chosen"]),
            "rejected_reward": mean_where(rejected_B, self.beta * gained["rejected"]),
            "kl": bar,
            "nll": nll,
        }
        over = {"chosen_reward": chosen_B, "rejected_reward": rejected_B, "margin": both_B, "accuracy": both_B, "nll": chosen_B}
        told = {name: number.detach() for name, number in logs.items()}
        value = preference + self.nll * nll if self.nll else preference
        return Loss(value, told, {name: there_B.sum() for name, there_B in over.items()})


def mean_where(there_B: Tensor, values_B: Tensor) -> Tensor:
    """The mean of the values that are there; 0 where none is."""
    return (values_B * there_B).sum() / there_B.sum().clamp(min=1)
