"""Where training works and what it leaves."""

from pathlib import Path

import pytest

from sightline.errors import RunError
from sightline.train.checkpoint import WHOLE, Checkpoint, Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path / "store" / "checkpoints" / "a1")
    place.working.mkdir(parents=True)
    return place


def test_training_goes_on_from_the_newest_whole_state_and_clears_the_cut_ones(place):
    for name, whole in (("checkpoint-9", True), ("checkpoint-10", True), ("checkpoint-11", False)):
        (place.working / name).mkdir()
        if whole:
            (place.working / name / WHOLE).touch()
    assert place.last_state() == place.working / "checkpoint-10"
    assert sorted(path.name for path in place.working.iterdir()) == ["checkpoint-10", "checkpoint-9"]


def test_two_processes_do_not_train_the_same(place):
    with place.locked(), pytest.raises(RunError, match="another sightline"), place.locked():
        pass


def test_its_paths_in_the_manifest_start_at_the_store(place):
    numbers = {"num_pairs": 3, "num_steps": 4, "first_loss": 0.7, "last_loss": 0.1, "seconds": 2.0}
    made = Checkpoint(
        "a1",
        place.folder,
        "miniature/policy",
        None,
        is_adapter=True,
        num_trained={"language_model": 5, "projector": 0},
        **numbers,
    )
    assert made.to_json()["folder"] == "checkpoints/a1"
    assert made.to_json()["log"] == "checkpoints/a1/log.jsonl"
    place.folder.mkdir(parents=True)
    made.log.write_text('{"loss": 0.7, "preference_loss": 0.7}\n{"loss": 0.1, "preference_loss": 0.1}\n')
    assert made.describe() == "3 pairs, 4 steps, loss 0.700 to 0.100, 5 numbers of the language model, 2.0 s"
    made.log.write_text('{"loss": 0.7, "preference_loss": 0.693}\n{"loss": 0.1, "preference_loss": 0.02}\n')
    assert "preference loss 0.693 to 0.020, loss 0.700 to 0.100" in made.describe()
