"""The model before training, loaded once for the reference's log-probabilities and for training itself."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from sightline.engines.transformers import load_model, load_processor
from sightline.errors import TrainingError
from sightline.train.quantization import four_bits, require_gpu

if TYPE_CHECKING:
    from sightline.train.examples import Encoder, OpenPicture
    from sightline.train.features import Features

Dtype = Literal["auto", "float32", "bfloat16"]

# Families whose packed pass was shown to equal the plain one. Others read positions or masks in their own ways (Qwen-VL takes
# three rows of positions) and would be wrong without a sign.
FAMILIES = ("llava",)


class Base:
    """A model and its processor, each loaded when first asked for."""

    def __init__(self, model: str, revision: str | None, dtype: Dtype, load_in_4bit: bool = False) -> None:
        self.model = model
        self.revision = revision
        self.dtype = dtype
        self.load_in_4bit = load_in_4bit
        self._encoders: dict[int | None, Encoder] = {}

    @cached_property
    def network(self) -> Any:
        """The model on its device, without dropout: a policy that forgets at random never equals its reference."""
        import torch

        from sightline.train import attention

        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        dtype = {"cuda": "bfloat16"}.get(device.type, "float32") if self.dtype == "auto" else self.dtype
        if self.load_in_4bit:
            require_gpu()
        quantization = four_bits() if self.load_in_4bit else None
        network = load_model(self.model, self.revision, dtype, device, quantization)  # type: ignore[arg-type]
        if network.config.model_type not in FAMILIES:
            raise TrainingError(
                "train.model",
                f"models of the family '{network.config.model_type}' cannot be trained yet",
                f"known: {', '.join(FAMILIES)}",
            )
        _without_dropout(network)
        attention.split(network)
        return network

    @cached_property
    def features(self) -> Features:
        """What the untrained vision tower makes of pictures."""
        from sightline.train.features import Features

        return Features()

    @cached_property
    def processor(self) -> Any:
        return load_processor(self.model, self.revision)

    def encoder(self, max_length: int | None, open_picture: OpenPicture) -> Encoder:
        """The one encoder for this bound, so that the reference and training read each pair once."""
        from sightline.train.examples import Encoder

        if max_length not in self._encoders:
            limit = min(self.context, max_length or self.context)
            self._encoders[max_length] = Encoder(self.processor, limit, open_picture)
        return self._encoders[max_length]

    @property
    def context(self) -> int:
        """Longest path in tokens. A sliding window bounds it too: a mask of our own would not slide."""
        text = self.network.config.get_text_config()
        window = getattr(text, "sliding_window", None) or text.max_position_embeddings
        return min(text.max_position_embeddings, window)


def _without_dropout(network: Any) -> None:
    for module in network.modules():
        for name in ("p", "dropout", "attention_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
