"""An objective with a margin past which nothing is gained."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from sightline.train.objectives import Logprobs, Loss, Objective, Term


class Capped(Objective):
    """Widen the gap up to a margin (Zhao et al., 2023, SLiC-HF)."""

    terms: ClassVar[tuple[Term, ...]] = (Term("chosen"), Term("rejected"))

    kind: Literal["capped"] = "capped"
    margin: float = Field(1.0, gt=0)
    """Gap that is wide enough."""

    def loss(self, policy: Logprobs, reference: Logprobs) -> Loss:
        gap_B = policy["chosen"] - reference["chosen"] - policy["rejected"] + reference["rejected"]
        return Loss((self.margin - gap_B).clamp(min=0).mean(), logs={})
