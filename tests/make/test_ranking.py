import io
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import PIL.Image
import pytest

from sightline.engines import Engine, Engines
from sightline.errors import RunError
from sightline.execute import Use
from sightline.make.ranking import Ranking
from sightline.rows import Dropped, Image
from sightline.store.shards import Store
from tests.make.rows import ORIGIN


class Brightness(Engine):
    """An engine whose scores are known: the mean of the red channel, NaN for pure white."""

    roles: ClassVar[frozenset[str]] = frozenset({"image_scorer"})
    model: str = "none"

    def load(self) -> "Brightness":
        return self

    def fingerprint(self) -> str:
        return "brightness"

    def score(self, prompts: Sequence[str], pictures: Sequence[PIL.Image.Image]) -> list[float]:
        reds = [float(np.asarray(picture)[..., 0].mean()) for picture in pictures]
        return [float("nan") if red == 255 else red for red in reds]


def rank(tmp_path, reds: dict[str, list[int]], **fields: object):
    """Rank pictures of one plain red each, given by prompt."""
    use = Use(Engines({"eyes": Brightness(kind="brightness")}), Store(tmp_path), 0)
    images = [_image(key, index, _stored(use.store, red)) for key, values in reds.items() for index, red in enumerate(values)]
    return list(Ranking(scorer="eyes", **fields).make(use, images))


def _image(key: str, index: int, picture: str) -> Image:
    made_from = {"key": key, "prompt_id": key, "prompt": key, "topic": "art"}
    return Image(id=f"{key}{index}", picture=picture, guidance=float(index), index=index, origin=ORIGIN, **made_from)


def _stored(store: Store, red: int) -> str:
    stream = io.BytesIO()
    PIL.Image.new("RGB", (2, 2), (red, 0, 9)).save(stream, format="PNG")
    return store.put_picture(stream.getvalue())


def test_the_picture_with_the_highest_score_stays_and_all_scores_are_kept(tmp_path):
    first, second = rank(tmp_path, {"x": [10, 30, 20], "y": [5, 4]})
    assert (first.image_id, first.score, second.image_id) == ("x1", 30.0, "y0")
    assert [(one.image_id, one.guidance, one.score) for one in first.candidates] == [
        ("x0", 0.0, 10.0),
        ("x1", 1.0, 30.0),
        ("x2", 2.0, 20.0),
    ]


def test_equal_pictures_are_one_candidate(tmp_path):
    (ranked,) = rank(tmp_path, {"x": [30, 10, 30]})
    assert (ranked.image_id, [one.image_id for one in ranked.candidates]) == ("x0", ["x0", "x1"])


def test_the_same_picture_may_stand_for_two_prompts(tmp_path):
    assert [row.key for row in rank(tmp_path, {"x": [30, 10], "y": [30, 10]})] == ["x", "y"]


def test_too_small_a_gap_drops_the_prompt(tmp_path):
    kept, dropped = rank(tmp_path, {"x": [30, 10], "y": [30, 29]}, min_gap=2.0)
    assert kept.key == "x"
    assert dropped == Dropped(key="y", reason="no clear best picture", row_id="y", detail="gap 1")


def test_a_score_that_is_no_number_stops_the_run(tmp_path):
    with pytest.raises(RunError, match="NaN"):
        rank(tmp_path, {"x": [255, 10]})
