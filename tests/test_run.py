"""The whole story, on the shipped models and a handful of prompts: what it leaves, what it reuses, how it goes on when killed."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sightline.store.runs import Run
from tests.conftest import NUM_PROMPTS, QUICKSTART, REPOSITORY
from tests.conftest import quickstart_overrides as overrides


@pytest.fixture(scope="module")
def folder(quickstart_folder: Path) -> Path:
    return quickstart_folder


@pytest.fixture(scope="module")
def whole(quickstart_run: Run) -> Run:
    return quickstart_run


def stored(root: Path) -> dict[str, bytes]:
    """What must not depend on interruptions: rows, pictures, trained weights."""
    kept = [*root.glob("rows/**/*.parquet"), *root.glob("pictures/*/*"), *root.glob("checkpoints/*/adapter_*")]
    return {str(path.relative_to(root)): path.read_bytes() for path in kept if ".working" not in str(path)}


def reused(run: Run) -> set[str]:
    """Steps of which nothing was made in this invocation."""
    return {name for name, entry in run.manifest["steps"].items() if entry["reused"] == len(entry["shards"])}


def test_a_run_leaves_its_recipe_results_page_and_adapter(whole: Run):
    results = json.loads((whole.folder / "results.json").read_text())
    assert {benchmark["benchmark"] for benchmark in results["benchmarks"]} == {"chair", "pope"}
    assert {"base", "aligned", "difference", "n"} <= set(results["benchmarks"][0]["metrics"][0])
    assert results["steps"]["images"]["rows"] == NUM_PROMPTS * 2
    assert (whole.folder / "adapter" / "adapter_model.safetensors").stat().st_size > 0
    assert "<html" in (whole.folder / "report.html").read_text()
    assert (whole.folder / "recipe.yaml").exists()


def test_every_prompt_ends_as_a_pair_or_as_a_drop_with_its_reason(whole: Run):
    paired = {pair.key for pair in whole.rows("pairs")}
    refused = {row.key for row in whole.dropped("pairs") if row.reason.startswith("no pair")}
    assert paired | refused == {prompt.key for prompt in whole.rows("prompts")} and not paired & refused


def test_a_pair_leads_back_to_its_picture_and_prompt(whole: Run):
    pair = whole.rows("pairs")[0]
    responses = {row.id: row for name in whole.manifest["steps"] if name.startswith("responses/") for row in whole.rows(name)}
    ranked = {row.picture: row for row in whole.rows("ranking")}[pair.pictures[0]]
    assert responses[pair.chosen_id].text == pair.chosen and responses[pair.rejected_id].text == pair.rejected
    assert ranked.prompt in {prompt.text for prompt in whole.rows("prompts")}
    assert ranked.score == max(candidate.score for candidate in ranked.candidates)


def test_a_steps_rows_open_as_a_dataset_with_pictures(whole: Run):
    import sightline

    data = sightline.rows(whole.folder, "ranking")
    assert data.num_rows == NUM_PROMPTS and data[0]["picture"].size == (24, 24)
    assert sightline.rows(whole.folder, "pairs")[0]["pictures"][0].size == (24, 24)


def test_every_steps_rows_open_as_a_dataset(whole: Run):
    import sightline

    for step, entry in whole.manifest["steps"].items():
        assert sightline.rows(whole.folder, step).num_rows == entry["rows"], step
    claims = sightline.rows(whole.folder, "annotations/claims")[0]
    assert {"claims", "rejected"} <= {entry["key"] for entry in claims["aspects"]}


def test_a_finished_run_started_again_computes_nothing_and_needs_no_torch(whole: Run, folder: Path):
    code = (
        "import sys, sightline; run = sightline.run(sys.argv[1], sys.argv[2], sys.argv[3:]);"
        "assert 'torch' not in sys.modules, 'torch was imported';"
        "assert all(entry['reused'] == len(entry['shards']) for name, entry in run.manifest['steps'].items()"
        " if not name.startswith(('prompts', 'items', 'scores')))"
    )
    before = stored(whole.store.root)
    command = [sys.executable, "-c", code, str(QUICKSTART), str(whole.folder), *overrides(folder)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert stored(whole.store.root) == before


def test_another_beta_reuses_everything_up_to_training(whole: Run, folder: Path):
    import sightline

    other = sightline.train(str(QUICKSTART), folder / "runs" / "beta", [*overrides(folder), "train.objective.beta=0.3"])
    assert set(other.manifest["steps"]) - reused(other) == {"prompts"}  # prompts are read again, and found stored
    assert other.shards("prompts") == whole.shards("prompts") and other.shards("reference") == whole.shards("reference")
    assert other.manifest["checkpoint"]["address"] != whole.manifest["checkpoint"]["address"]


def test_other_guidance_scales_reuse_the_prompts_only(whole: Run, folder: Path):
    import sightline

    changed = [*overrides(folder), "make.images.guidance=[2]"]
    other = sightline.make(str(QUICKSTART), folder / "runs" / "guidance", changed)
    assert other.shards("prompts") == whole.shards("prompts")
    assert not reused(other)


def test_a_run_that_is_killed_goes_on_and_ends_with_the_same_bytes(whole: Run, folder: Path):
    import sightline

    cut = folder / "other" / "cut"
    code = "import sys, sightline; sightline.run(sys.argv[1], sys.argv[2], sys.argv[3:])"
    command = [sys.executable, "-c", code, str(QUICKSTART), str(cut), *overrides(folder)]
    process = subprocess.Popen(command, cwd=REPOSITORY)
    while process.poll() is None and not list((folder / "other" / "store" / "rows" / "responses").glob("*/*.parquet")):
        time.sleep(0.05)
    assert process.poll() is None, "it ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = sightline.run(str(QUICKSTART), cut, overrides(folder))
    assert "images" in reused(again)
    for name in whole.manifest["steps"]:
        assert again.shards(name) == whole.shards(name)
        for shard in whole.shards(name):
            assert again.store.path(shard).read_bytes() == whole.store.path(shard).read_bytes()
    weights = Path("adapter") / "adapter_model.safetensors"
    assert (again.folder / weights).read_bytes() == (whole.folder / weights).read_bytes()


def test_what_lies_in_the_place_of_the_adapter_is_left_alone(tmp_path):
    from sightline.errors import RunError
    from sightline.recipe import parse
    from sightline.run import train

    mine = tmp_path / "runs" / "x" / "adapter" / "mine"
    mine.parent.mkdir(parents=True)
    mine.write_text("precious")
    recipe = parse({"name": "x", "train": {"model": "miniature/policy", "pairs": "p", "objective": {"kind": "dpo"}}})
    with pytest.raises(RunError, match="in the place of what training makes"):
        train(recipe, tmp_path / "runs" / "x")
    assert mine.read_text() == "precious"


@pytest.mark.parametrize("is_adapter", [True, False])
def test_after_two_stages_the_base_model_is_still_the_one_before_both(tmp_path, is_adapter):
    from sightline.recipe import read
    from sightline.run import Work, _models
    from sightline.train import Checkpoint

    recipe, _ = read(str(QUICKSTART))
    kept = {
        "revision": None,
        "num_pairs": 1,
        "num_steps": 1,
        "first_loss": 1.0,
        "last_loss": 0.5,
        "seconds": 1.0,
        "num_trained": {},
    }
    sft = Checkpoint("a", tmp_path / "a", "miniature/policy", is_adapter=True, **kept)
    last = Checkpoint("b", tmp_path / "b", str(tmp_path / "merged"), is_adapter=is_adapter, sft=sft, **kept)
    models = _models(Work(recipe, tmp_path, None, None, last))
    assert (models["base"].model, models["base"].adapter) == ("miniature/policy", None)
    expected = (tmp_path / "merged", str(tmp_path / "b")) if is_adapter else (tmp_path / "b", None)
    assert (models["aligned"].model, models["aligned"].adapter) == (str(expected[0]), expected[1])


def test_the_model_before_training_is_evaluated_at_the_revision_that_was_trained(tmp_path):
    from sightline.recipe import read
    from sightline.run import Work, _models

    recipe, _ = read(str(QUICKSTART), ["train.revision=abc", "eval.adapter=mine"])
    models = _models(Work(recipe, tmp_path, None, None))
    assert {who: engine.revision for who, engine in models.items()} == {"base": "abc", "aligned": "abc"}
    elsewhere, _ = read(str(QUICKSTART), ["train.revision=abc", "eval.model=other"])
    assert _models(Work(elsewhere, tmp_path, None, None))["base"].revision is None
