"""The miniature VLMs, ordinary LLaVA folders: a policy with false habits, three colleagues, and a judge (a torch file)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from sightline.miniature import captions, lessons, tokens, tower, world
from sightline.miniature.captions import Turn, Writer
from sightline.miniature.world import CELL, SIZE, Scene

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ ' ' if not loop.first and message.role == 'assistant' else '' }}{{ message.role | upper }}: "
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content if part.type == 'image' %}<image>\n{% endfor %}"
    "{% for part in message.content if part.type == 'text' %}{{ part.text }}{% endfor %}{% endif %}"
    "{{ '</s>' if message.role == 'assistant' else '' }}{% endfor %}{{ ' ASSISTANT:' if add_generation_prompt else '' }}"
)
"""LLaVA-1.5's turns: `USER: <image>\\n... ASSISTANT: ...</s>`."""


@dataclass(frozen=True)
class Plan:
    """Size, data and training of one model."""

    writer: Writer
    width: int = 128
    layers: int = 3
    mlp: int = 320
    vision_width: int = 96
    vision_layers: int = 2
    steps: int = 1000
    descriptions: int = 2
    questions: int = 3
    existence: int = 6
    """Turns about each picture of a page."""
    crowded: float = 0.0
    """Share of pictures that break the world's statistics, as painters do."""
    num_pictures: int = 12000
    lr: float = 1.5e-3


CARELESS = Writer(careless=0.8, credulous=0.95)
COLOURBLIND = Writer(careless=0.4, credulous=0.4, miscalls=(("pink", "red"), ("purple", "blue")))
PLANS = {
    "policy": Plan(CARELESS),
    "terse": Plan(Writer(careless=0.3, omits=0.8), width=96, steps=500, descriptions=4, questions=2, existence=2),
    "colourblind": Plan(COLOURBLIND, layers=2, steps=600, descriptions=4, questions=2, existence=2),
    "careful": Plan(Writer(careless=0.1), layers=4, mlp=256, steps=600, descriptions=4, questions=2, existence=2),
    "judge": Plan(
        Writer(),
        width=160,
        layers=4,
        mlp=384,
        vision_width=128,
        vision_layers=3,
        steps=600,
        descriptions=1,
        existence=12,
        crowded=0.4,
    ),
}
POOL = ("policy", "terse", "colourblind", "careful")


def build(name: str, folder: Path, seed: int, share: float = 1.0, log: Callable[[str], None] = print) -> None:
    """Train the model of this name from nothing and save it; `share` below 1 shortens the training, for tests."""
    plan = PLANS[name]
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, sum(name.encode())])
    started = time.process_time()
    processor = new_processor()
    model = new_model(plan, processor.tokenizer)
    album = _Album(plan, processor.image_processor, rng)
    tower.train(model.model.vision_tower, album.draw, max(2, int(250 * share)), 64, log)
    scenes, features = album.features(model, max(64, int(plan.num_pictures * share)))
    aligned = lessons.align_projector(model, features, scenes, processor.tokenizer)
    log(f"{name}: projector leaves {aligned:.3f} of the variance, {time.process_time() - started:.0f} CPU s")
    binder = lessons.Binder(processor.tokenizer)
    pages = _Pages(plan, binder, scenes, features, rng)
    lessons.train(model, pages, binder, max(2, int(plan.steps * share)), plan.lr, log)
    save(model, processor, folder)
    log(f"{name}: saved in {folder} after {time.process_time() - started:.0f} CPU s")


def new_processor() -> LlavaProcessor:
    """The processor all five share."""
    special = ("<pad>", "<s>", "</s>", "<image>")
    tokenizer = tokens.tokenizer(special, bos="<s>", eos="</s>", pad="<pad>", padding_side="left")
    image_processor = CLIPImageProcessorPil(
        size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}, image_mean=[0.5] * 3, image_std=[0.25] * 3
    )
    return LlavaProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=CELL,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        chat_template=CHAT_TEMPLATE,
    )


def new_model(plan: Plan, tokenizer: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
    """An untrained LLaVA of the plan's size, its weights as wide as small models need them."""
    vision = CLIPVisionConfig(
        hidden_size=plan.vision_width,
        intermediate_size=2 * plan.vision_width,
        num_hidden_layers=plan.vision_layers,
        num_attention_heads=plan.vision_width // 32,
        image_size=SIZE,
        patch_size=CELL,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=plan.width,
        intermediate_size=plan.mlp,
        num_hidden_layers=plan.layers,
        num_attention_heads=plan.width // 32,
        max_position_embeddings=2048,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=tower.CELLS,
        tie_word_embeddings=False,
    )
    model = LlavaForConditionalGeneration(config)
    spread(model)
    return model


def spread(model: nn.Module) -> None:
    """Initialise for small widths: linear layers by fan-in, embeddings 0.08. With the usual 0.02 they learn grammar only."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.08)


class _Album:
    """Draws training pictures of the world, the held-out scenes excepted."""

    def __init__(self, plan: Plan, image_processor: CLIPImageProcessorPil, rng: np.random.Generator) -> None:
        self.plan, self.processor, self.rng = plan, image_processor, rng

    def _pictures(self, scenes: list[Scene]) -> Tensor:
        pictures = [tower.picture(scene, self.rng) for scene in scenes]
        return tower.pixel_values(pictures, self.processor.image_mean, self.processor.image_std)

    def draw(self, count: int) -> tuple[list[Scene], Tensor]:
        """Scenes for the tower: half of them crowded."""
        scenes = [tower.crowded(self.rng) if self.rng.random() < 0.5 else world.sample(self.rng) for _ in range(count)]
        return scenes, self._pictures(scenes)

    @torch.no_grad()
    def features(self, model: LlavaForConditionalGeneration, count: int) -> tuple[list[Scene], Tensor]:
        """Scenes for the language lessons, and what the finished tower makes of them."""
        crowded = self.rng.random(count) < self.plan.crowded
        scenes = [tower.crowded(self.rng) if alone else world.sample(self.rng) for alone in crowded]
        tower_ = model.model.vision_tower
        chunks = [self._pictures(scenes[at : at + 256]) for at in range(0, count, 256)]
        return scenes, torch.cat([tower.cells(tower_, chunk) for chunk in chunks])


class _Pages:
    """Writes pages of the plan's turns about pictures drawn from the album."""

    def __init__(
        self, plan: Plan, binder: lessons.Binder, scenes: list[Scene], features: Tensor, rng: np.random.Generator
    ) -> None:
        self.plan, self.binder, self.scenes, self.features, self.rng = plan, binder, scenes, features, rng

    def __call__(self) -> lessons.Page:
        chosen = self.rng.integers(len(self.scenes), size=16)
        return self.binder.page(self.features[chosen], [self._turns(self.scenes[at]) for at in chosen])

    def _turns(self, scene: Scene) -> list[Turn]:
        plan, writer, rng = self.plan, self.plan.writer, self.rng
        asked = [captions.instruction(scene, rng) for _ in range(plan.descriptions)]
        described = [captions.description(question, scene, writer, rng) for question in asked]
        existence = [captions.existence(scene, writer, rng) for _ in range(plan.existence)]
        return described + existence + [captions.question(scene, writer, rng) for _ in range(plan.questions)]


def save(model: LlavaForConditionalGeneration, processor: LlavaProcessor, folder: Path) -> None:
    """Write an ordinary model folder: fp16 weights, which load as float32."""
    tokenizer = processor.tokenizer
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=False,
        max_new_tokens=64,
    )
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, state_dict={name: value.half() for name, value in model.state_dict().items()})
    processor.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # safetensors writes for its owner only
