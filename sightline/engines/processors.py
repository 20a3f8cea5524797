"""Processors of models that read pictures and text, with torchvision or without it."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

from sightline.engines.weights import locate

VIDEO = "video_processor"


def read_processor(model: str, revision: str | None) -> Any:
    """The model's processor. Pictures go through PIL where torchvision is absent, and videos, which need it, are left out."""
    from transformers import AutoConfig, AutoProcessor

    if find_spec("torchvision"):
        return AutoProcessor.from_pretrained(locate(model), revision=revision)
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    kind = AutoConfig.from_pretrained(locate(model), revision=revision).model_type
    found = _class_of(PROCESSOR_MAPPING_NAMES.get(kind))
    if found is None or VIDEO not in found.get_attributes():
        return AutoProcessor.from_pretrained(locate(model), revision=revision, backend="pil")
    return without_video(found).from_pretrained(locate(model), revision=revision, backend="pil")


def _class_of(name: str | None) -> Any:
    import transformers

    return getattr(transformers, name, None) if name else None


@cache
def without_video(kind: Any) -> Any:
    """The processor class, less what reads videos, which cannot even be made where torchvision is absent."""

    class Still(kind):
        video_processor = SimpleNamespace(num_frames=None, fps=None)  # SmolVLM's chat template asks, videos or none

        @classmethod
        def get_attributes(cls) -> list[str]:
            return [name for name in kind.get_attributes() if name != VIDEO]

        @classmethod
        def from_args_and_dict(cls, args: list[Any], processor_dict: dict[str, Any], **kwargs: Any) -> Any:
            """`args` are the image processor and the tokenizer; all these classes take the video processor third."""
            told = {name: value for name, value in processor_dict.items() if name != VIDEO}
            return super().from_args_and_dict([*args, None], told, **kwargs)

    Still.__name__ = Still.__qualname__ = kind.__name__  # what a saved processor is called
    return Still
