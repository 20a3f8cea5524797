"""ImageReward's opinion of how well a picture fits its prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from sightline.engines.local import LocalEngine, in_batches, loading, model_folder, quiet, torch_dtype
from sightline.plugin import need

if TYPE_CHECKING:
    import PIL.Image


class ImageReward(LocalEngine):
    """Score pictures with ImageReward (Xu et al., 2023), as published or of any other size."""

    roles: ClassVar[frozenset[str]] = frozenset({"image_scorer"})

    def load(self) -> ImageScores:
        need("torch")
        from sightline.engines.image_reward_model import ImageRewardModel

        device = self.torch_device()
        with loading(self.model):
            folder = model_folder(self.model, self.revision)
            model = ImageRewardModel.from_folder(folder, dtype=torch_dtype(self.dtype, device), device=device)
        return ImageScores(self, model)


class ImageScores:
    """A loaded model that scores pictures."""

    def __init__(self, section: ImageReward, model: Any) -> None:
        self.section = section
        self.model = model

    def score(self, prompts: Sequence[str], pictures: Sequence[PIL.Image.Image]) -> list[float]:
        """How well each picture fits its prompt."""

        def work(batch: Sequence[tuple[str, PIL.Image.Image]]) -> list[float]:
            return self.model.score([prompt for prompt, _ in batch], [picture for _, picture in batch], len(batch))

        with quiet():
            return in_batches(
                list(zip(prompts, pictures, strict=True)), self.section.batch_size, work, f"model {self.section.model}"
            )
