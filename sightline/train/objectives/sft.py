"""Supervised fine-tuning."""

from __future__ import annotations

from typing import ClassVar, Literal

from sightline.train.objectives import Logprobs, Loss, Objective, Term


class SFT(Objective):
    """Learn the chosen answers, each token counting the same.

    The mean is over the tokens of the whole step: means over its parts, averaged, would weigh short answers more.
    """

    terms: ClassVar[tuple[Term, ...]] = (Term("chosen"),)

    kind: Literal["sft"] = "sft"

    @property
    def needs_reference(self) -> bool:
        return False

    def loss(self, policy: Logprobs, reference: Logprobs) -> Loss:
        nll = -policy.token_mean("chosen")
        return Loss(nll, {"nll": nll.detach()})
