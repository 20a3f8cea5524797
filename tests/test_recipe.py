import pytest
import yaml

from sightline.errors import RecipeError
from sightline.recipe import parse, read, shipped


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_recipe_loads(name):
    recipe, _ = read(name)
    assert recipe.name == name


@pytest.mark.parametrize("name", shipped())
def test_a_resolved_recipe_reads_back_as_itself(name):
    recipe, _ = read(name)
    assert parse(yaml.safe_load(recipe.resolved())).resolved() == recipe.resolved()


def test_an_override_reaches_its_key_and_reads_numbers_as_people_write_them():
    recipe, _ = read(
        "quickstart", ["train.learning_rate=5e-4", "make.images.guidance=[1, 3]", "make.responses.pool.0.engine=judge"]
    )
    assert recipe.train.learning_rate == 0.0005
    assert recipe.make.images.guidance == [1.0, 3.0]
    assert recipe.make.responses.pool[0].engine == "judge"


@pytest.mark.parametrize(
    "override", ["train.objective.beta.x=1", "make.responses.pool.99.engine=judge", "make.responses.pool.x.engine=judge"]
)
def test_an_override_of_a_place_that_is_none_is_refused(override):
    with pytest.raises(RecipeError):
        read("quickstart", [override])
