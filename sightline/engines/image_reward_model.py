"""ImageReward (Xu et al., 2023) on transformers' BLIP: does a picture show what its prompt asks for? (a torch file)

The published code no longer imports with today's transformers; this reads and writes its checkpoint's names on top of
BlipVisionModel and BlipTextModel. Axes: B pairs of picture and prompt, T tokens, P patches and the class token, W features.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoTokenizer, BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel, PreTrainedTokenizerBase

from sightline.errors import DataError

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PUBLISHED_TOKENIZER = "bert-base-uncased"
"""The published folder brings no tokenizer. BLIP adds two words to BERT's, which scoring never uses."""

_NAMES = (  # the beginning of a published name, and of ours; N stands for a layer's number
    ("blip.visual_encoder.blocks.N.attn.qkv.", "vision.encoder.layers.N.self_attn.qkv."),
    ("blip.visual_encoder.blocks.N.attn.proj.", "vision.encoder.layers.N.self_attn.projection."),
    ("blip.visual_encoder.blocks.N.norm1.", "vision.encoder.layers.N.layer_norm1."),
    ("blip.visual_encoder.blocks.N.norm2.", "vision.encoder.layers.N.layer_norm2."),
    ("blip.visual_encoder.blocks.N.mlp.", "vision.encoder.layers.N.mlp."),
    ("blip.visual_encoder.norm.", "vision.post_layernorm."),
    ("blip.visual_encoder.patch_embed.proj.", "vision.embeddings.patch_embedding."),
    ("blip.visual_encoder.cls_token", "vision.embeddings.class_embedding"),
    ("blip.visual_encoder.pos_embed", "vision.embeddings.position_embedding"),
    ("blip.text_encoder.", "text."),
    ("mlp.layers.", "head."),
)
# in the published file, but without a part in scoring: a constant, and the projections of BLIP's contrastive pre-training
_UNUSED = re.compile(r"^blip\.text_encoder\.embeddings\.position_ids$|^blip\.(vision|text)_proj\.|^blip\.text_encoder\.pooler\.")


@dataclass(frozen=True)
class ImageRewardConfig:
    """Sizes; as they stand, those of the published model."""

    image_size: int = 224
    patch_size: int = 16
    vision_width: int = 1024
    vision_layers: int = 24
    vision_heads: int = 16
    vocab_size: int = 30524
    text_width: int = 768
    text_layers: int = 12
    text_heads: int = 12
    max_positions: int = 512
    head_widths: tuple[int, ...] = (1024, 128, 64, 16)
    max_length: int = 35
    score_mean: float = 0.16717362830052426
    score_std: float = 1.0333394966054072

    @classmethod
    def from_folder(cls, folder: Path) -> ImageRewardConfig:
        """The folder's config.json; the published sizes where it has none."""
        path = folder / "config.json"
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        known = {field.name for field in dataclasses.fields(cls)}
        settings: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in found.items() if name in known}
        return cls(**settings)

    def vision(self) -> BlipVisionConfig:
        return BlipVisionConfig(
            hidden_size=self.vision_width,
            intermediate_size=4 * self.vision_width,
            num_hidden_layers=self.vision_layers,
            num_attention_heads=self.vision_heads,
            image_size=self.image_size,
            patch_size=self.patch_size,
            layer_norm_eps=1e-6,
        )

    def text(self) -> BlipTextConfig:
        return BlipTextConfig(
            vocab_size=self.vocab_size,
            hidden_size=self.text_width,
            encoder_hidden_size=self.vision_width,
            intermediate_size=4 * self.text_width,
            num_hidden_layers=self.text_layers,
            num_attention_heads=self.text_heads,
            max_position_embeddings=self.max_positions,
            bos_token_id=None,
            sep_token_id=None,
            is_decoder=True,  # builds the cross-attention; the forward pass attends both ways all the same
        )


class ImageRewardModel(nn.Module):
    """Vision tower, text tower that looks at it, and a head that makes the text's first state a number."""

    def __init__(self, config: ImageRewardConfig, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__()
        self.config, self.tokenizer = config, tokenizer
        self.vision = BlipVisionModel(config.vision())
        self.text = BlipTextModel(config.text(), add_pooling_layer=False)
        self.head = _head(config.text_width, config.head_widths)

    @classmethod
    def from_folder(
        cls, path: str | Path, dtype: torch.dtype | Literal["auto"] = torch.float32, device: str | torch.device = "cpu"
    ) -> ImageRewardModel:
        """Load model.safetensors or ImageReward.pt, with the folder's config.json and tokenizer where it has them."""
        folder = Path(path)
        own_tokenizer = (folder / "tokenizer.json").is_file() or (folder / "vocab.txt").is_file()
        tokenizer = AutoTokenizer.from_pretrained(folder if own_tokenizer else PUBLISHED_TOKENIZER)
        model = cls(ImageRewardConfig.from_folder(folder), tokenizer)
        weights = _read_weights(folder)
        model.load_published(weights, where=str(folder))
        stored = weights["mlp.layers.0.weight"].dtype
        return model.to(device=device, dtype=stored if dtype == "auto" else dtype).eval()

    def save_folder(self, path: str | Path, dtype: torch.dtype = torch.float16) -> None:
        """Write the layout that `from_folder` reads, under the published names."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        settings = {"architectures": ["ImageReward"], **dataclasses.asdict(self.config)}
        (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        save_file({name: value.to(dtype).contiguous() for name, value in self.published().items()}, folder / "model.safetensors")
        self.tokenizer.save_pretrained(folder)

    def published(self) -> dict[str, Tensor]:
        """The weights under the published names."""
        return {published_name(name): value for name, value in self.state_dict().items()}

    def load_published(self, weights: Mapping[str, Tensor], where: str = "ImageReward") -> None:
        """Take weights under the published names; all of them, and no unknown ones."""
        found = {our_name(name): value for name, value in weights.items() if not _UNUSED.search(name)}
        missing, unknown = sorted(self.state_dict().keys() - found.keys()), sorted(found.keys() - self.state_dict().keys())
        if missing or unknown:
            some = ", ".join(published_name(name) for name in (missing or unknown)[:3])
            problem = (
                f"not an ImageReward checkpoint of these sizes: {len(missing)} weights missing, {len(unknown)} unknown ({some})"
            )
            raise DataError(where, problem, "check config.json against the weights")
        self.load_state_dict(found)

    def forward(self, pixels: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Scores (B,) of pictures (B, 3, height, width) for prompts (B, T)."""
        return self.grade(self.read(pixels, ids, mask))

    def read(self, pixels: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """States (B, T, W) of the prompts' tokens, which have looked at the pictures."""
        patches_BPW = self.vision(pixel_values=pixels).last_hidden_state
        found: Tensor = self.text(input_ids=ids, attention_mask=mask, encoder_hidden_states=patches_BPW).last_hidden_state
        return found

    def grade(self, states_BTW: Tensor) -> Tensor:
        """Scores (B,) from the first token's state, standardised as the configuration says."""
        return (self.head(states_BTW[:, 0]).squeeze(-1) - self.config.score_mean) / self.config.score_std

    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids and mask (B, T), padded to the configured length."""
        length = self.config.max_length
        found = self.tokenizer(list(prompts), padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        return found["input_ids"], found["attention_mask"]

    def pixels(self, images: Sequence[Image.Image]) -> Tensor:
        """Pictures as the vision tower takes them, (B, 3, height, width)."""
        return torch.stack([preprocess(image, self.config.image_size) for image in images])

    @torch.no_grad()
    def score(self, prompts: Sequence[str], images: Sequence[Image.Image], batch_size: int = 16) -> list[float]:
        """How well each picture suits the prompt at its place; larger is better."""
        weight = next(self.parameters())
        found: list[float] = []
        for start in range(0, len(prompts), batch_size):
            rows = slice(start, start + batch_size)
            ids, mask = self.encode(prompts[rows])
            pixels = self.pixels(images[rows]).to(weight)
            found += self(pixels, ids.to(weight.device), mask.to(weight.device)).float().tolist()
        return found


def _head(width: int, widths: Sequence[int]) -> nn.Sequential:
    """Linear layers without activations, as published; the dropouts between the first ones number the layers."""
    layers: list[nn.Module] = []
    for place, (into, out) in enumerate(zip((width, *widths), (*widths, 1), strict=True)):
        layers.append(nn.Linear(into, out))
        if place < 3:
            layers.append(nn.Dropout((0.2, 0.2, 0.1)[place]))
    return nn.Sequential(*layers)


def our_name(name: str) -> str:
    """Our name of a published weight."""
    return _translate(name, _NAMES)


def published_name(name: str) -> str:
    """The published name of one of our weights."""
    return _translate(name, tuple((ours, published) for published, ours in _NAMES))


def _translate(name: str, table: Sequence[tuple[str, str]]) -> str:
    for before, after in table:
        found = re.match(re.escape(before).replace("N", r"(\d+)"), name)
        if found:
            return after.replace("N", found[1] if found.groups() else "N") + name[found.end() :]
    return name


def _read_weights(folder: Path) -> dict[str, Tensor]:
    if (folder / "model.safetensors").is_file():
        return load_file(folder / "model.safetensors")
    if (folder / "ImageReward.pt").is_file():
        found: dict[str, Any] = torch.load(folder / "ImageReward.pt", map_location="cpu", weights_only=True)
        return found
    raise DataError(str(folder), "no model.safetensors and no ImageReward.pt", "give the folder of an ImageReward checkpoint")


def preprocess(image: Image.Image, size: int) -> Tensor:
    """Shorter side to `size` (bicubic), the centre cropped, CLIP's normalisation: (3, size, size)."""
    image = image.convert("RGB")
    width, height = image.size
    if (width, height) != (size, size):
        shorter = min(width, height)
        width, height = size * width // shorter, size * height // shorter
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - size) / 2), round((height - size) / 2)
    pixels = np.asarray(image.crop((left, top, left + size, top + size)), dtype=np.float32) / 255
    pixels = (pixels - np.array(CLIP_MEAN, dtype=np.float32)) / np.array(CLIP_STD, dtype=np.float32)
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())
