"""How well a CLIP or BLIP model finds that a picture fits its prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from sightline.engines.local import LocalEngine, in_batches, loading, quiet, torch_dtype
from sightline.engines.processors import read_processor
from sightline.engines.weights import locate
from sightline.errors import RecipeError
from sightline.plugin import need

if TYPE_CHECKING:
    import PIL.Image
    import torch

CLIPSCORE_PREFIX = "A photo depicts "
CLIPSCORE_WEIGHT = 2.5
BLIP_MAX_TOKENS = 35
CLASSES = {"clip": "CLIPModel", "blip": "BlipForImageTextRetrieval"}


class ClipScores(LocalEngine):
    """Score pictures by CLIPScore, PickScore or BLIP, each equal to its original implementation where dtype is float32.

    Models are of transformers' layout: openai/clip-vit-base-patch32 for clipscore, yuvalkirstain/PickScore_v1 for pickscore,
    Salesforce/blip-itm-base-coco for BLIP. As in the originals, a prompt's end that the model has no room for does not count:
    CLIP reads 77 tokens (clipscore's prefix among them), BLIP 35.
    """

    roles: ClassVar[frozenset[str]] = frozenset({"image_scorer"})

    rule: Literal["clipscore", "pickscore", "blip_itm", "blip_itc"]
    """clipscore: 2.5 max(cosine, 0), the prompt after 'A photo depicts' (Hessel et al., 2021). pickscore: the cosine times the
    model's own scale (Kirstain et al., 2023). blip_itm: probability that both match, by BLIP's matching head (Li et al., 2022);
    blip_itc: BLIP's cosine."""

    @property
    def family(self) -> str:
        """The model_type that the rule reads."""
        return "blip" if self.rule.startswith("blip") else "clip"

    def load(self) -> PictureScores:
        need("torch")
        device = self.torch_device()
        with loading(self.model):
            model = self._weights(device)
            processor = self._processor()
        return PictureScores(self, model, processor)

    def _processor(self) -> Any:
        """The processor; RecipeError where there is no tokenizer, for which transformers makes one that knows no word."""
        processor = read_processor(self.model, self.revision)
        if len(processor.tokenizer) <= len(processor.tokenizer.all_special_tokens):
            raise RecipeError(f"model {self.model}", "its folder has no tokenizer", "put tokenizer.json beside the weights")
        return processor

    def _weights(self, device: Any) -> Any:
        """The model; RecipeError where it is another, or lacks weights, which loading would fill with random numbers."""
        import transformers

        folder, where = locate(self.model), f"model {self.model}"
        fix = "clipscore and pickscore take CLIP models; blip_itm and blip_itc BLIP models with a matching head"
        found = transformers.AutoConfig.from_pretrained(folder, revision=self.revision).model_type
        if found != self.family:
            raise RecipeError(where, f"rule {self.rule} reads a {self.family} model, and this is a {found}", fix)
        model, told = getattr(transformers, CLASSES[self.family]).from_pretrained(
            folder, revision=self.revision, dtype=torch_dtype(self.dtype, device), output_loading_info=True
        )
        if told["missing_keys"]:
            raise RecipeError(where, f"has no weights for {', '.join(sorted(told['missing_keys'])[:3])}", fix)
        return model.to(device).eval()


class PictureScores:
    """A loaded model that scores pictures."""

    def __init__(self, section: ClipScores, model: Any, processor: Any) -> None:
        self.section, self.model, self.processor = section, model, processor

    def score(self, prompts: Sequence[str], pictures: Sequence[PIL.Image.Image]) -> list[float]:
        """How well each picture fits the prompt at its place; larger is better."""
        import torch

        grade = self._clip if self.section.family == "clip" else self._blip

        def work(batch: Sequence[tuple[str, PIL.Image.Image]]) -> list[float]:
            found: list[float] = grade([prompt for prompt, _ in batch], [picture for _, picture in batch]).tolist()
            return found

        pairs = list(zip(prompts, pictures, strict=True))
        with quiet(), torch.no_grad():
            return in_batches(pairs, self.section.batch_size, work, f"model {self.section.model}")

    def _clip(self, prompts: list[str], pictures: list[PIL.Image.Image]) -> torch.Tensor:
        is_clipscore = self.section.rule == "clipscore"
        texts = [CLIPSCORE_PREFIX + prompt for prompt in prompts] if is_clipscore else prompts
        words = self._words(texts, self.model.config.text_config.max_position_embeddings)
        found = self.model(**words, pixel_values=self._openai_pixels(pictures) if is_clipscore else self._pixels(pictures))
        cosines = _cosines(found.image_embeds, found.text_embeds)
        if is_clipscore:
            return CLIPSCORE_WEIGHT * cosines.clamp(min=0)
        return self.model.logit_scale.cpu().double().exp() * cosines

    def _blip(self, prompts: list[str], pictures: list[PIL.Image.Image]) -> torch.Tensor:
        words = self._words(prompts, BLIP_MAX_TOKENS)
        # not the model's own forward, which makes a mask of the picture that stays on the CPU
        seen = self.model.vision_model(pixel_values=self._pixels(pictures)).last_hidden_state
        if self.section.rule == "blip_itc":
            said = self.model.text_encoder(**words).last_hidden_state
            return _cosines(self.model.vision_proj(seen[:, 0]), self.model.text_proj(said[:, 0]))
        said = self.model.text_encoder(**words, encoder_hidden_states=seen).last_hidden_state
        # float64: probabilities of good pictures are near 1, where float32 would call them equal
        found: torch.Tensor = self.model.itm_head(said[:, 0]).cpu().double().softmax(dim=-1)[:, 1]
        return found

    def _words(self, texts: list[str], max_length: int) -> dict[str, torch.Tensor]:
        found = self.processor.tokenizer(texts, padding=True, truncation=True, max_length=max_length, return_tensors="pt")
        return {name: found[name].to(self.model.device) for name in ("input_ids", "attention_mask")}

    def _pixels(self, pictures: list[PIL.Image.Image]) -> torch.Tensor:
        pixels: torch.Tensor = self.processor.image_processor(pictures, return_tensors="pt")["pixel_values"]
        return pixels.to(self.model.device, self.model.dtype)

    def _openai_pixels(self, pictures: list[PIL.Image.Image]) -> torch.Tensor:
        """As openai/CLIP prepares them, which crops some oblong pictures a pixel beside where transformers' processor does."""
        import torch

        from sightline.engines.image_reward_model import preprocess

        size = self.model.config.vision_config.image_size
        return torch.stack([preprocess(picture, size) for picture in pictures]).to(self.model.device, self.model.dtype)


def _cosines(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Row by row. Lengths are taken in float64, as a half-precision norm would lift or lower all of a picture's scores."""
    import torch

    return torch.cosine_similarity(first.cpu().double(), second.cpu().double(), dim=-1)
