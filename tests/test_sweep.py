"""A sweep on the shipped models and a handful of prompts: what it leaves, what it makes once, how it goes on when killed."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sightline.errors import RecipeError, RunError
from sightline.recipe import shipped
from sightline.report.sweeps import FILES, Sweeps
from sightline.store.runs import Run
from sightline.sweep import planned, sweep
from tests.conftest import QUICKSTART, REPOSITORY, Sightline
from tests.test_cli import failed
from tests.test_run import overrides

VARIANTS = "few: {train.num_pairs: 3}\nnoisy: {train.flip_share: 1.0}\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sweeps")


def vary(folder: Path) -> list[str]:
    (folder / "how.yaml").write_text(VARIANTS)
    return [str(folder / "how.yaml"), "train.seed=0,1"]


@pytest.fixture(scope="module")
def whole(folder: Path) -> Sweeps:
    return sweep(QUICKSTART, vary(folder), folder / "runs" / "grid", overrides(folder))


def runs(folder: Path) -> dict[str, Run]:
    return {path.parent.name: Run.open(path.parent) for path in sorted((folder / "runs" / "grid").glob("*/manifest.json"))}


def test_each_point_is_a_run_and_the_table_takes_the_mean_of_its_seeds(whole: Sweeps, folder: Path):
    assert list(runs(folder)) == ["how-few-seed-0", "how-few-seed-1", "how-noisy-seed-0", "how-noisy-seed-1"]
    assert all((folder / "runs" / "grid" / name).stat().st_size for name in FILES)
    told = json.loads((folder / "runs" / "grid" / "sweep.json").read_text())
    [few, noisy] = [mean for mean in told["means"] if mean["metric"]["name"] == "CHAIR_i" and not mean["metric"]["split"]]
    assert few["labels"] == {"how": "few"} and few["num_runs"] == 2 and few["num_pairs"] == 3
    single = [
        json.loads((run.folder / "results.json").read_text())["benchmarks"][0]["metrics"][0]["aligned"]["value"]
        for name, run in runs(folder).items()
        if "few" in name
    ]
    assert few["value"] == pytest.approx(sum(single) / 2)
    assert noisy["num_pairs"] > 3 and len(whole.entries) == whole.planned == 4


def test_what_the_points_share_is_made_once(whole: Sweeps, folder: Path):
    """Pictures, answers, annotations, the reference's log-probabilities and the base model's answers."""
    first, second, noisy, _ = runs(folder).values()
    made = {name for name, entry in second.manifest["steps"].items() if entry["reused"] < len(entry["shards"])}
    assert {name.partition("/")[0] for name in made} == {"prompts", "items", "answers"}  # the first two are read, not made
    assert {name for name in made if name.startswith("answers")} == {"answers/chair-aligned", "answers/pope-aligned"}
    for step in ("pairs", "answers/chair-base", "answers/pope-base"):
        for run in (second, noisy):
            assert run.shards(step) == first.shards(step)
        stored = [path for path in (first.store.root / "rows" / step).glob("*.parquet") if ".dropped" not in path.name]
        assert len(stored) == len(first.shards(step))
    assert second.shards("reference") == first.shards("reference")


def test_flipped_pairs_are_recorded_and_told_on_the_page(whole: Sweeps, folder: Path):
    few, _, noisy, _ = runs(folder).values()
    made, trained = noisy.rows("pairs"), noisy.rows("flipped")
    assert {(pair.chosen, pair.rejected) for pair in made} == {(pair.rejected, pair.chosen) for pair in trained}
    assert all(pair.is_flipped for pair in trained)
    assert f"{len(made)} of {len(made)}" in (noisy.folder / "report.html").read_text()
    assert "wrong way round on purpose" in (noisy.folder / "report.html").read_text()
    assert "wrong way round on purpose" not in (few.folder / "report.html").read_text()
    assert "flipped" not in few.manifest["steps"]


def test_a_sweep_uses_the_store_of_the_runs_beside_it(whole: Sweeps, folder: Path):
    assert {run.store.root for run in runs(folder).values()} == {(folder / "runs" / "store").resolve()}


def test_a_sweep_that_is_killed_goes_on_and_ends_with_the_same_tables(whole: Sweeps, folder: Path):
    beside = folder / "other"
    here, there = folder / "runs" / "store", beside / "store"
    for kept in ("rows", "pictures"):
        shutil.copytree(here / kept, there / kept, ignore=shutil.ignore_patterns("answers", "reference"))
    code = "import sys; from sightline.sweep import sweep; sweep(sys.argv[1], sys.argv[2:4], sys.argv[4], sys.argv[5:])"
    arguments = [str(QUICKSTART), *vary(folder), str(beside / "grid"), *overrides(folder)]
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=REPOSITORY)
    while process.poll() is None and not (beside / "grid" / "sweep.md").exists():
        time.sleep(0.05)
    assert process.poll() is None, "it ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert "1 of 4 runs so far" in (beside / "grid" / "sweep.md").read_text()
    again = sweep(QUICKSTART, vary(folder), beside / "grid", overrides(folder))
    assert again.means == whole.means
    for name in FILES:
        assert (beside / "grid" / name).read_bytes() == (folder / "runs" / "grid" / name).read_bytes()


@pytest.mark.parametrize(
    ("vary", "told"),
    [
        ("train.num_pair=50,100", r"unknown key 'num_pair' \(at 50\)\n  did you mean 'num_pairs'"),
        ("train.num_pairs=50,0", r"greater than or equal to 1 \(at 0\)"),
        ("train.objective={kind: dpo},{kind: dqo}", "no objectives named 'dqo'"),
        ("train.num_pairs=50,50", "two values would be called '50'"),
        ("train.num_pairs=", "no value is given"),
        ("train.num_pairs=[50", "not YAML"),
        ("objektives", "did you mean 'objectives'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(tmp_path, vary, told):
    with pytest.raises(RecipeError, match=told):
        planned(QUICKSTART, [vary], tmp_path / "runs" / "x")
    assert not list(tmp_path.iterdir())


def test_two_points_of_one_folder_and_a_folder_of_a_single_run_are_refused(tmp_path):
    with pytest.raises(RecipeError, match="two axes"):
        planned(QUICKSTART, ["train.seed=0", "train.seed=1"], tmp_path / "x")
    with pytest.raises(RecipeError, match="two runs would be called 'schedule-a-b'"):
        planned(QUICKSTART, ["train.schedule=a b,a-b"], tmp_path / "x")
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(RunError, match="a single run"):
        planned(QUICKSTART, ["train.seed=0,1"], tmp_path)


def test_a_recipe_without_training_has_nothing_to_compare(tmp_path):
    with pytest.raises(RecipeError, match="what trained models score"):
        planned(QUICKSTART, ["train=null"], tmp_path / "x")


def test_a_list_of_variants_that_is_none_is_refused(tmp_path):
    (tmp_path / "v.yaml").write_text("- dpo\n")
    with pytest.raises(RecipeError, match="variants are names"):
        planned(QUICKSTART, [str(tmp_path / "v.yaml")], tmp_path / "x")


@pytest.mark.parametrize("name", shipped("experiments"))
def test_every_shipped_list_of_variants_fits_the_quickstart(tmp_path, name):
    assert planned(QUICKSTART, [name], tmp_path / "x").points


def test_the_shipped_variants_are_the_shipped_recipes(tmp_path):
    """Rejection sampling and SteerLM have recipes of their own, which say the same."""
    from sightline.recipe import read

    points = {point.labels[0]: point for point in planned(QUICKSTART, ["objectives"], tmp_path / "x").points}
    for variant, recipe in (("best_of_n", "rejection-sampling"), ("steerlm", "steerlm")):
        ours, theirs = read(QUICKSTART, points[variant].overrides)[0], read(recipe)[0]
        assert ours.model_copy(update={"name": theirs.name}) == theirs


def test_values_are_sections_lists_and_what_yaml_reads():
    from sightline.sweep import read_axis

    axis = read_axis("train.objective={kind: dpo, beta: 0.2},{kind: sft}")
    assert list(axis.choices) == ["dpo, beta 0.2", "sft"]
    assert axis.choices["sft"] == ['train.objective={"kind": "sft"}']
    assert list(read_axis("make.images.guidance=[3, 5],[7]").choices) == ["[3, 5]", "[7]"]
    assert read_axis("train.learning_rate=5e-5").choices == {"5e-05": ["train.learning_rate=5e-05"]}
    assert list(read_axis("train.num_pairs=50,null").choices) == ["50", "null"]


def test_a_wrong_value_is_told_on_the_command_line_with_its_point(sightline: Sightline, tmp_path):
    done = sightline("sweep", str(QUICKSTART), "--vary", "train.num_pairs=0", "--vary", "train.seed=1")
    failed(done, "train.num_pairs", "at 0, 1")
    assert not (tmp_path / "runs").exists()
