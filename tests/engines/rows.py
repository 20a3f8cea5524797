"""The rows that the original implementations of image scorers were run on, for the numbers that tests expect."""

import numpy as np
import PIL.Image

PROMPTS = [
    "A red cup",
    "a green tree in the park.",
    "The cat, a long story: " * 12,  # more than any of the models reads
    "Something pink, the blue bird?",
    "nothing at all",
]
SIZES = [(24, 24), (320, 240), (227, 224), (48, 64), (30, 50)]


def rectangles() -> list[PIL.Image.Image]:
    """A picture for each prompt, of sixteen coloured rectangles."""
    rng = np.random.default_rng(0)
    drawn = [PIL.Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)) for _ in SIZES]
    return [picture.resize(size, PIL.Image.Resampling.NEAREST) for picture, size in zip(drawn, SIZES, strict=True)]
