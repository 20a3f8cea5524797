"""Several objectives at once, each with its weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field, PrivateAttr

from sightline.plugin import Section
from sightline.train.objectives import OBJECTIVES, Logprobs, Loss, Objective, Term
from sightline.train.objectives.bco import BCO
from sightline.train.objectives.dpo import DPO
from sightline.train.objectives.sft import SFT


class Part(Section):
    """One objective of a mixture."""

    weight: float = Field(1.0, gt=0)
    """What its loss is multiplied by."""
    objective: OBJECTIVES.section()  # type: ignore[valid-type]
    """Any objective."""


class _Mixture(Objective):
    """Adds up the losses of its parts."""

    def weighted(self) -> Sequence[tuple[float, Objective]]:
        raise NotImplementedError

    @property
    def needs_reference(self) -> bool:
        return any(part.needs_reference for _, part in self.weighted())

    def needed_terms(self) -> tuple[Term, ...]:
        """Those of all parts; what one part cannot do without is not optional."""
        asked: dict[str, Term] = {}
        for term in (term for _, part in self.weighted() for term in part.needed_terms()):
            optional = term.optional and asked.get(term.name, term).optional
            asked[term.name] = replace(term, optional=optional)
        return tuple(asked.values())

    def loss(self, policy: Logprobs, reference: Logprobs) -> Loss:
        """The weighted sum; the log holds each part's own loss, and the first part's word on rewards and margins."""
        made = [(weight, part.kind, part.loss(policy, reference)) for weight, part in self.weighted()]
        told = {name: loss for _, _, loss in reversed(made) for name in loss.logs}
        logs = {name: loss.logs[name] for name, loss in told.items()}
        counts = {name: loss.counts[name] for name, loss in told.items() if name in loss.counts}
        own = {f"{kind}_loss": loss.value.detach() for _, kind, loss in made}
        value = sum((weight * loss.value for weight, _, loss in made[1:]), made[0][0] * made[0][2].value)
        return Loss(value, {**logs, **own}, counts)

    def state(self) -> dict[str, Any]:
        return {str(at): part.state() for at, (_, part) in enumerate(self.weighted())}

    def restore(self, state: dict[str, Any]) -> None:
        for at, (_, part) in enumerate(self.weighted()):
            part.restore(state.get(str(at), {}))


class Mix(_Mixture):
    """A weighted sum of objectives."""

    kind: Literal["mix"] = "mix"
    parts: list[Part] = Field(min_length=1)
    """Objectives and their weights."""

    def weighted(self) -> Sequence[tuple[float, Objective]]:
        return [(part.weight, part.objective) for part in self.parts]


class MPO(_Mixture):
    """InternVL's mixed preference optimisation: DPO, BCO and the chosen answers' likelihood (Wang et al., 2024, eq. 2)."""

    kind: Literal["mpo"] = "mpo"
    beta: float = Field(0.1, gt=0)
    """Of DPO and BCO alike."""
    dpo: float = Field(0.8, gt=0)
    """Weight of DPO, the relative preference."""
    bco: float = Field(0.2, gt=0)
    """Weight of BCO, the absolute quality."""
    sft: float = Field(1.0, gt=0)
    """Weight of the mean over all tokens of the chosen answers."""
    delta: Literal["running", "none"] = "running"
    """BCO's bar. TRL's mixture has none, InternVL's a running mean."""
    _parts: list[tuple[float, Objective]] = PrivateAttr(default_factory=list)

    def weighted(self) -> Sequence[tuple[float, Objective]]:
        if not self._parts:  # made once: BCO remembers
            parts = (DPO(beta=self.beta), BCO(beta=self.beta, delta=self.delta), SFT())
            self._parts = list(zip((self.dpo, self.bco, self.sft), parts, strict=True))
        return self._parts
