"""Small models and pictures for the tests of engines."""

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from tests.painters import stable_diffusion


@pytest.fixture(scope="session")
def pictures() -> list[PIL.Image.Image]:
    rng = np.random.default_rng(0)
    return [PIL.Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)) for _ in range(5)]


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory) -> Path:
    """A folder of a random StableDiffusionPipeline without safety checker."""
    return stable_diffusion(tmp_path_factory.mktemp("sd"), _words())


@pytest.fixture(scope="session")
def tiny_distilled(tmp_path_factory) -> Path:
    """The same, of the distilled kind that reads its guidance scale as an input."""
    return stable_diffusion(tmp_path_factory.mktemp("lcm"), _words(), time_cond_proj_dim=16)


def _words() -> Any:
    from sightline.miniature.words import word_tokenizer

    return word_tokenizer(start="<start>", end="<end>", pad="<pad>", unknown="<unknown>")
