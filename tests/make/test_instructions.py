from collections import Counter

import pytest
from pydantic import ValidationError

from sightline.engines import Engines
from sightline.execute import Use
from sightline.make.instructions import Instructions
from sightline.rows import RankedImage
from sightline.store.shards import Store
from tests.make.rows import ORIGIN

RANKED = [
    RankedImage(
        id=f"ranked{n}", key=f"k{n}", prompt_id=f"k{n}", prompt=f"{n} cups", topic="art", image_id="i", picture="p", score=0.0,
        candidates=[], origin=ORIGIN,
    )
    for n in range(400)
]  # fmt: skip


def ask(tmp_path, **fields: object):
    return list(Instructions(**fields).make(Use(Engines({}), Store(tmp_path), 0), RANKED))


def test_a_template_is_filled_with_the_prompt_and_the_topic(tmp_path):
    first = ask(tmp_path, templates=["{topic}: {prompt}, {{really}}"])[0]
    assert (first.text, first.pictures, first.image_id) == ("art: 0 cups, {really}", ["p"], "i")


def test_one_template_is_chosen_for_each_picture_evenly_and_always_the_same(tmp_path):
    made = ask(tmp_path, templates=["A", "B"])
    assert made == ask(tmp_path, templates=["A", "B"])
    assert 150 < Counter(row.text for row in made)["A"] < 250


def test_all_templates_ask_about_every_picture(tmp_path):
    made = ask(tmp_path, templates=["A", "B", "A"], all=True)
    assert [row.text for row in made[:2]] == ["A", "B"]
    assert len({row.id for row in made}) == len(made) == 800


@pytest.mark.parametrize("template", ["{promt}", "{}", "{prompt", "{0}"])
def test_a_template_with_an_unknown_slot_is_refused(template):
    with pytest.raises(ValidationError):
        Instructions(templates=[template])
