from collections.abc import Sequence

import numpy as np
import pytest
import torch

from sightline.engines.armorm import ArmoRM
from sightline.engines.clip_scores import ClipScores
from sightline.engines.diffusers import Diffusers
from sightline.engines.image_reward import ImageReward
from sightline.engines.local import in_batches, sorted_by
from sightline.engines.roles import ChatRequest, Decoding, PaintRequest
from sightline.engines.transformers import Transformers
from sightline.errors import RunError
from tests import standins


def test_batches_shrink_when_memory_runs_out_and_nothing_is_lost():
    sizes = []

    def double(batch: Sequence[int]) -> list[int]:
        sizes.append(len(batch))
        if len(batch) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [2 * number for number in batch]

    assert in_batches(list(range(7)), 8, double, "model m") == [0, 2, 4, 6, 8, 10, 12]
    assert sizes == [7, 4, 2, 2, 2, 1]


def test_one_item_that_does_not_fit_is_told_to_the_user():
    def full(batch: Sequence[int]) -> list[int]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(RunError, match="memory"):
        in_batches([1, 2], 4, full, "model m")


def test_alike_items_meet_in_a_batch_and_results_keep_the_items_order():
    batches = []

    def upper(words: Sequence[str]) -> list[str]:
        batches.append(list(words))
        return [word.upper() for word in words]

    words = ["pear", "fig", "apple", "plum", "kiwi", "nut"]
    assert sorted_by([len(word) for word in words], words, lambda ordered: in_batches(ordered, 2, upper, "model m")) == [
        "PEAR", "FIG", "APPLE", "PLUM", "KIWI", "NUT"
    ]  # fmt: skip
    assert batches == [["fig", "nut"], ["pear", "plum"], ["kiwi", "apple"]]


PROMPTS = ["a red cup in the kitchen", "a blue bird in the park", "a red tree in the park", "a green cat", "a pink cup"]
TALKS = [(prompt, "It shows that.") for prompt in PROMPTS]


def painted() -> tuple:
    engine = Diffusers(kind="diffusers", model="miniature/painter", max_sequence_length=1, steps=2).load()
    requests = [PaintRequest(prompt, 5.0, seed) for seed, prompt in enumerate(PROMPTS)]
    return engine.pipeline.transformer, lambda pictures: [np.mean(picture) / 255 for picture in engine.paint(requests)]


def said() -> tuple:
    engine = Transformers(kind="transformers", model="miniature/policy").load()
    decoding = Decoding(max_tokens=8, temperature=1.0)
    asked = "Describe the picture."
    return engine.model, lambda pictures: engine.chat([ChatRequest(asked, (p,), n) for n, p in enumerate(pictures)], decoding)


def image_reward() -> tuple:
    engine = ImageReward(kind="image_reward", model="miniature/image-reward").load()
    return engine.model.vision, lambda pictures: engine.score(PROMPTS, pictures)


def clip_score(folder) -> tuple:
    engine = ClipScores(kind="clip_scores", rule="clipscore", model=str(standins.build("clip", folder))).load()
    return engine.model.vision_model, lambda pictures: engine.score(PROMPTS, pictures)


def answer_reward() -> tuple:
    engine = ArmoRM(kind="armorm", model="miniature/answer-reward").load()
    return engine.model.model, lambda pictures: [found.score for found in engine.score(TALKS)]


@pytest.mark.parametrize("engine", [painted, said, image_reward, clip_score, answer_reward])
def test_every_local_engine_goes_on_with_smaller_batches_when_memory_runs_out(engine, pictures, tmp_path):
    """A fault is put in: the part of the model that meets the batch first has room for four rows, two pictures and their
    unguided twins in the painter's case."""
    model, work = engine(tmp_path) if engine is clip_score else engine()
    whole, failed = work(pictures), []

    def little_room(part, arguments, named):
        rows = len(next(value for value in (*arguments, *named.values()) if isinstance(value, torch.Tensor)))
        if rows > 4:
            failed.append(rows)
            raise torch.OutOfMemoryError("CUDA out of memory")

    model.register_forward_pre_hook(little_room, with_kwargs=True)
    assert work(pictures) == (pytest.approx(whole, abs=1e-5) if isinstance(whole[0], float) else whole)
    assert failed


def test_arithmetic_that_a_cpu_lacks_in_float16_is_told_to_the_user():
    def determinants(batch: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return [torch.linalg.det(matrix) for matrix in batch]

    with pytest.raises(RunError, match=r"float16[\s\S]*dtype: float32"):
        in_batches([torch.eye(2, dtype=torch.float16)], 4, determinants, "model m")


def test_other_mistakes_of_ours_are_not_taken_for_a_full_memory():
    with pytest.raises(RuntimeError, match="shape"):
        in_batches([torch.ones(2, 3)], 4, lambda batch: [matrix @ matrix for matrix in batch], "model m")
