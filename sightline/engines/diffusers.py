"""Local text-to-image pipelines of the diffusers library."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from sightline.engines.local import LocalEngine, in_batches, loading, quiet, torch_dtype
from sightline.engines.roles import PaintRequest
from sightline.engines.weights import closed_vocabulary, locate, unknown_words
from sightline.errors import RecipeError, RunError
from sightline.plugin import need

if TYPE_CHECKING:
    import numpy as np
    import PIL.Image
    import torch

PER_SAMPLE = ("StableDiffusionPipeline", "StableDiffusion3Pipeline")
"""Pipelines whose guidance is one multiplication, so that each picture of a batch can have its own scale."""


Saving = Literal["attention_slicing", "vae_slicing", "offload", "sequential_offload"]


class Diffusers(LocalEngine):
    """Paint with a text-to-image pipeline."""

    roles: ClassVar[frozenset[str]] = frozenset({"text_to_image"})
    incidental: ClassVar[frozenset[str]] = frozenset({"device", "batch_size", "saving"})

    steps: int = Field(28, ge=1)
    """Denoising steps."""
    variant: str | None = None
    """Which files of a hub model to take, such as fp16."""
    negative_prompt: str = ""
    """What pictures shall not show."""
    width: int | None = Field(None, ge=8)
    """Pixels; the pipeline's own size where none is given."""
    height: int | None = Field(None, ge=8)
    """Pixels; the pipeline's own size where none is given."""
    max_sequence_length: int | None = Field(None, ge=1)
    """Tokens of the T5 encoder, for pipelines that have the setting; 1 saves time where a pipeline has no T5."""
    saving: list[Saving] = []
    """Ways to need less of a GPU's memory, for more time. attention_slicing: attend a part at a time; vae_slicing: decode one
    picture at a time; offload: keep the parts of the pipeline that do not work at the moment in the machine's memory;
    sequential_offload: so with each layer, which is slow. The last two do nothing on a CPU."""
    vae_tiling: bool = False
    """Decode a large picture in tiles. Where these meet, colours move a little, so this counts as another painter."""

    def load(self) -> Painter:
        need("torch")
        device = self.torch_device()
        with loading(self.model):
            pipeline = load_pipeline(self.model, self.revision, self.variant, torch_dtype(self.dtype, device))
            self._save_memory(pipeline)
            self._place(pipeline, device)
        return Painter(self, pipeline)

    def _save_memory(self, pipeline: Any) -> None:
        """Set the switches of the pipeline; RecipeError for one that it does not have."""
        vae = pipeline.components.get("vae", pipeline.components.get("movq"))
        sliced = any(hasattr(part, "set_attention_slice") for part in pipeline.components.values())
        switches = {
            "attention_slicing": (sliced, lambda: pipeline.enable_attention_slicing()),
            "vae_slicing": (hasattr(vae, "use_slicing"), lambda: vae.enable_slicing()),
            "vae_tiling": (hasattr(vae, "use_tiling"), lambda: vae.enable_tiling()),
        }
        for name in [*self.saving, *(["vae_tiling"] if self.vae_tiling else [])]:
            able, switch = switches.get(name, (pipeline.model_cpu_offload_seq is not None, lambda: None))
            if not able:
                raise RecipeError(f"model {self.model}", f"a {type(pipeline).__name__} has no {name}", "leave it out")
            switch()

    def _place(self, pipeline: Any, device: torch.device) -> None:
        """Onto the device, whole or in parts when they work."""
        if device.type != "cpu" and "sequential_offload" in self.saving:
            pipeline.enable_sequential_cpu_offload(device=device)
        elif device.type != "cpu" and "offload" in self.saving:
            pipeline.enable_model_cpu_offload(device=device)
        else:
            pipeline.to(device)

    def vocabulary(self) -> frozenset[str] | None:
        known = [words for words in map(closed_vocabulary, self._tokenizers()) if words is not None]
        if not known:
            return None
        return frozenset(word for word in frozenset.intersection(*known) if not word.startswith("<"))

    def unknown_words(self, texts: list[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for folder in self._tokenizers():
            for text, words in unknown_words(folder, texts).items():
                found[text] = list(dict.fromkeys([*found.get(text, []), *words]))
        return found

    def _tokenizers(self) -> list[Path]:
        return sorted(path for path in Path(locate(self.model)).glob("tokenizer*") if path.is_dir())


def load_pipeline(model: str, revision: str | None, variant: str | None, dtype: Any) -> Any:
    """The pipeline, quiet; parts that its folder leaves out (Stable Diffusion 3's T5, say) stay out."""
    diffusers = need("diffusers")
    diffusers.utils.logging.disable_progress_bar()  # of the parts that load
    index = diffusers.DiffusionPipeline.load_config(locate(model), revision=revision)
    absent = {
        name: None for name, part in index.items() if isinstance(part, list | tuple) and all(entry is None for entry in part)
    }
    pipeline = diffusers.DiffusionPipeline.from_pretrained(
        locate(model), revision=revision, variant=variant, dtype=dtype, **absent
    )
    pipeline.set_progress_bar_config(disable=True)
    if type(pipeline).__name__ in PER_SAMPLE and not _guidance_is_embedded(pipeline):
        pipeline.__class__ = _guided_per_sample(type(pipeline))
    return pipeline


def _guidance_is_embedded(pipeline: Any) -> bool:
    """True for distilled models, which read the scale as an input."""
    unet = getattr(pipeline, "unet", None)
    return unet is not None and unet.config.time_cond_proj_dim is not None


def _guided_per_sample(kind: type[Any]) -> type[Any]:
    """The pipeline's class, with `scales_B` (one guidance scale a picture; axis B: pictures) in the place of the one scale."""

    class PerSample(kind):
        guided_per_sample = True
        scales_B: torch.Tensor

        @property
        def guidance_scale(self) -> torch.Tensor:
            return self.scales_B[:, None, None, None]

        @property
        def do_classifier_free_guidance(self) -> bool:
            return bool((self.scales_B > 1).any())

    PerSample.__name__ = kind.__name__  # the library looks its parts up by this name
    return PerSample


class Painter:
    """A loaded pipeline that paints."""

    def __init__(self, section: Diffusers, pipeline: Any) -> None:
        self.section = section
        self.pipeline = pipeline
        self.per_sample = getattr(pipeline, "guided_per_sample", False)
        """True where pictures of different guidance scales can share a batch."""
        needed = {"prompt", "generator", "guidance_scale", "output_type"}
        unknown = (needed | set(self._settings(1))) - set(inspect.signature(pipeline.__call__).parameters)
        if unknown:
            name = sorted(unknown)[0]
            fix = "take a text-to-image pipeline that has it" if name in needed else "leave it out"
            raise RecipeError(f"model {section.model}", f"a {type(pipeline).__name__} has no setting '{name}'", fix)

    def paint(self, requests: Sequence[PaintRequest]) -> list[PIL.Image.Image]:
        """One picture a request, in order, each from a generator of its own seed."""
        painted: dict[int, PIL.Image.Image] = {}
        for group in self._groups(requests):
            asked = [requests[i] for i in group]
            with quiet():
                pictures = in_batches(asked, self.section.batch_size, self._paint, f"model {self.section.model}")
            painted.update(zip(group, pictures, strict=True))
        return [painted[i] for i in range(len(requests))]

    def _groups(self, requests: Sequence[PaintRequest]) -> Iterator[list[int]]:
        """Requests that may share a batch, by their places."""
        scales = [0.0 if self.per_sample else request.guidance for request in requests]
        for scale in sorted(set(scales)):
            yield [i for i, other in enumerate(scales) if other == scale]

    def _paint(self, requests: Sequence[PaintRequest]) -> list[PIL.Image.Image]:
        return [_picture(pixels, self.section.model) for pixels in self.pixels(requests)]

    def pixels(self, requests: Sequence[PaintRequest]) -> np.ndarray:
        """Pictures of one batch as numbers from 0 to 1; axes: request, row, column, colour."""
        import torch

        scales = [request.guidance for request in requests]
        if self.per_sample:
            # at scale 1 the formula gives the unguided prediction, which is what scales below 1 mean, too
            like = {"dtype": self.pipeline.dtype, "device": self.pipeline._execution_device}
            self.pipeline.scales_B = torch.tensor([max(scale, 1.0) for scale in scales], **like)
        return self.pipeline(
            prompt=[request.prompt for request in requests],
            generator=[torch.Generator().manual_seed(request.seed) for request in requests],
            guidance_scale=max(scales),
            output_type="np",
            **self._settings(len(requests)),
        ).images

    def _settings(self, count: int) -> dict[str, Any]:
        """Arguments of the pipeline that the section sets."""
        section = self.section
        wanted = {
            "num_inference_steps": section.steps,
            "width": section.width,
            "height": section.height,
            "max_sequence_length": section.max_sequence_length,
            "negative_prompt": [section.negative_prompt] * count if section.negative_prompt else None,
        }
        return {name: value for name, value in wanted.items() if value is not None}


def _picture(pixels: np.ndarray, model: str) -> PIL.Image.Image:
    """The picture of an array from 0 to 1."""
    import numpy as np
    from PIL import Image

    if not np.isfinite(pixels).all():
        raise RunError(f"model {model}", "it painted NaN", "try dtype: bfloat16 or float32 for this engine")
    return Image.fromarray((pixels * 255).round().astype(np.uint8))
