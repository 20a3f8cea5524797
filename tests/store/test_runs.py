from pathlib import Path

import pytest

from sightline.errors import RunError
from sightline.store.runs import Run

RECIPE = "name: q\nseed: 0\nexecution:\n  workers: 2\n"


def started(folder: Path, made: bool) -> Run:
    folder.mkdir()
    run = Run.create(folder, RECIPE, folder.parent / "store")
    if made:
        run.note_step("prompts", {"shards": [], "rows": 0, "dropped": {}})
    return run


def test_a_run_goes_on_with_another_number_of_workers(tmp_path):
    started(tmp_path / "run", made=True)
    again = Run.create(tmp_path / "run", RECIPE.replace("workers: 2", "workers: 4"), tmp_path / "store")
    assert "workers: 4" in (tmp_path / "run" / "recipe.yaml").read_text() and "prompts" in again.manifest["steps"]


def test_a_recipe_that_was_refused_before_anything_was_made_may_be_mended(tmp_path):
    started(tmp_path / "run", made=False)
    Run.create(tmp_path / "run", RECIPE.replace("seed: 0", "seed: 1"), tmp_path / "store")
    assert "seed: 1" in (tmp_path / "run" / "recipe.yaml").read_text()


def test_a_folder_where_another_recipe_made_something_is_refused(tmp_path):
    started(tmp_path / "run", made=True)
    with pytest.raises(RunError, match="there 'seed: 0', here 'seed: 1'"):
        Run.create(tmp_path / "run", RECIPE.replace("seed: 0", "seed: 1"), tmp_path / "store")
    assert (tmp_path / "run" / "recipe.yaml").read_text() == RECIPE


def test_a_users_own_recipe_file_in_the_folder_is_left_alone(tmp_path):
    (tmp_path / "recipe.yaml").write_text("a: [1\n")
    with pytest.raises(RunError, match="another recipe"):
        Run.create(tmp_path, RECIPE, tmp_path / "store")
    assert (tmp_path / "recipe.yaml").read_text() == "a: [1\n"
