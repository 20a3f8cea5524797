"""What vision towers make of pictures: in one pass while they train, once a picture while they do not (a torch file).

A picture's features are one tensor (L, N, W): N tokens of width W for the picture's places, and below them (Qwen3-VL) what is
added there in later layers. A picture's inputs are what its processor makes of it alone, by the names that the model gives them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sightline.store.address import digest
from sightline.store.shards import written_whole
from sightline.train.families import Family
from sightline.train.recent import Recent

FEATURE_BYTES = 256 << 20
"""Features kept in memory: of 200 pictures of LLaVA-1.5's in bfloat16, of all of a miniature run's."""

Inputs = dict[str, Tensor]


def encode(model: Any, pictures: Sequence[Inputs]) -> list[Tensor]:
    """(L, N, W) of each picture, through tower and projector; in one call where all have the same shape."""
    if len(pictures) > 1 and any(shapes(one) != shapes(pictures[0]) for one in pictures):
        return [encode(model, [one])[0] for one in pictures]
    together = {name: torch.cat([one[name] for one in pictures]) for name in pictures[0]}
    made = model.get_image_features(**together, return_dict=True)
    levels = [_each(level, len(pictures)) for level in (made.pooler_output, *(getattr(made, "deepstack_features", None) or ()))]
    return [torch.stack(of_one) for of_one in zip(*levels, strict=True)]


def shapes(picture: Inputs) -> list[tuple[str, torch.Size]]:
    """The shape of each of a picture's inputs."""
    return [(name, tensor.shape) for name, tensor in picture.items()]


def _each(level: Any, count: int) -> Sequence[Tensor]:
    """(N, W) of each picture, from a list of them or from one tensor of pictures or of their tiles."""
    return level.reshape(count, -1, level.shape[-1]).unbind() if isinstance(level, Tensor) else level


class Features:
    """What enters the projector, by the picture's name; the latest used stay, within a bound.

    Where the projector cannot be run by itself, what leaves it is kept, if it does not train. Each picture goes through the tower
    alone: in batches its last bits would depend on what else was in the batch, and a resumed run would end in other bytes than an
    uninterrupted one.
    """

    def __init__(self, limit: int = FEATURE_BYTES, disk: Disk | None = None) -> None:
        """`disk` keeps them for other runs, too."""
        self._held: Recent[Tensor] = Recent(limit)
        self._disk = disk

    def of(self, model: Any, family: Family, names: Sequence[str], pictures: Sequence[Inputs]) -> list[Tensor]:
        """(L, N, W) of each picture, from its inputs or from what is kept."""
        shown = list(zip(names, pictures, strict=True))
        if family.enters is None:
            if any(parameter.requires_grad for parameter in model.visual.parameters()):
                return encode(model, pictures)
            return [self._kept(name, partial(_leaving, model, one), model.device) for name, one in shown]
        projector = model.get_submodule(family.enters)
        entering = [self._kept(name, partial(_entering, model, projector, one), model.device) for name, one in shown]
        return _projected(model, projector, entering, pictures)

    def _kept(self, name: str, make: Callable[[], Tensor], device: torch.device) -> Tensor:
        if name not in self._held:
            made = self._disk.read(name) if self._disk else None
            if made is None:
                with torch.no_grad():
                    made = make()
                if self._disk:
                    self._disk.write(name, made)
            made = made.to(device)
            self._held.hold(name, made, made.nbytes)
        return self._held.use(name)


class Disk:
    """Features in files, within a bound of bytes: past it those that were unused longest go. A kill leaves no broken file."""

    def __init__(self, folder: Path, limit: int) -> None:
        """The folder stands for the weights, the processor's settings and the precision; its files are named by pictures."""
        self.folder = folder
        self.limit = limit
        self._bytes = sum(path.stat().st_size for path in self._files())

    def read(self, name: str) -> Tensor | None:
        """The picture's features, now the latest used; None where there are none."""
        path = self._path(name)
        try:
            os.utime(path)
            return load_file(path)["features"]
        except FileNotFoundError:  # never written, or another process needed the room
            return None

    def write(self, name: str, features: Tensor) -> None:
        with written_whole(self._path(name)) as aside:
            save_file({"features": features.detach().cpu().contiguous()}, aside)
        self._bytes += self._path(name).stat().st_size
        if self._bytes > self.limit:
            self._make_room()

    def _make_room(self) -> None:
        files = sorted(self._files(), key=lambda path: path.stat().st_mtime_ns)
        self._bytes = sum(path.stat().st_size for path in files)
        for path in files[:-1]:
            if self._bytes <= self.limit:
                break
            self._bytes -= path.stat().st_size
            path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return list(self.folder.glob("*.safetensors"))

    def _path(self, name: str) -> Path:
        return self.folder / f"{digest(name)}.safetensors"


def _leaving(model: Any, picture: Inputs) -> Tensor:
    return encode(model, [picture])[0]


def _entering(model: Any, projector: Any, picture: Inputs) -> Tensor:
    """Caught where the model itself hands it over, so that layers and tokens are chosen by the model's own rule."""
    caught: list[Tensor] = []
    hook = projector.register_forward_pre_hook(lambda module, given: caught.append(given[0].detach()))
    try:
        model.get_image_features(**picture, return_dict=True)
    finally:
        hook.remove()
    return caught[0]


def _projected(model: Any, projector: Any, entering: list[Tensor], pictures: Sequence[Inputs]) -> list[Tensor]:
    """(1, N, W) of each picture, from the (tiles, n, w) that enter the projector."""
    if all(one.shape == entering[0].shape for one in entering):
        made = projector(torch.cat(entering)).split(len(entering[0]))
    else:
        made = [projector(one) for one in entering]
    if hasattr(model, "pack_image_features"):  # LLaVA-NeXT cuts the tiles' padding off and ends each of their rows with a newline
        sizes = torch.cat([one["image_sizes"] for one in pictures])
        made, _ = model.pack_image_features(made, sizes, model.config.vision_feature_select_strategy, model.image_newline)
    return [one.reshape(1, -1, one.shape[-1]) for one in made]
