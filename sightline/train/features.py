"""What a frozen vision tower makes of pictures, computed once a picture (a torch file)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sightline.train.recent import Recent

FEATURE_BYTES = 256 << 20
"""Features kept in memory: of 200 pictures of LLaVA-1.5's in bfloat16, of all of a miniature run's."""


class Features:
    """What enters the projector, by the picture's name; the latest used stay, within a bound.

    Each picture goes through the tower alone: in batches its last bits would depend on what else was in the batch, and a resumed
    run would end in other bytes than an uninterrupted one.
    """

    def __init__(self, limit: int = FEATURE_BYTES) -> None:
        self._held = Recent(limit)

    def of(self, model: Any, name: str, pixels: Tensor) -> Tensor:
        """(tokens, width) of a picture, from its pixel values."""
        if name not in self._held:
            self._held.hold(name, _entering_projector(model, pixels))
        return self._held.use(name)


def _entering_projector(model: Any, pixels: Tensor) -> Tensor:
    """Caught where the model itself hands it over, so that layers and tokens are chosen by the model's own rule."""
    caught: list[Tensor] = []
    hook = model.multi_modal_projector.register_forward_pre_hook(lambda module, given: caught.append(given[0].detach()))
    try:
        with torch.no_grad():
            model.get_image_features(pixel_values=pixels[None], return_dict=True)
    finally:
        hook.remove()
    return caught[0][0]
