"""Direct preference optimisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from sightline.train.objectives.pairwise import Pairwise

if TYPE_CHECKING:
    from torch import Tensor


class DPO(Pairwise):
    """Widen the gap of chosen over rejected beyond the reference's (Rafailov et al., 2023, eq. 7)."""

    kind: Literal["dpo"] = "dpo"
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    """Share of preferences taken to be the wrong way round (conservative DPO)."""

    def cost(self, chosen_B: Tensor, rejected_B: Tensor) -> Tensor:
        from torch.nn.functional import logsigmoid

        margin_B = chosen_B - rejected_B
        # logsigmoid, not log(sigmoid): in float32 the latter is -inf from a margin of about -89 down
        smooth = self.label_smoothing
        return -(1 - smooth) * logsigmoid(margin_B) - smooth * logsigmoid(-margin_B)
