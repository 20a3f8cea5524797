"""DPO that also compares pictures."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from sightline.train.objectives import Logprobs, Loss, Objective, Term, with_nll


class MDPO(Objective):
    """Prefer the chosen answer to the rejected one, and to itself before a spoilt picture; keep its reward above an anchor.

    Three sigmoids (Wang et al., 2024, mDPO, eq. 5), each of which starts at log 2. Axis B: pairs.
    """

    terms: ClassVar[tuple[Term, ...]] = (Term("chosen"), Term("rejected"), Term("chosen", picture="negative"))

    kind: Literal["mdpo"] = "mdpo"
    beta: float = Field(0.1, gt=0)
    """Scale of the rewards: pull towards the reference; larger moves less."""
    anchor: float = 0.0
    """What the chosen answer's reward should stay above; 0 in the published code."""
    nll: float = Field(0.0, ge=0)
    """Weight of the chosen answer's own loss, a mean over its tokens."""

    def loss(self, policy: Logprobs, reference: Logprobs) -> Loss:
        from torch.nn.functional import logsigmoid

        reward = {term.name: self.beta * (policy[term.name] - reference[term.name]) for term in self.terms}
        chosen_B, rejected_B = reward["chosen"], reward["rejected"]
        margins = {
            "preference": chosen_B - rejected_B,
            "picture": chosen_B - reward["chosen/picture"],
            "anchor": chosen_B - self.anchor,
        }
        costs = {name: -logsigmoid(margin_B).mean() for name, margin_B in margins.items()}
        logs = {
            **{f"{name}_loss": cost for name, cost in costs.items()},
            "margin": margins["preference"].mean(),
            "accuracy": (margins["preference"] > 0).to(chosen_B.dtype).mean(),
            "picture_margin": margins["picture"].mean(),
            "picture_accuracy": (margins["picture"] > 0).to(chosen_B.dtype).mean(),
            "chosen_reward": chosen_B.mean(),
            "rejected_reward": rejected_B.mean(),
        }
        return with_nll(costs["preference"] + costs["picture"] + costs["anchor"], self.nll, policy, logs)
