"""Dense DPO: what the correction of an answer changed counts more."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from sightline.train.objectives import CHANGED_TERMS, Logprobs, Term
from sightline.train.objectives.pairwise import Pairwise

if TYPE_CHECKING:
    from torch import Tensor


class DDPO(Pairwise):
    """DPO on weighted sums: tokens in which the two answers differ count gamma, the others 1 (Yu et al., 2024, RLHF-V).

    Where they differ is decided by the published rule (`train/changes.py`). The reference stores whole answers and changed tokens
    apart, so that another gamma finds it again.
    """

    terms: ClassVar[tuple[Term, ...]] = (Term("chosen"), Term("rejected"), *CHANGED_TERMS)

    kind: Literal["ddpo"] = "ddpo"
    gamma: float = Field(3.0, gt=0)
    """What a changed token counts; dpo_token_weight in the published code, where 3 is the default."""
    length: Literal["sum", "average"] = "sum"
    """An answer's reward sums over its weighted tokens, or divides that by the sum of the weights."""

    def reward(self, term: str, policy: Logprobs, reference: Logprobs) -> Tensor:
        more, changed = self.gamma - 1, f"{term}/changed"
        gained_B = policy[term] - reference[term] + more * (policy[changed] - reference[changed])
        weights_B = policy.num_tokens[term] + more * policy.num_tokens[changed]
        return self.beta * (gained_B / weights_B if self.length == "average" else gained_B)

    def cost(self, chosen_B: Tensor, rejected_B: Tensor) -> Tensor:
        from torch.nn.functional import logsigmoid

        return -logsigmoid(chosen_B - rejected_B)
