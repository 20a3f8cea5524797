"""DPO that also rejects what the model makes of a noisy picture."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from sightline.train.objectives import GUESSED, Logprobs, Loss, Objective, Term, with_nll


class POVID(Objective):
    """Prefer the chosen answer to the rejected one, and to what the model itself would say in its place before a noisy picture.

    That second rejected score is, summed over the chosen answer's places, the log-probability after the pair's own picture of the
    token that is likeliest after the noisy one (Zhou et al., 2024, POVID; dpo_trainer_inherent.py). As in that code, policy and
    reference each score what they themselves find likeliest, so the reference's score can be stored. Which of two tokens that are
    level is likeliest may turn on rounding: this score alone is not compared with the stored one before the first step.
    The noise is train.negatives.noise_step; 500 in the published code. Axis B: pairs.
    """

    # the chosen answer after the noisy picture is what the tokens are read from
    terms: ClassVar[tuple[Term, ...]] = (Term("chosen"), Term("rejected"), Term("chosen", picture="negative"), GUESSED)

    kind: Literal["povid"] = "povid"
    beta: float = Field(0.1, gt=0)
    """Scale of the rewards: pull towards the reference; larger moves less."""
    preference: float = Field(0.5, gt=0)
    """Weight of DPO on the two answers."""
    guess: float = Field(0.5, gt=0)
    """Weight of DPO against what the model would say before the noisy picture."""
    nll: float = Field(0.0, ge=0)
    """Weight of the chosen answer's own loss, a mean over its tokens."""

    def loss(self, policy: Logprobs, reference: Logprobs) -> Loss:
        from torch.nn.functional import logsigmoid

        chosen_B, rejected_B, guessed_B = (
            self.beta * (policy[term] - reference[term]) for term in ("chosen", "rejected", GUESSED.name)
        )
        margin_B, guess_margin_B = chosen_B - rejected_B, chosen_B - guessed_B
        preference, guess = -logsigmoid(margin_B).mean(), -logsigmoid(guess_margin_B).mean()
        logs = {
            "preference_loss": preference,
            "guess_loss": guess,
            "margin": margin_B.mean(),
            "accuracy": (margin_B > 0).to(margin_B.dtype).mean(),
            "guess_margin": guess_margin_B.mean(),
            "guess_accuracy": (guess_margin_B > 0).to(margin_B.dtype).mean(),
            "chosen_reward": chosen_B.mean(),
            "rejected_reward": rejected_B.mean(),
        }
        return with_nll(self.preference * preference + self.guess * guess, self.nll, policy, logs)
