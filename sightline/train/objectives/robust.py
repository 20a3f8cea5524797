"""DPO that allows for preferences noted the wrong way round."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from sightline.train.objectives.pairwise import Pairwise

if TYPE_CHECKING:
    from torch import Tensor


class Robust(Pairwise):
    """DPO's loss without the bias that a known share of flipped labels brings (Chowdhury et al., 2024, eq. 12)."""

    kind: Literal["robust"] = "robust"
    label_smoothing: float = Field(0.1, ge=0, lt=0.5)
    """Share of preferences that are the wrong way round."""

    def cost(self, chosen_B: Tensor, rejected_B: Tensor) -> Tensor:
        from torch.nn.functional import logsigmoid

        margin_B, flipped = chosen_B - rejected_B, self.label_smoothing
        return (-(1 - flipped) * logsigmoid(margin_B) + flipped * logsigmoid(-margin_B)) / (1 - 2 * flipped)
