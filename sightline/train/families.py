"""What differs between families of vision-language models: where their parts are, and how pictures enter them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sightline.errors import TrainingError


@dataclass(frozen=True)
class Family:
    """Models of one architecture, whose packed pass is shown to equal the plain one (`tests/train/test_families.py`)."""

    vision_tower: tuple[str, ...] = ("model.vision_tower",)
    """Where the part's modules and parameters are, by the start of their names."""
    projector: tuple[str, ...] = ("model.multi_modal_projector",)
    language_model: tuple[str, ...] = ("model.language_model",)
    enters: str | None = "multi_modal_projector"
    """The projector, as the inner model calls it; None where it is woven into the tower, and cannot be run by itself."""
    joined: bool = False
    """Whether the features of all pictures go in as one tensor, and not as a tensor a picture."""
    whole_pictures: bool = False
    """Whether the tokens of a picture see each other, later ones too; a token of text sees those before it in every family."""

    @property
    def parts(self) -> dict[str, tuple[str, ...]]:
        """Each part of the model by the starts of its parameters' names."""
        return {
            "vision_tower": self.vision_tower,
            "projector": self.projector,
            "language_model": (*self.language_model, HEAD),
        }

    def part_of(self, name: str) -> str:
        """Which part a parameter belongs to, by its name (bare or under PEFT); KeyError where to none."""
        for part, prefixes in self.parts.items():
            if any(f"{prefix}." in name or name.endswith(prefix) for prefix in prefixes):
                return part
        raise KeyError(name)


HEAD = "lm_head"
"""Words out of the language model: part of it where it trains whole; adapters leave it alone."""

_QWEN = Family(
    vision_tower=("model.visual.blocks", "model.visual.patch_embed", "model.visual.pos_embed"),
    projector=("model.visual.merger", "model.visual.deepstack_merger_list"),
    enters=None,
)
_IDEFICS = Family(
    vision_tower=("model.vision_model",),
    projector=("model.connector",),
    language_model=("model.text_model",),
    enters="connector",
)
FAMILIES = {
    "llava": Family(),
    "llava_next": Family(projector=("model.multi_modal_projector", "model.image_newline")),
    "qwen2_5_vl": _QWEN,
    "qwen3_vl": _QWEN,
    "idefics3": _IDEFICS,
    "smolvlm": _IDEFICS,
    "gemma3": Family(joined=True, whole_pictures=True),
    "internvl": Family(joined=True),
}
"""Families by the `model_type` of their configuration."""


def family_of(network: Any) -> Family:
    """The family of a model (bare or under PEFT); TrainingError where it is not one that is shown right."""
    kind = network.config.model_type
    if kind not in FAMILIES:
        raise TrainingError(
            "train.model",
            f"models of the family '{kind}' cannot be trained yet: their packed pass has not been shown to equal the plain one",
            f"known: {', '.join(FAMILIES)}",
        )
    return FAMILIES[kind]
