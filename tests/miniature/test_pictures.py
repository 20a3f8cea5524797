"""The painter and the image reward: how they are trained, and that what is saved is an ordinary folder."""

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.engines.image_reward_model import ImageRewardModel
from sightline.miniature import image_reward, measure_pictures, painter, world
from sightline.miniature.image_reward import Shown, change, mistakes, swap_one
from sightline.miniature.words import word_tokenizer
from sightline.miniature.world import Scene, Thing

SCENE = Scene((Thing("car", "red", 0), Thing("cup", "blue", 5)), "urban")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Both models, hardly trained."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("weights")
    for module, name in ((painter, "painter"), (image_reward, "image-reward")):
        module.build(folder / name, seed=0, share=0.001, log=lambda line: None)
    return folder


def test_a_built_painter_loads_as_an_ordinary_pipeline_and_paints_the_same_again(weights):
    from diffusers import DiffusionPipeline

    ordinary = DiffusionPipeline.from_pretrained(weights / "painter", text_encoder_3=None, tokenizer_3=None)
    assert type(ordinary).__name__ == "StableDiffusion3Pipeline"
    ordinary.to(dtype=torch.float32)
    ordinary.set_progress_bar_config(disable=True)
    prompts = [world.prompt(SCENE), "a pink gift in the party"]
    first, again = (
        painter.paint(pipeline, prompts, 5.0, 3, steps=2) for pipeline in (ordinary, painter.load(weights / "painter"))
    )
    assert first[0].size == (24, 24)
    assert [np.asarray(picture).tolist() for picture in first] == [np.asarray(picture).tolist() for picture in again]
    alone = painter.paint(ordinary, prompts[:1], 5.0, 3, steps=2)[0]
    assert np.abs(np.asarray(alone, dtype=int) - np.asarray(first[0], dtype=int)).max() <= 1  # batches move rounding only


def test_training_the_painter_again_gives_the_same_weights_to_the_bit(weights, tmp_path):
    painter.build(tmp_path / "painter", seed=0, share=0.001, log=lambda line: None)
    name = "transformer/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "painter" / name).read_bytes() == (weights / "painter" / name).read_bytes()


def test_a_built_image_reward_loads_from_its_folder_and_scores(weights):
    model = ImageRewardModel.from_folder(weights / "image-reward")
    pictures = [world.draw(SCENE, np.random.default_rng(seed)) for seed in range(3)]
    scores = model.score([world.prompt(SCENE)] * 3, pictures)
    assert len(scores) == 3
    assert np.isfinite(scores).all()


def test_the_autoencoder_hands_pictures_through():
    pixels = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    autoencoder = painter.passthrough_vae().half().float()
    latents = autoencoder.encode(pixels).latent_dist.mode()
    assert (latents - pixels).abs().max() < 1e-3
    assert (autoencoder.decode(pixels).sample - pixels).abs().max() < 1e-3


def test_the_untrained_transformer_hands_its_input_through_but_for_scale():
    pipeline = painter.blank_pipeline(seed=0)
    noise = torch.randn(3, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    states, _, pooled, _ = pipeline.encode_prompt(["a red car in the street"] * 3, None, None, max_sequence_length=1)
    out = pipeline.transformer(noise, states, pooled, torch.full((3,), 500.0), return_dict=False)[0]
    assert torch.corrcoef(torch.stack([noise.flatten(), out.flatten()]))[0, 1] > 0.7


def test_the_longest_prompt_fits_and_an_unknown_word_becomes_unknown():
    tokenizer = word_tokenizer(start="<start>", end="<end>", pad="<pad>", unknown="<unknown>")
    longest = tokenizer("a red car, a blue cup and a pink umbrella in the studio").input_ids
    assert len(longest) == tokenizer.model_max_length == 16
    assert tokenizer.unk_token_id not in longest
    words = tokenizer.convert_ids_to_tokens(tokenizer("a red dragon in the park").input_ids)
    assert words == ["<start>", "a", "red", "<unknown>", "in", "the", "park", "<end>"]


def test_mistakes_count_what_is_missing_what_is_extra_and_smudges():
    picture = Image.new("RGB", (24, 24))
    asked = [("red", "car"), ("blue", "cup")]
    assert mistakes(asked, Shown(picture, (("blue", "cup"), ("red", "car")))) == 0
    assert mistakes(asked, Shown(picture, (("blue", "cup"),))) == 1
    assert mistakes(asked, Shown(picture, (("blue", "cup"), ("pink", "car")))) == 2  # one missing, one that nobody asked for
    assert mistakes(asked, Shown(picture, (("blue", "cup"), ("red", "car"), ("red", "car")))) == 1
    assert mistakes(asked, Shown(picture, (("blue", "cup"),), smudges=2)) == 3


def test_a_changed_scene_never_matches_the_prompt_and_a_swap_keeps_the_cells():
    rng = np.random.default_rng(0)
    for _ in range(200):
        scene = world.sample(rng)
        assert not world.matches(world.draw(change(scene, rng), rng), world.prompt(scene))
        swapped = swap_one(scene, rng)
        assert [thing.cell for thing in swapped.things] == [thing.cell for thing in scene.things]
        assert len(set(swapped.things) - set(scene.things)) == 1


def test_picks_are_counted_as_by_hand():
    scores = np.array([[0.9, 0.1, 0.2, 0.3], [0.1, 0.9, 0.2, 0.3], [0.5, 0.6, 0.7, 0.1], [0.0, 0.0, 0.0, 1.0]])
    counts = np.array([[0, 1, 2, 2], [0, 1, 2, 2], [1, 2, 1, 3], [0, 0, 0, 0]])
    found = measure_pictures._picks(scores, counts)
    # the last prompt's pictures do not differ; of the first three, the first and the third pick a best one
    assert (found.best.count, found.best.n) == (2, 3)
    assert (found.matching.count, found.matching.n) == (1, 2)
    assert (found.average.count, found.average.n) == (6, 16)
    assert (found.picked.count, found.picked.n) == (2, 4)
    assert found.gain == pytest.approx(100 * (2 / 4 - 6 / 16))


def test_measured_prompts_are_of_held_out_scenes_and_differ_by_seed():
    first, again, other = (measure_pictures.held_out_prompts(20, seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other
