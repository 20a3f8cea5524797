"""An adapter and its base as one ordinary model folder, with proof that every trained tensor is in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import RunError
from sightline.train.checkpoint import ABOUT, Checkpoint

if TYPE_CHECKING:
    from torch import Tensor

PREFIX = "base_model.model."
CLOSE = 1e-5
"""How far a merged number may be from base plus update, relative to the largest: float32's rounding, no more."""


@dataclass(frozen=True)
class Merged:
    """What a merge came to. `lost` is the share of the update that rounding to the base's precision moved."""

    folder: Path
    num_tensors: int
    dtype: str
    lost: float

    def lines(self) -> Iterator[str]:
        """For the terminal."""
        yield f"{self.folder}: an ordinary model folder; all {self.num_tensors} trained tensors are in it, and it loads again"
        yield self.rounding

    @property
    def rounding(self) -> str:
        return f"rounding to {self.dtype}, the base's precision, moved the update by {100 * self.lost:.2g} % of its length"


def merge(adapter: Path, out: Path) -> Merged:
    """Write base plus adapter into `out`, in the base's precision; RunError where a trained tensor did not arrive.

    `adapter` is a trained checkpoint's folder, as a run's `adapter` is.
    """
    import torch
    from safetensors.torch import load_file

    from sightline.engines.local import quiet
    from sightline.engines.transformers import load_model, load_processor, with_adapter

    trained = _trained(adapter)
    if out.exists() and any(out.iterdir()):
        raise RunError(str(out), "this folder is not empty", "give a new one with --out")
    network = load_model(trained.model, trained.revision, "float32", torch.device("cpu"))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    expected, updates = _expected(before, load_file(adapter / "adapter_model.safetensors"), _scale(adapter), str(adapter))
    merged = with_adapter(network, str(adapter)).merge_and_unload()
    after = merged.state_dict()
    for name, wanted in expected.items():
        if name not in after or not (after[name] - wanted).abs().max() <= CLOSE * wanted.abs().max():
            raise RunError(str(adapter), f"the trained tensor '{name}' did not arrive in the merged model", "report this")
    dtype = _stored_dtype(trained)
    rounded = merged.to(dtype).state_dict()  # `after` keeps what it was in float32
    with quiet():
        merged.save_pretrained(out)
        load_processor(trained.model, trained.revision).save_pretrained(out)
        _check_reloads(out, rounded)
    moved = sum((rounded[name].float() - after[name]).square().sum() for name in expected)
    length = sum(update.square().sum() for update in updates.values())
    return Merged(out, len(expected), str(dtype).removeprefix("torch."), float((moved / length).sqrt()) if length else 0.0)


def _trained(adapter: Path) -> Checkpoint:
    """The checkpoint, which holds an adapter."""
    if not (adapter / ABOUT).is_file():
        raise RunError(str(adapter), "no trained checkpoint is here", "give a run's folder that has an adapter")
    if not (adapter / "adapter_config.json").is_file():
        raise RunError(str(adapter), "this run trained a whole model", "there is nothing to merge: the folder is the model")
    return Checkpoint.read(adapter.resolve())


def _scale(adapter: Path) -> float:
    config = json.loads((adapter / "adapter_config.json").read_text())
    return config["lora_alpha"] / config["r"]


def _expected(
    before: dict[str, Tensor], trained: dict[str, Tensor], scale: float, where: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What each changed tensor must become, and by how much it changes, worked out from the adapter's own numbers."""
    updates: dict[str, Tensor] = {}
    for key, tensor in trained.items():
        name = key.removeprefix(PREFIX).replace(".lora_A.weight", ".weight").replace(".lora_B.weight", ".weight")
        if name not in before:
            raise RunError(
                where, f"the adapter's tensor '{key}' fits no tensor of the base model", "was it trained on another model?"
            )
        if ".lora_A." in key:
            updates[name] = scale * trained[key.replace(".lora_A.", ".lora_B.")].float() @ tensor.float()
        elif ".lora_B." not in key:
            updates[name] = tensor.float() - before[name]
    return {name: before[name] + update for name, update in updates.items()}, updates


def _stored_dtype(trained: Checkpoint) -> Any:
    """The precision that the base model's files have."""
    import torch
    from transformers import AutoConfig

    from sightline.engines.weights import locate

    found = AutoConfig.from_pretrained(locate(trained.model), revision=trained.revision).dtype
    return found if isinstance(found, torch.dtype) else torch.float32


def _check_reloads(folder: Path, expected: dict[str, Tensor]) -> None:
    """RunError where the written folder does not load as what was written."""
    from transformers import AutoModelForImageTextToText

    found = AutoModelForImageTextToText.from_pretrained(folder, dtype="auto").state_dict()
    for name, tensor in expected.items():
        if name not in found or not found[name].equal(tensor):
            raise RunError(str(folder), f"the tensor '{name}' does not load as it was written", "is the disk full or failing?")
