"""The painter's text towers and their lesson: which colour belongs to which thing, and what a prompt asks for (a torch file).

Large painters take text towers that were trained before and leave them as they are; so does the small one. Without the lesson the
painter learns to draw long before it learns to read. Axes: B prompts, T tokens, W features.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, PreTrainedTokenizerFast
from transformers.models.clip.modeling_clip import CLIPTextModelOutput

from sightline.miniature import world
from sightline.miniature.words import PROMPT_TOKENS

WIDTH = 64
COLOURS, KINDS, TOPICS = tuple(world.COLOURS), world.KINDS, tuple(world.TOPICS)


def untrained(tokenizer: PreTrainedTokenizerFast) -> CLIPTextModelWithProjection:
    """A small CLIP text tower. Pipelines read its last layer but one, and its projected last layer at the prompt's end."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=PROMPT_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    tower = CLIPTextModelWithProjection(config)
    for name, weight in tower.named_parameters():  # CLIP's own start, std 0.02, is far too small at this width
        if "embedding" in name:
            nn.init.normal_(weight, std=0.08)
        elif weight.dim() == 2:
            nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
    return tower


def train(
    tower: CLIPTextModelWithProjection,
    tokenizer: PreTrainedTokenizerFast,
    rng: np.random.Generator,
    steps: int,
    log: Callable[[str], None],
    batch: int = 64,
) -> None:
    """Teach the tower to know each thing's colour at the thing's word, and all things and the place at the prompt's end."""
    readout = _Readout()
    weights = [*tower.parameters(), *readout.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps + 1, pct_start=0.1)
    kind_ids = torch.tensor(tokenizer.convert_tokens_to_ids(list(KINDS)))
    began = time.process_time()
    for step in range(steps):
        scenes = [_scene(rng) for _ in range(batch)]
        prompts = [world.prompt(scene) for scene in scenes]
        ids = tokenizer(prompts, padding="max_length", max_length=PROMPT_TOKENS, return_tensors="pt")["input_ids"]
        loss = readout.loss(tower(ids, output_hidden_states=True), scenes, ids, kind_ids)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            log(f"text tower step {step}: loss {loss.item():.3f}, {time.process_time() - began:.0f} CPU s")


def _scene(rng: np.random.Generator) -> world.Scene:
    """A scene of any things: the tower should read what is rare, too."""
    count = int(rng.integers(1, 4))
    things = [world.Thing(str(rng.choice(KINDS)), str(rng.choice(COLOURS)), cell) for cell in range(count)]
    return world.Scene(tuple(things), str(rng.choice(TOPICS)))


class _Readout(nn.Module):
    """Linear heads for the lesson; thrown away after it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.colour, self.kind = nn.Linear(WIDTH, len(COLOURS)), nn.Linear(WIDTH, len(KINDS))
        self.things, self.place = nn.Linear(WIDTH, len(COLOURS) * len(KINDS)), nn.Linear(WIDTH, len(TOPICS))

    def loss(self, output: CLIPTextModelOutput, scenes: Sequence[world.Scene], ids: Tensor, kind_ids: Tensor) -> Tensor:
        named_BT = torch.isin(ids, kind_ids)
        words = self.norm(output.hidden_states[-2][named_BT])
        things = [thing for scene in scenes for thing in scene.things]  # in the order of the words
        colours = torch.tensor([COLOURS.index(thing.colour) for thing in things])
        kinds = torch.tensor([KINDS.index(thing.kind) for thing in things])
        asked = torch.zeros(len(scenes), len(KINDS), len(COLOURS))
        for row, scene in enumerate(scenes):
            for thing in scene.things:
                asked[row, KINDS.index(thing.kind), COLOURS.index(thing.colour)] = 1
        places = torch.tensor([TOPICS.index(scene.topic) for scene in scenes])
        bound = cross_entropy(self.colour(words), colours) + cross_entropy(self.kind(words), kinds)
        # the mean over 72 answers, nearly all no, would drown in the other terms
        whole = 20 * binary_cross_entropy_with_logits(self.things(output.text_embeds), asked.flatten(1))
        return bound + whole + cross_entropy(self.place(output.text_embeds), places)
