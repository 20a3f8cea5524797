"""MCM-DPO: seven preferences across question, picture and answer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from sightline.train.objectives import CROSSED_TERMS, Logprobs, Loss, Objective, Term, with_nll

PUBLISHED = {
    "rejected": 1.0,
    "chosen/picture": 0.5,
    "chosen/question": 0.5,
    "rejected/question": 0.2,
    "rejected/picture": 0.2,
    "chosen/picture/question": 0.2,
    "rejected/picture/question": 0.2,
}
"""Weights of the seven negatives in MCM-DPO's code, in the order of its use_cl_reward_num; their sum, 2.8, divides them."""


class MCMDPO(Objective):
    """Prefer the chosen answer, after its own picture and question, over each of up to seven negatives (MCM-DPO).

    Weights are divided by their sum, so that the joint form compares the chosen answer with one mean of all negatives.
    Axis B: pairs.
    """

    kind: Literal["mcm_dpo"] = "mcm_dpo"
    beta: float = Field(0.1, gt=0)
    """Scale of the rewards: pull towards the reference; larger moves less."""
    weights: dict[str, float] = Field(default_factory=PUBLISHED.copy, min_length=1)
    """What each negative counts, by its name: the answer, then what is not the pair's own, as in `rejected/picture`. Fewer names
    make fewer terms."""
    published_terms: int | None = Field(None, ge=1, le=7)
    """MCM-DPO's use_cl_reward_num, in place of weights: the first so many published negatives with their published weights, which
    that code divides by 2.8 however few they are. 1 is refused: told 1, it trains on the same two as told 2."""
    combine: Literal["joint", "separate"] = "joint"
    """joint: one sigmoid of the weighted sum, as published; a negative that is far down then hides one that is not. separate: a
    sigmoid each, weighted."""
    nll: float = Field(0.0, ge=0)
    """Weight of the chosen answer's own loss, a mean over its tokens."""

    @field_validator("weights")
    @classmethod
    def _known(cls, weights: dict[str, float]) -> dict[str, float]:
        names = [term.name for term in CROSSED_TERMS if term.name != "chosen"]
        for name, weight in weights.items():
            if name not in names:
                fix = f"known: {', '.join(names)}"
                raise PydanticCustomError("unknown_term", "no negative is called '{name}'", {"name": name, "fix": fix})
            if not weight > 0:
                fix = "leave out what shall not count"
                raise PydanticCustomError("weight", "the weight of '{name}' must be above 0", {"name": name, "fix": fix})
        return weights

    @model_validator(mode="after")
    def _one_way_of_saying_which(self) -> MCMDPO:
        if self.published_terms == 1:
            fix = "use 2, or weights: {rejected: 1.0} for the rejected answer alone"
            raise PydanticCustomError("one_term", "the published code has no loss of one term: 1 trains on two", {"fix": fix})
        if self.published_terms is not None and self.weights != PUBLISHED:
            raise PydanticCustomError("two_ways", "published_terms has weights of its own", {"fix": "leave one of the two out"})
        return self

    @property
    def shares(self) -> dict[str, float]:
        """What each negative counts, weights divided."""
        weights = self.weights if self.published_terms is None else PUBLISHED
        whole = sum(weights.values())
        return {name: weight / whole for name, weight in list(weights.items())[: self.published_terms]}

    def needed_terms(self) -> tuple[Term, ...]:
        return (Term("chosen"), *(Term.read(name) for name in self.shares))

    def loss(self, policy: Logprobs, reference: Logprobs) -> Loss:
        from torch import stack
        from torch.nn.functional import logsigmoid

        reward = {term.name: self.beta * (policy[term.name] - reference[term.name]) for term in self.needed_terms()}
        share = self.shares
        margins = {name: reward["chosen"] - reward[name] for name in share}
        joint_B = stack([share[name] * margin_B for name, margin_B in margins.items()]).sum(0)
        apart_B = stack([share[name] * -logsigmoid(margin_B) for name, margin_B in margins.items()]).sum(0)
        preference = -logsigmoid(joint_B).mean() if self.combine == "joint" else apart_B.mean()
        logs = {
            "preference_loss": preference,
            "margin": joint_B.mean(),
            "accuracy": (joint_B > 0).to(joint_B.dtype).mean(),
            "chosen_reward": reward["chosen"].mean(),
            **({"rejected_reward": reward["rejected"].mean()} if "rejected" in reward else {}),
            **{f"margin/{name}": margin_B.mean() for name, margin_B in margins.items()},
            **{f"accuracy/{name}": (margin_B > 0).to(margin_B.dtype).mean() for name, margin_B in margins.items()},
        }
        return with_nll(preference, self.nll, policy, logs)
