"""The model before training, loaded once for the reference's log-probabilities and for training itself."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sightline.engines.transformers import load_model, load_processor
from sightline.train.families import family_of

if TYPE_CHECKING:
    from sightline.train.examples import Encoder, OpenPicture
    from sightline.train.features import Features

Dtype = Literal["auto", "float32", "bfloat16"]


class Base:
    """A model and its processor, each loaded when first asked for."""

    def __init__(self, model: str, revision: str | None, dtype: Dtype) -> None:
        self.model = model
        self.revision = revision
        self.dtype = dtype
        self._encoders: dict[int | None, Encoder] = {}
        self.kept_in: tuple[Path, int] | None = None
        """Folder and bytes of disk for features; None: they stay in memory."""

    @cached_property
    def network(self) -> Any:
        """The model on its device, without dropout: a policy that forgets at random never equals its reference."""
        import torch

        from sightline.train import attention

        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        dtype = {"cuda": "bfloat16"}.get(device.type, "float32") if self.dtype == "auto" else self.dtype
        network = load_model(self.model, self.revision, dtype, device)  # type: ignore[arg-type]
        if not family_of(network).whole_pictures:
            attention.split(network)
        _without_dropout(network)
        return network.requires_grad_(False)

    @cached_property
    def features(self) -> Features:
        """What the untrained vision tower makes of pictures."""
        from sightline.train.features import Disk, Features

        if self.kept_in is None:
            return Features()
        folder, limit = self.kept_in
        return Features(disk=Disk(folder / str(self.network.dtype).removeprefix("torch."), limit))

    @cached_property
    def processor(self) -> Any:
        return load_processor(self.model, self.revision)

    def encoder(self, max_length: int | None, open_picture: OpenPicture, folder: Path | None = None) -> Encoder:
        """The one encoder for this bound, so that the reference and training read each pair once; `folder` is for its trees."""
        from sightline.train.examples import Encoder

        if max_length not in self._encoders:
            limit = min(self.context, max_length or self.context)
            self._encoders[max_length] = Encoder(self.processor, limit, open_picture, folder)
        return self._encoders[max_length]

    @property
    def context(self) -> int:
        """Longest path in tokens."""
        return int(self.network.config.get_text_config().max_position_embeddings)


def _without_dropout(network: Any) -> None:
    for module in network.modules():
        for name in ("p", "dropout", "attention_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
