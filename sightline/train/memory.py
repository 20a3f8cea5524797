"""What training would hold in memory, from a model's configuration alone: no weights are read (a torch file)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sightline.engines.local import loading, quiet
from sightline.engines.weights import locate
from sightline.train import tuning
from sightline.train.base import Base
from sightline.train.families import family_of
from sightline.train.logprobs import LOGITS_AT_ONCE

if TYPE_CHECKING:
    from sightline.train import Train

META = torch.device("meta")
FLOAT32 = 4
"""Bytes of a number."""


class Blueprint(Base):
    """A model whose tensors have shapes and no numbers; everything else about it is as in training."""

    def _loaded(self, device: Any, dtype: Any) -> Any:
        from transformers import AutoConfig, AutoModelForImageTextToText

        with loading(self.model), META:
            config = AutoConfig.from_pretrained(locate(self.model), revision=self.revision)
            return AutoModelForImageTextToText.from_config(config, dtype=dtype)


@dataclass(frozen=True)
class Part:
    """A part of the model: how it trains, how many numbers of it train, how many it has."""

    mode: str
    trained: int
    total: int


@dataclass(frozen=True)
class Step:
    """The largest step that can come: pairs that go through the model together, and tokens of a pair."""

    pairs: int
    packed: int
    """Packed tokens of the longest pair."""
    picture: int
    """Picture tokens among them, those of a spoilt picture included."""
    scored: int
    """Tokens whose log-probabilities the loss takes."""


@dataclass(frozen=True)
class Memory:
    """Bytes that a step of training holds. Weights, gradients and optimizer are exact, the others a rule of thumb."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations + self.logits


class Sizes:
    """Counts of a network on the meta device, made ready as the section says."""

    def __init__(self, network: Any, section: Train) -> None:
        config = network.config.get_text_config()
        self.layers, self.width, self.words = config.num_hidden_layers, config.hidden_size, config.vocab_size
        self.section = section
        self.linear = {part: _linear_layers(network, part) for part in family_of(network).parts}
        self.widest = max(layer.out_features for layer in self.linear["language_model"])
        totals = _totals(network)
        self.itemsize = network.dtype.itemsize
        with META, quiet():
            self.tuned = tuning.tune(network, section)
        trained = tuning.count_trained(self.tuned)
        self.parts = {part: Part(mode, trained[part], totals[part]) for part, mode in section.parts.items()}

    def memory(self, step: Step) -> Memory:
        """What the step holds at most.

        weights: each number's bytes; gradients: those of the trained numbers; optimizer: AdamW's two means of each.
        activations: gradients need what goes into each linear layer and what comes out of it, T (inputs + outputs) numbers for
        T tokens (what norms and nonlinearities keep besides is about what shared inputs are counted twice), and keys and values
        once more for the branches, T x 2 widths a layer; on their way back are three gradients of the widest linear layer.
        Where weights are narrower than float32, norms (two a layer) and adapters keep their inputs once more in float32, in
        which the three gradients are, too. Checkpointed layers keep their first input, and one layer at a time the rest. All of
        the language model counts whatever trains, for gradients go through it; a vision tower that trains is taken to see as
        many patches as there are picture tokens.
        logits: float32, and three times as much for their gradients, of as many tokens as are scored at once.
        """
        trained = [parameter for parameter in self.tuned.parameters() if parameter.requires_grad]
        gradients = sum(parameter.numel() * parameter.element_size() for parameter in trained)
        return Memory(
            weights=sum(parameter.numel() * parameter.element_size() for parameter in self.tuned.parameters()),
            gradients=gradients,
            optimizer=2 * gradients,
            activations=self._activations(step),
            logits=4 * FLOAT32 * min(step.pairs * step.scored * self.words, LOGITS_AT_ONCE),
        )

    def _activations(self, step: Step) -> int:
        text, picture = step.pairs * step.packed, step.pairs * step.picture
        tower_trains = self.section.vision_tower != "frozen"
        projects = tower_trains or self.section.projector != "frozen"
        tower = picture * self._bytes_a_token("vision_tower") if tower_trains else 0
        return text * self._language_bytes() + tower + (picture * self._bytes_a_token("projector") if projects else 0)

    def _language_bytes(self) -> int:
        """The language model's activations for one token, by the rule that `memory` tells."""
        hidden = self.width * self.itemsize
        kept = self._bytes_a_token("language_model") + 2 * self.layers * hidden
        if self.itemsize < FLOAT32:
            kept += 2 * self.layers * self.width * FLOAT32
        if self.section.gradient_checkpointing:
            kept = kept // self.layers + self.layers * hidden
        return kept + 3 * self.widest * max(self.itemsize, FLOAT32)

    def _bytes_a_token(self, part: str) -> int:
        inputs = sum(layer.in_features for layer in self.linear[part])
        outputs = sum(layer.out_features for layer in self.linear[part])
        copied = FLOAT32 * inputs if self.section.parts[part] == "lora" and self.itemsize < FLOAT32 else 0
        return self.itemsize * (inputs + outputs) + copied


def room() -> int:
    """Bytes that this machine's GPU has, or without one its memory."""
    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _totals(network: nn.Module) -> dict[str, int]:
    """Numbers of each part."""
    family = family_of(network)
    totals = dict.fromkeys(family.parts, 0)
    for name, parameter in network.named_parameters():
        totals[family.part_of(name)] += parameter.numel()
    return totals


def _linear_layers(network: nn.Module, part: str) -> list[nn.Linear]:
    """A part's linear layers, but for the head."""
    prefixes = tuple(f"{prefix}." for prefix in family_of(network).parts[part])
    return [module for name, module in network.named_modules() if isinstance(module, nn.Linear) and name.startswith(prefixes)]
