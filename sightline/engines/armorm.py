"""ArmoRM's opinion of an answer, by its text alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from sightline.engines.local import LocalEngine, in_batches, loading, model_folder, quiet, sorted_by, torch_dtype
from sightline.engines.roles import TextScore
from sightline.plugin import need


class ArmoRM(LocalEngine):
    """Score answers with ArmoRM (Wang et al., 2024), of the published size or another. It never sees a picture."""

    roles: ClassVar[frozenset[str]] = frozenset({"text_scorer"})

    def load(self) -> TextScores:
        need("torch")
        from sightline.engines.armorm_model import ArmoRM as Model

        device = self.torch_device()
        with loading(self.model):
            folder = model_folder(self.model, self.revision)
            model = Model.from_folder(folder, dtype=torch_dtype(self.dtype, device), device=device)
        return TextScores(self, model)


class TextScores:
    """A loaded model that scores answers."""

    def __init__(self, section: ArmoRM, model: Any) -> None:
        self.section = section
        self.model = model

    def score(self, conversations: Sequence[tuple[str, str]]) -> list[TextScore]:
        """The scalar of each (instruction, answer); its objectives by name, and their gates as `gate <name>`."""
        longest: dict[str, int] = {}
        for instruction, answer in conversations:
            longest[instruction] = max(len(answer), longest.get(instruction, 0))
        # like lengths share a batch, and answers to one instruction its reading
        keys = [(len(instruction) + longest[instruction], instruction) for instruction, _ in conversations]

        def score(ordered: Sequence[tuple[str, str]]) -> list[Any]:
            work, where = (lambda batch: self.model.score(batch, len(batch))), f"model {self.section.model}"
            return in_batches(ordered, self.section.batch_size, work, where)

        with quiet():
            scores = sorted_by(keys, conversations, score)
        return [TextScore(found.score, self._numbers(found)) for found in scores]

    def _numbers(self, found: Any) -> dict[str, float]:
        names = self.model.objectives
        gates = {f"gate {name}": gate for name, gate in zip(names, found.gates, strict=True)}
        return {**dict(zip(names, found.rewards, strict=True)), **gates}
