"""Direct preference optimisation."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from sightline.train.objectives import Logprobs, Loss, Objective, Term


class DPO(Objective):
    """Widen the gap of chosen over rejected beyond the reference's (Rafailov et al., 2023, eq. 7)."""

    terms: ClassVar[tuple[Term, ...]] = (Term("chosen"), Term("rejected"))

    kind: Literal["dpo"] = "dpo"
    beta: float = Field(0.1, gt=0)
    """Pull towards the reference; larger moves less."""
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    """Share of preferences taken to be the wrong way round (conservative DPO)."""
    nll: float = Field(0.0, ge=0)
    """Weight of the chosen answer's own loss, a mean over its tokens; it keeps the chosen answer likely."""

    def loss(self, policy: Logprobs, reference: Logprobs) -> Loss:
        from torch.nn.functional import logsigmoid

        chosen_B = self.beta * (policy["chosen"] - reference["chosen"])
        rejected_B = self.beta * (policy["rejected"] - reference["rejected"])
        margin_B = chosen_B - rejected_B
        # logsigmoid, not log(sigmoid): in float32 the latter is -inf from a margin of about -89 down
        smooth = self.label_smoothing
        preference = (-(1 - smooth) * logsigmoid(margin_B) - smooth * logsigmoid(-margin_B)).mean()
        nll = -policy.per_token("chosen").mean()
        logs = {
            "preference_loss": preference,
            "nll": nll,
            "margin": margin_B.mean(),
            "accuracy": (margin_B > 0).to(margin_B.dtype).mean(),
            "chosen_reward": chosen_B.mean(),
            "rejected_reward": rejected_B.mean(),
        }
        return Loss(
            preference + self.nll * nll if self.nll else preference, {name: value.detach() for name, value in logs.items()}
        )
