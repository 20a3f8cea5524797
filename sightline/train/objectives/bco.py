"""Binary classifier optimisation, on pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import PrivateAttr

from sightline.train.objectives.pairwise import Pairwise

if TYPE_CHECKING:
    from torch import Tensor


class BCO(Pairwise):
    """Put the chosen answer's reward above a bar and the rejected one's below it (Jung et al., 2024)."""

    kind: Literal["bco"] = "bco"
    delta: Literal["running", "none"] = "running"
    """The bar: the mean of all rewards so far, as in InternVL's MPO, or 0, which is what TRL 1.16's bco_pair does."""
    _sum: float = PrivateAttr(0.0)
    _count: int = PrivateAttr(0)

    def cost(self, chosen_B: Tensor, rejected_B: Tensor) -> Tensor:
        from torch.nn.functional import logsigmoid

        bar = self._bar(chosen_B, rejected_B)
        return -logsigmoid(chosen_B - bar) - logsigmoid(bar - rejected_B)

    def _bar(self, chosen_B: Tensor, rejected_B: Tensor) -> float:
        """The rewards of these pairs count before the bar is read, as in the published code."""
        if self.delta == "none":
            return 0.0
        self._sum += (chosen_B.detach().sum() + rejected_B.detach().sum()).item()
        self._count += 2 * len(chosen_B)
        return self._sum / self._count

    def state(self) -> dict[str, Any]:
        return {"sum": self._sum, "count": self._count}

    def restore(self, state: dict[str, Any]) -> None:
        self._sum, self._count = state.get("sum", 0.0), state.get("count", 0)
