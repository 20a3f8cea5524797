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


def test_what_a_model_learned_to_read_is_asked_of_it():
    recipe, _ = read("steerlm", ["eval.asked={Helpfulness: 2}"])
    assert recipe.asking().endswith("\nFaithfulness:4,Helpfulness:2")
    assert read("quickstart")[0].asking() == ""
    with pytest.raises(RecipeError, match="no attribute named"):
        read("steerlm", ["eval.asked={Help: 2}"])
    with pytest.raises(RecipeError, match="teach no attributes"):
        read("quickstart", ["eval.asked={Helpfulness: 2}"])
    with pytest.raises(RecipeError, match=r"eval\.suffix"):
        read("steerlm", ["train.pairs=data/mine"])


@pytest.mark.parametrize("name", ["rejection-sampling", "steerlm", "two-stages"])
def test_variations_of_the_quickstart_share_its_first_steps(name):
    """So that run beside it they paint and judge nothing again."""
    ours, theirs = (read(recipe)[0] for recipe in (name, "quickstart"))
    assert (ours.seed, ours.execution, ours.engines) == (theirs.seed, theirs.execution, theirs.engines)
    assert ours.make.model_copy(update={"pairs": None}) == theirs.make.model_copy(update={"pairs": None})
    assert ours.train.model == theirs.train.model
