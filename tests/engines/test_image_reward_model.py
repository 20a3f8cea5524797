"""The port against the published maths, written out by hand in plain PyTorch under the published names."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import gelu, layer_norm, linear, softmax

from sightline.engines.image_reward_model import ImageRewardConfig, ImageRewardModel, our_name, preprocess, published_name
from sightline.errors import DataError
from sightline.miniature.words import word_tokenizer
from tests import standins
from tests.engines import rows

CONFIG = ImageRewardConfig(
    image_size=16,
    patch_size=8,
    vision_width=24,
    vision_layers=2,
    vision_heads=3,
    vocab_size=40,
    text_width=16,
    text_layers=2,
    text_heads=2,
    max_positions=20,
    head_widths=(12, 8, 6, 4),
    max_length=12,
    score_mean=0.5,
    score_std=2.0,
)
PROMPTS = ["a red car in the street", "a blue cup and a pink gift in the room"]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = ImageRewardModel(CONFIG, word_tokenizer(start="[CLS]", end="[SEP]", pad="[PAD]", unknown="[UNK]"))
    for name, weight in model.named_parameters():  # large and all different, biases too: a swapped weight must show
        spread = 2.5 if name.startswith("head.") else 1.5
        torch.nn.init.normal_(weight, std=spread / weight.shape[-1] ** 0.5 if weight.dim() > 1 else 0.5)
    return model.eval()


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, size=(16, 16, 3), dtype=np.uint8)) for _ in PROMPTS]


def attend(query, key, value, heads, mask=None):
    split = [states.unflatten(-1, (heads, -1)).transpose(1, 2) for states in (query, key, value)]
    scores = split[0] @ split[1].mT / math.sqrt(split[0].shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None, :].bool(), -torch.inf)
    return (softmax(scores, dim=-1) @ split[2]).transpose(1, 2).flatten(2)


def published_vision(w, pixels, config):
    """BLIP's vision transformer: fused queries, keys and values; normalisation before each half of a block."""

    def dense(name, states):
        return linear(states, w[f"blip.visual_encoder.{name}.weight"], w[f"blip.visual_encoder.{name}.bias"])

    def norm(name, states):
        weight, bias = w[f"blip.visual_encoder.{name}.weight"], w[f"blip.visual_encoder.{name}.bias"]
        return layer_norm(states, (config.vision_width,), weight, bias, 1e-6)

    size = config.patch_size
    patches = pixels.unfold(2, size, size).unfold(3, size, size).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
    projection = w["blip.visual_encoder.patch_embed.proj.weight"].flatten(1)
    states = linear(patches, projection, w["blip.visual_encoder.patch_embed.proj.bias"])
    first = w["blip.visual_encoder.cls_token"].expand(len(pixels), -1, -1)
    states = torch.cat([first, states], dim=1) + w["blip.visual_encoder.pos_embed"]
    for at in range(config.vision_layers):
        block = f"blocks.{at}"
        query, key, value = dense(f"{block}.attn.qkv", norm(f"{block}.norm1", states)).chunk(3, dim=-1)
        states = states + dense(f"{block}.attn.proj", attend(query, key, value, config.vision_heads))
        inner = gelu(dense(f"{block}.mlp.fc1", norm(f"{block}.norm2", states)))
        states = states + dense(f"{block}.mlp.fc2", inner)
    return norm("norm", states)


def published_text(w, ids, mask, seen, config):
    """BERT's layers with cross-attention to the picture after self-attention; normalisation after each part."""

    def dense(name, states):
        return linear(states, w[f"blip.text_encoder.{name}.weight"], w[f"blip.text_encoder.{name}.bias"])

    def norm(name, states):
        weight, bias = w[f"blip.text_encoder.{name}.LayerNorm.weight"], w[f"blip.text_encoder.{name}.LayerNorm.bias"]
        return layer_norm(states, (config.text_width,), weight, bias, 1e-12)

    words = w["blip.text_encoder.embeddings.word_embeddings.weight"][ids]
    states = norm("embeddings", words + w["blip.text_encoder.embeddings.position_embeddings.weight"][: ids.shape[1]])
    for at in range(config.text_layers):
        layer = f"encoder.layer.{at}"
        for part, source, hidden in (("attention", None, mask), ("crossattention", seen, None)):
            source = states if source is None else source
            key, value = dense(f"{layer}.{part}.self.key", source), dense(f"{layer}.{part}.self.value", source)
            found = attend(dense(f"{layer}.{part}.self.query", states), key, value, config.text_heads, hidden)
            states = norm(f"{layer}.{part}.output", dense(f"{layer}.{part}.output.dense", found) + states)
        inner = gelu(dense(f"{layer}.intermediate.dense", states))
        states = norm(f"{layer}.output", dense(f"{layer}.output.dense", inner) + states)
    return states


def test_the_score_is_the_published_models_written_out_by_hand(model, pictures):
    w = model.published()
    ids, mask = model.encode(PROMPTS)
    with torch.no_grad():
        seen = published_vision(w, model.pixels(pictures), CONFIG)
        state = published_text(w, ids, mask, seen, CONFIG)[:, 0]
        for at in (0, 2, 4, 6, 7):  # where the published head has its linear layers: no activations between
            state = linear(state, w[f"mlp.layers.{at}.weight"], w[f"mlp.layers.{at}.bias"])
    by_hand = (state[:, 0] - 0.5) / 2.0
    assert model.score(PROMPTS, pictures) == pytest.approx(by_hand.tolist(), abs=1e-5)
    assert abs(by_hand[0] - by_hand[1]) > 1e-2


def test_the_score_is_the_original_implementations(tmp_path):
    """Recorded with ImageReward.score of THUDM/ImageReward c1392c6 and its vit.py and med.py, on transformers 4.25.1, on a CPU:
    the stand-in's weights and BERT tokenizer, the published head; timm's and torchvision's parts were written out."""
    model = ImageRewardModel.from_folder(standins.build("image_reward", tmp_path))
    recorded = [-0.4338832497596741, -1.2146767377853394, -1.125226616859436, -1.9634373188018799, -3.297579288482666]
    assert model.score(rows.PROMPTS, rows.rectangles()) == pytest.approx(recorded, abs=1e-5)


def test_the_score_reads_both_the_picture_and_the_prompt(model, pictures):
    same, other_picture, other_prompt = model.score([PROMPTS[0]] * 2 + [PROMPTS[1]], [pictures[0], pictures[1], pictures[0]])
    assert abs(same - other_picture) > 1e-3
    assert abs(same - other_prompt) > 1e-3


def test_batches_do_not_change_scores_or_their_order(model, pictures):
    prompts, images = PROMPTS * 3, pictures * 3
    assert model.score(prompts, images, batch_size=4) == pytest.approx(model.score(prompts, images, batch_size=1), abs=1e-5)


def test_a_saved_folder_has_the_published_names_in_half_precision_and_scores_the_same(model, pictures, tmp_path):
    from safetensors.torch import load_file

    model.save_folder(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert {"blip.visual_encoder.blocks.1.attn.qkv.weight", "blip.visual_encoder.cls_token", "mlp.layers.7.bias"} <= stored.keys()
    assert "blip.text_encoder.encoder.layer.0.crossattention.self.query.weight" in stored
    assert {value.dtype for value in stored.values()} == {torch.float16}
    again = ImageRewardModel.from_folder(tmp_path)
    assert again.config == CONFIG
    assert again.score(PROMPTS, pictures) == pytest.approx(model.score(PROMPTS, pictures), abs=0.02)


def test_a_published_pt_file_loads_with_its_leftovers_of_pre_training(model, pictures, tmp_path):
    leftovers = {
        "blip.text_encoder.embeddings.position_ids": torch.arange(20)[None],
        "blip.vision_proj.weight": torch.zeros(2, 24),
        "blip.text_proj.bias": torch.zeros(2),
    }
    model.save_folder(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({**model.published(), **leftovers}, tmp_path / "ImageReward.pt")
    assert ImageRewardModel.from_folder(tmp_path).score(PROMPTS, pictures) == model.score(PROMPTS, pictures)


def test_weights_of_other_sizes_are_refused_by_name(model):
    weights = dict(model.published())
    del weights["blip.visual_encoder.norm.bias"]
    with pytest.raises(DataError, match=r"1 weights missing, 0 unknown \(blip\.visual_encoder\.norm\.bias\)"):
        model.load_published(weights)


def test_a_folder_without_weights_says_what_it_lacks(model, tmp_path):
    model.save_folder(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(DataError, match="no model"):
        ImageRewardModel.from_folder(tmp_path)


def test_every_weight_name_translates_there_and_back(model):
    names = list(model.state_dict())
    assert [our_name(published_name(name)) for name in names] == names
    assert not any(name.startswith(("vision.", "text.", "head.")) for name in map(published_name, names))


def test_a_wide_picture_is_cropped_in_the_centre_and_normalised_as_clip_does():
    wide = np.zeros((8, 24, 3), dtype=np.uint8)
    wide[:, 8:16] = 255
    red, green, blue = preprocess(Image.fromarray(wide), 8)
    assert red.numpy() == pytest.approx(np.full((8, 8), (1 - 0.48145466) / 0.26862954), abs=1e-5)
    assert green.numpy() == pytest.approx(np.full((8, 8), (1 - 0.4578275) / 0.26130258), abs=1e-5)
    assert blue.numpy() == pytest.approx(np.full((8, 8), (1 - 0.40821073) / 0.27577711), abs=1e-5)
