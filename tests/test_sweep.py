"""A sweep on the shipped models and a handful of prompts: what it leaves, what it makes once, how it goes on when killed."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sightline.errors import RecipeError, RunError
from sightline.recipe import shipped
from sightline.report.sweeps import FILES, Entry, Sweeps
from sightline.store.runs import Run
from sightline.sweep import planned, sweep
from tests.conftest import QUICKSTART, REPOSITORY, Sightline, quickstart_overrides
from tests.test_cli import failed

VARIANTS = "few: {train.num_pairs: 3}\nnoisy: {train.flip_share: 1.0}\n"


@pytest.fixture(scope="module")
def cut(quickstart_run: Run, quickstart_folder: Path) -> dict[str, bytes]:
    """A sweep beside the quickstart, killed after its first run; what it had written by then."""
    (quickstart_folder / "how.yaml").write_text(VARIANTS)
    code = "import sys; from sightline.sweep import sweep; sweep(sys.argv[1], sys.argv[2:4], sys.argv[4], sys.argv[5:])"
    arguments = [str(QUICKSTART), *vary(quickstart_folder), str(grid(quickstart_folder))]
    process = subprocess.Popen([sys.executable, "-c", code, *arguments, *quickstart_overrides(quickstart_folder)], cwd=REPOSITORY)
    while process.poll() is None and not (grid(quickstart_folder) / FILES[-1]).exists():
        time.sleep(0.05)
    assert process.poll() is None, "it ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    return {name: (grid(quickstart_folder) / name).read_bytes() for name in (*FILES, "how-few-seed-0/results.json")}


@pytest.fixture(scope="module")
def whole(cut: dict[str, bytes], quickstart_folder: Path) -> Sweeps:
    """The same sweep, gone on with."""
    return sweep(QUICKSTART, vary(quickstart_folder), grid(quickstart_folder), quickstart_overrides(quickstart_folder))


def vary(folder: Path) -> list[str]:
    return [str(folder / "how.yaml"), "train.seed=0,1"]


def grid(folder: Path) -> Path:
    return folder / "runs" / "grid"


def runs(folder: Path) -> dict[str, Run]:
    return {path.parent.name: Run.open(path.parent) for path in sorted(grid(folder).glob("*/manifest.json"))}


def made(run: Run) -> set[str]:
    """Steps of which something was made by the last process that worked on the run."""
    return {name for name, entry in run.manifest["steps"].items() if entry["reused"] < len(entry["shards"])}


def test_each_point_is_a_run_and_the_table_takes_the_mean_of_its_seeds(whole: Sweeps, quickstart_folder: Path):
    found = runs(quickstart_folder)
    assert list(found) == ["how-few-seed-0", "how-few-seed-1", "how-noisy-seed-0", "how-noisy-seed-1"]
    told = json.loads((grid(quickstart_folder) / "sweep.json").read_text())
    [few, noisy] = [mean for mean in told["means"] if mean["metric"]["name"] == "CHAIR_i" and not mean["metric"]["split"]]
    assert few["labels"] == {"how": "few"} and few["num_runs"] == 2 and few["num_pairs"] == 3
    results = [json.loads((found[f"how-few-seed-{seed}"].folder / "results.json").read_text()) for seed in (0, 1)]
    values = [result["benchmarks"][0]["metrics"][0]["aligned"]["value"] for result in results]
    assert few["value"] == pytest.approx(sum(values) / 2)
    assert noisy["num_pairs"] > 3 and len(whole.entries) == whole.planned == 4


def test_a_sweep_that_is_killed_goes_on(cut: dict[str, bytes], whole: Sweeps, quickstart_folder: Path):
    assert "1 of 4 runs so far" in cut["sweep.md"].decode()
    assert "4 runs. " in (grid(quickstart_folder) / "sweep.md").read_text()
    first, second = list(runs(quickstart_folder).values())[:2]
    assert not {step for step in made(first) if step.startswith(("reference", "answers"))}  # found, and not made again
    assert (first.folder / "results.json").read_bytes() == cut["how-few-seed-0/results.json"]
    assert "answers/chair-aligned" in made(second)
    assert {entry.folder: entry for entry in whole.entries} == {
        name: Entry.read(entry.labels, grid(quickstart_folder) / name)
        for name, entry in zip(runs(quickstart_folder), whole.entries, strict=True)
    }


def test_what_the_points_share_is_made_once(whole: Sweeps, quickstart_run: Run, quickstart_folder: Path):
    """Pictures, answers, annotations, the reference's log-probabilities and the base model's answers."""
    _, few, noisy, other = runs(quickstart_folder).values()
    anew = {"prompts", "items/chair", "items/pope"}  # read by each run, and found stored
    anew |= {step for step in few.manifest["steps"] if step.startswith("scores")}
    aligned = {"answers/chair-aligned", "answers/pope-aligned"}
    assert made(few) - anew == aligned
    assert made(noisy) - anew == {"flipped", "reference", *aligned}
    assert made(other) - anew == {"flipped", "reference", *aligned}  # draws of another seed
    for step in ("pairs", "annotations/claims", "answers/chair-base", "answers/pope-base"):
        assert few.shards(step) == noisy.shards(step) == quickstart_run.shards(step)
    assert few.shards("reference") == quickstart_run.shards("reference")
    assert few.store.root == noisy.store.root == quickstart_run.store.root


def test_flipped_pairs_are_recorded_and_told_on_the_page(whole: Sweeps, quickstart_folder: Path):
    few, _, noisy, _ = runs(quickstart_folder).values()
    made, trained = noisy.rows("pairs"), noisy.rows("flipped")
    assert {(pair.chosen, pair.rejected) for pair in made} == {(pair.rejected, pair.chosen) for pair in trained}
    assert all(pair.is_flipped for pair in trained)
    told = "turned the wrong way round on purpose"
    assert f"{len(made)} of {len(made)}\u00a0pairs were {told}" in (noisy.folder / "report.html").read_text()
    assert told not in (few.folder / "report.html").read_text()
    assert "flipped" not in few.manifest["steps"]


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


def test_a_folder_of_another_sweep_is_refused_before_anything_runs(tmp_path):
    """Were it only refused when its turn comes, its old numbers would stand beside new ones until then."""
    [*_, last] = planned(QUICKSTART, ["train.seed=0,1"], tmp_path / "x").points
    (tmp_path / "x" / last.folder).mkdir()
    (tmp_path / "x" / last.folder / "recipe.yaml").write_text("name: other\n")
    with pytest.raises(RunError, match="another recipe"):
        planned(QUICKSTART, ["train.seed=0,1"], tmp_path / "x")


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
