from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sightline.engines.diffusers import Diffusers, Painter
from sightline.engines.roles import PaintRequest
from sightline.errors import RecipeError

WORDS = ["a red cup in the kitchen", "a blue bird in the park"]
ROUNDING = 1e-6  # of colours from 0 to 1, painted in double precision and returned in single
MIXED = [PaintRequest(WORDS[n % 2], guidance, seed=n) for n, guidance in enumerate([0.0, 1.0, 5.0, 11.0])]


def painter(model: str, **settings: object) -> Painter:
    return Diffusers(kind="diffusers", model=model, steps=3, **settings).load()


def miniature(**settings: object) -> Painter:
    return painter("miniature/painter", max_sequence_length=1, **settings)


@cache
def stock_pipeline(model: str, single: bool) -> Any:
    """The library's own pipeline, in double precision but where asked for single."""
    import torch
    from diffusers import DiffusionPipeline

    from sightline.engines.weights import locate

    absent = {"text_encoder_3": None, "tokenizer_3": None} if model.startswith("miniature") else {}
    pipeline = DiffusionPipeline.from_pretrained(locate(model), dtype=torch.float32, **absent)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline if single else pipeline.to(torch.float64)


def in_double(engine: Painter) -> Painter:
    """Sums in another order then differ by nothing that is seen; in single precision guidance 11 makes 1e-5 of it."""
    import torch

    engine.pipeline.to(torch.float64)
    return engine


def stock(model: str, request: PaintRequest, single: bool = False, **arguments: object) -> np.ndarray:
    """The picture by the library's own pipeline, alone."""
    import torch

    generator = torch.Generator().manual_seed(request.seed)
    arguments |= {"guidance_scale": request.guidance, "num_inference_steps": 3, "output_type": "np"}
    return stock_pipeline(model, single)(request.prompt, generator=generator, **arguments).images[0]


def assert_like_single_runs(model: str, together: np.ndarray, **arguments: object) -> None:
    alone = np.stack([stock(model, request, **arguments) for request in MIXED])
    assert np.abs(alone[2] - alone[3]).max() > 1e-3  # so that the next line says something
    assert np.abs(together - alone).max() < ROUNDING


def test_a_batch_of_several_guidance_scales_equals_single_runs_of_stable_diffusion_3():
    engine = in_double(miniature())
    assert engine.per_sample
    assert_like_single_runs("miniature/painter", engine.pixels(MIXED), max_sequence_length=1)


def test_a_batch_of_several_guidance_scales_equals_single_runs_of_stable_diffusion(tiny_sd):
    engine = in_double(painter(str(tiny_sd)))
    assert engine.per_sample
    assert_like_single_runs(str(tiny_sd), engine.pixels(MIXED))


def test_a_batch_without_guidance_equals_single_runs():
    requests = [PaintRequest(WORDS[0], 1.0, seed=3), PaintRequest(WORDS[1], 0.0, seed=4)]
    alone = [stock("miniature/painter", request, max_sequence_length=1) for request in requests]
    assert np.abs(in_double(miniature()).pixels(requests) - np.stack(alone)).max() < ROUNDING


def grouped_by_scale(folder: Path) -> Painter:
    """A painter of which it is seen that pictures of several scales come out as alone, and in order."""
    engine = painter(str(folder))
    assert not engine.per_sample
    together = [np.asarray(picture, dtype=float) for picture in engine.paint(MIXED)]
    alone = [stock(str(folder), request, single=True) * 255 for request in MIXED]
    assert max(np.abs(ours - theirs).max() for ours, theirs in zip(together, alone, strict=True)) < 0.6  # rounding to 8 bits
    return engine


def test_a_distilled_pipeline_paints_one_guidance_scale_at_a_time_and_keeps_the_order(tiny_distilled):
    grouped_by_scale(tiny_distilled)


def test_another_kind_of_pipeline_paints_as_it_does_alone(tiny_pixart):
    engine = grouped_by_scale(tiny_pixart)
    scales = [np.asarray(p, int) for p in engine.paint([PaintRequest(WORDS[0], guidance, 3) for guidance in (1.0, 5.0, 11.0)])]
    assert all(np.abs(scales[1] - other).max() > 5 for other in (scales[0], scales[2]))  # so that the scale is seen to count


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_paints_nearly_the_same(dtype):
    half, single = miniature(dtype=dtype).pixels(MIXED), miniature(dtype="float32").pixels(MIXED)
    assert 0 < np.abs(half - single).mean() < 0.01


def test_saving_memory_changes_no_picture(tiny_sd):
    saving = painter(str(tiny_sd), saving=["attention_slicing", "vae_slicing", "offload"])
    assert saving.pipeline.vae.use_slicing
    assert "Sliced" in type(next(iter(saving.pipeline.unet.attn_processors.values()))).__name__
    assert np.abs(in_double(saving).pixels(MIXED) - in_double(painter(str(tiny_sd))).pixels(MIXED)).max() < ROUNDING


def test_tiles_are_decoded_where_asked_for_and_count_as_another_painter():
    assert miniature(vae_tiling=True).pipeline.vae.use_tiling
    tiled = Diffusers(kind="diffusers", model="miniature/painter", vae_tiling=True)
    assert tiled.identity() != Diffusers(kind="diffusers", model="miniature/painter").identity()


def test_a_way_to_save_memory_that_the_pipeline_does_not_have_is_refused():
    with pytest.raises(RecipeError, match="no attention_slicing"):
        miniature(saving=["attention_slicing"])


def test_small_batches_paint_the_same_pictures_in_order():
    whole, parts = miniature().paint(MIXED), miniature(batch_size=3).paint(MIXED)
    assert all(np.abs(np.asarray(a, int) - np.asarray(b, int)).max() <= 1 for a, b in zip(whole, parts, strict=True))
    assert whole[0].size == (24, 24)


def test_what_is_not_wanted_changes_the_picture():
    request = [PaintRequest(WORDS[0], 7.0, seed=1)]
    assert np.abs(miniature().pixels(request) - miniature(negative_prompt="a red cup").pixels(request)).max() > 1e-3


def test_a_setting_that_the_pipeline_does_not_have_is_refused(tiny_sd):
    with pytest.raises(RecipeError, match="no setting 'max_sequence_length'"):
        painter(str(tiny_sd), max_sequence_length=1)


def test_a_folder_without_a_pipeline_is_the_users_mistake(tmp_path):
    with pytest.raises(RecipeError, match="cannot be loaded"):
        painter(str(tmp_path))


def test_words_outside_a_closed_vocabulary_are_named():
    section = Diffusers(kind="diffusers", model="miniature/painter")
    found = section.unknown_words(["a red cup in the kitchen", "a Red zebra, a mauve cup and a zebra in the park"])
    assert found == {"a Red zebra, a mauve cup and a zebra in the park": ["zebra", "mauve"]}
    assert {"umbrella", "kitchen", "pink"} <= section.vocabulary()
    assert "<pad>" not in section.vocabulary()


def test_how_and_where_a_picture_is_computed_is_no_part_of_its_address():
    base = Diffusers(kind="diffusers", model="miniature/painter")
    elsewhere = Diffusers(kind="diffusers", model="miniature/painter", batch_size=4, device="cpu", saving=["offload"])
    assert base.identity() == elsewhere.identity()
    assert base.identity() != Diffusers(kind="diffusers", model="miniature/painter", steps=9).identity()
