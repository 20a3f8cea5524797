"""Identity preference optimisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sightline.train.objectives.pairwise import Pairwise

if TYPE_CHECKING:
    from torch import Tensor


class IPO(Pairwise):
    """Bring the gap to 1 / (2 beta) instead of ever further (Azar et al., 2023, eq. 17).

    Log-probabilities are averaged over tokens, as the authors told TRL's maintainers that they did.
    """

    kind: Literal["ipo"] = "ipo"
    length: Literal["average"] = "average"
    """IPO is defined here on means over tokens only."""

    def cost(self, chosen_B: Tensor, rejected_B: Tensor) -> Tensor:
        return ((chosen_B - rejected_B) / self.beta - 1 / (2 * self.beta)).square()
