"""Two stages: supervised fine-tuning, then the alignment of what came of it, as MCM-DPO trains."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from pydantic_core import PydanticCustomError

from sightline.execute import Executor
from sightline.plugin import Section
from sightline.train.checkpoint import Checkpoint, Place

Mode = Literal["frozen", "lora", "full"]

Paradigm = Literal["vision_never", "vision_in_alignment", "vision_in_sft", "vision_in_both"]

PARADIGMS: dict[str, tuple[Mode, Mode]] = {
    "vision_never": ("frozen", "frozen"),
    "vision_in_alignment": ("frozen", "full"),
    "vision_in_sft": ("full", "frozen"),
    "vision_in_both": ("full", "full"),
}
"""How the vision tower trains in fine-tuning and in alignment: (a), (b), (c) and (d) of MCM-DPO's figure. Projector and language
model train whole in both stages."""


class Stage(Section):
    """Supervised fine-tuning on the chosen answers, before alignment. What is absent is as in alignment."""

    pairs: str | None = None
    """Folder that `sightline import` wrote; absent: the pairs of the alignment."""
    vision_tower: Mode | None = None
    """frozen, lora or full."""
    projector: Mode | None = None
    """The same, for the projector."""
    language_model: Mode | None = None
    """The same, for the language model."""
    learning_rate: float | None = Field(None, gt=0)
    """Highest learning rate."""
    vision_learning_rate: float | None = Field(None, gt=0)
    """The vision tower's own."""
    projector_learning_rate: float | None = Field(None, gt=0)
    """The projector's own."""
    epochs: float | None = Field(None, gt=0)
    """How often fine-tuning sees each row."""
    batch_size: int | None = Field(None, ge=1)
    """Rows a step."""
    accumulation: int | None = Field(None, ge=1)
    """Parts that a step's rows are split into."""
    max_length: int | None = Field(None, ge=1)
    """Longest row in tokens."""


def spread(tree: dict[str, Any]) -> dict[str, Any]:
    """A train section's values with what its paradigm means for both stages written out."""
    vision = PARADIGMS[tree["paradigm"]]
    first = tree["sft"].model_dump() if isinstance(tree.get("sft"), Stage) else tree.get("sft")
    if not isinstance(first, dict):
        raise PydanticCustomError(
            "conflict", "a paradigm is about two stages", {"fix": "add sft: {}, with what differs from the alignment"}
        )
    return {**_with_modes(tree, vision[1]), "sft": _with_modes(first, vision[0])}


def _with_modes(values: dict[str, Any], vision_tower: Mode) -> dict[str, Any]:
    meant: dict[str, Mode] = {"vision_tower": vision_tower, "projector": "full", "language_model": "full"}
    for part, mode in meant.items():
        if values.get(part, mode) not in (mode, None):
            raise PydanticCustomError(
                "conflict",
                "the paradigm trains the {part} {mode} in this stage, and it is set to {given}",
                {"part": part, "mode": mode, "given": str(values[part]), "fix": f"leave out paradigm or {part}"},
            )
    return {**values, **meant}


@dataclass(frozen=True)
class Start:
    """A stage's result that the next one starts from. `weights` stands for its files, wherever the store lies."""

    folder: Path
    weights: str

    @classmethod
    def after(cls, stage: Checkpoint, executor: Executor) -> Start:
        """What the stage trained: the whole model, or its adapter merged into its base, which is done once."""
        return cls(_merged(stage, executor) if stage.is_adapter else stage.folder, stage.address)


def _merged(stage: Checkpoint, executor: Executor) -> Path:
    place = Place(executor.store.folder("models", stage.address))
    if not place.folder.exists():
        from sightline.train.merge import merge

        executor.watch.begin("merge", 1, "models")
        with place.locked():
            made = place.working / "made"
            shutil.rmtree(made, ignore_errors=True)  # what a kill cut short
            merged = merge(stage.folder, made)
            place.publish(made)
        executor.watch.end("merge", f"{merged.num_tensors} tensors, {merged.rounding}")
    return place.folder
