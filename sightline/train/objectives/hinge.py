"""The hinge loss of SLiC-HF."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sightline.train.objectives.pairwise import Pairwise

if TYPE_CHECKING:
    from torch import Tensor


class Hinge(Pairwise):
    """Widen the gap up to 1 / beta, and no further (Zhao et al., 2023; Liu et al., 2023, RSO)."""

    kind: Literal["hinge"] = "hinge"

    def cost(self, chosen_B: Tensor, rejected_B: Tensor) -> Tensor:
        return (1 - (chosen_B - rejected_B)).relu()
