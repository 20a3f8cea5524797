"""Fine-tuning and then alignment: what trains in each, what the second starts from, and that nothing is done twice."""

import json
import os
import shutil
import signal
import subprocess
import time
from math import log
from pathlib import Path

import pytest
from pydantic import ValidationError
from safetensors.torch import load_file

from sightline.engines import Engines
from sightline.execute import Execution, Executor
from sightline.plugin import recipe_error
from sightline.store.shards import Store
from sightline.train import Train, train
from sightline.train.merge import merge

from .conftest import draw_pairs
from .test_train import command, environment, weights


def section(tiny: Path, **changes) -> Train:
    values = {"objective": {"kind": "dpo"}, "batch_size": 4, "epochs": 1, "learning_rate": 1e-2, "warmup": 0, "sft": {}}
    return Train.model_validate({"model": str(tiny), **values, **changes})


def parts_that_differ(before: Path, after: Path) -> set[str]:
    one, two = (load_file(folder / "model.safetensors") for folder in (before, after))
    changed = {name for name in one if not one[name].equal(two[name])}
    named = {"vision_tower": "vision_tower", "projector": "multi_modal_projector", "language_model": "language_model"}
    return {part for part, sign in named.items() if any(sign in name for name in changed)}


@pytest.mark.parametrize(
    ("paradigm", "in_sft", "in_alignment"),
    [
        ("vision_never", False, False),
        ("vision_in_alignment", False, True),
        ("vision_in_sft", True, False),
        ("vision_in_both", True, True),
    ],
)
def test_a_paradigm_says_in_which_stage_the_vision_tower_trains(tiny, executor, make_pairs, paradigm, in_sft, in_alignment):
    aligned = train(section(tiny, paradigm=paradigm, learning_rate=1e-3), make_pairs(4), executor)
    always = {"projector", "language_model"}
    assert parts_that_differ(tiny, aligned.sft.folder) == always | ({"vision_tower"} if in_sft else set())
    assert parts_that_differ(aligned.sft.folder, aligned.folder) == always | ({"vision_tower"} if in_alignment else set())
    assert (aligned.sft.num_trained["vision_tower"] > 0, aligned.num_trained["vision_tower"] > 0) == (in_sft, in_alignment)


def test_a_resolved_paradigm_reads_back_as_itself(tiny):
    made = section(tiny, paradigm="vision_in_sft")
    assert (made.vision_tower, made.sft.vision_tower) == ("frozen", "full")
    assert {made.projector, made.language_model, made.sft.projector, made.sft.language_model} == {"full"}
    assert Train.model_validate(made.model_dump()) == made


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"paradigm": "vision_in_sft", "vision_tower": "full"}, "the paradigm trains the vision_tower frozen in this stage"),
        ({"paradigm": "vision_never", "sft": {"language_model": "lora"}}, "leave out paradigm or language_model"),
        ({"paradigm": "vision_never", "sft": None}, "add sft: {}"),
        ({"paradigm": "vision"}, "'vision_never', 'vision_in_alignment'"),
        ({"sft": {"accumulation": 3}}, "sft: batch_size must be a multiple of accumulation"),
        ({"sft": {"language_model": "frozen"}}, "sft: nothing trains"),
        ({"sft": {"epoch": 1}}, "did you mean 'epochs'"),
    ],
)
def test_stages_that_cannot_be_are_refused_with_what_to_do(tiny, changes, said):
    with pytest.raises(ValidationError) as caught:
        section(tiny, **changes)
    assert said in str(recipe_error(caught.value))


def test_alignment_starts_from_the_tuned_model_and_from_log_two(tiny, store, executor, make_pairs):
    """The first stage's own rate and epochs; a reference of the untuned model would not give log 2 but stop the run."""
    tallies = []
    aligned = train(section(tiny, sft={"learning_rate": 5e-3, "epochs": 3}), make_pairs(6), executor, tallies.append)
    assert (aligned.sft.num_steps, aligned.num_steps) == (6, 2)
    assert aligned.sft.last_loss < aligned.sft.first_loss
    assert aligned.first_loss == pytest.approx(log(2), abs=1e-5)
    assert [tally.name for tally in tallies] == ["reference/sft", "reference"]
    untuned = train(section(tiny, sft=None), make_pairs(6), executor, tallies.append)
    sums = [{row.pair_id: row.logprob for shard in tally.shards for row in store.read(shard)} for tally in tallies[1:]]
    assert all(abs(sums[0][pair] - sums[1][pair]) > 0.1 for pair in sums[0])
    assert untuned.model == str(tiny) and aligned.model == str(store.root / "models" / aligned.sft.address)


def test_an_adapter_is_merged_once_for_all_alignments_that_start_from_it(tiny, store, executor, make_pairs):
    pairs = make_pairs(4)
    one = train(section(tiny), pairs, executor)
    folder = store.folder("models", one.sft.address)
    stamps = {path: path.stat().st_mtime_ns for path in [*folder.iterdir(), *one.sft.folder.iterdir()]}
    two = train(section(tiny, objective={"kind": "ipo"}), pairs, executor)
    assert two.sft == one.sft and two.address != one.address
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_the_second_stages_adapter_merges_into_the_tuned_model_also_after_the_store_has_moved(tiny, store, executor, make_pairs):
    aligned = train(section(tiny), make_pairs(4), executor)
    merge(aligned.folder, store.root / "before")
    moved = store.root.with_name("moved")
    shutil.copytree(store.root, moved)
    shutil.rmtree(store.root / "models")
    merge(moved / "checkpoints" / aligned.address, moved / "after")
    before, after = (load_file(folder / "model.safetensors") for folder in (store.root / "before", moved / "after"))
    assert before and all(before[name].equal(after[name]) for name in before)


@pytest.mark.parametrize("paradigm", [None, "vision_never"])
def test_a_stores_place_decides_no_address(tiny, tmp_path, paradigm):
    """Neither does the time that the first stage took, which lies in its folder."""
    made = []
    for name in ("one", "two"):
        store = Store(tmp_path / name)
        executor = Executor(store, Engines({}), 0, Execution(workers=1, threads=1))
        tallies = []
        pairs = store.source("pairs", "test", draw_pairs(store, 4), [], 4)
        changes = {"paradigm": paradigm, "learning_rate": 1e-3}
        aligned = train(section(tiny, **changes), pairs, executor, tallies.append)
        made.append((aligned.address, aligned.sft.address, [shard for tally in tallies for shard in tally.shards]))
    assert made[0] == made[1]


def test_a_first_stage_may_learn_other_rows(tiny, store, executor, make_pairs):
    own = store.source("pairs", "other", draw_pairs(store, 3, seed=5), [], 4)
    aligned = train(section(tiny), make_pairs(6), executor, sft_pairs=own)
    assert (aligned.sft.num_pairs, aligned.num_pairs) == (3, 6)


@pytest.mark.parametrize("stage", ["sft", "alignment"])
def test_killed_and_resumed_in_either_stage_it_ends_in_the_same_weights(tiny, store, make_pairs, executor, tmp_path, stage):
    pairs = make_pairs(6)
    long = section(tiny, epochs=6, sft={"epochs": 5}, checkpoint_every=2, learning_rate=1e-3)
    whole = train(long, pairs, executor)
    expected = weights(whole.folder), weights(whole.sft.folder), json.loads((whole.folder / "adapter_config.json").read_text())
    killed = whole.sft if stage == "sft" else whole
    kept = [whole.folder] if stage == "alignment" else [whole.folder, whole.sft.folder, store.folder("models", whole.sft.address)]
    for number, folder in enumerate(kept):
        os.rename(folder, tmp_path / str(number))
    working = killed.folder.with_name(f".{killed.folder.name}.working")
    process = subprocess.Popen(command(store, long, pairs), env=environment(), stdout=subprocess.PIPE)
    while process.poll() is None and not (working / "checkpoint-4" / "whole").exists():
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not killed.folder.exists()
    again = train(long, pairs, executor)
    assert (weights(again.folder), weights(again.sft.folder)) == expected[:2]
    assert json.loads((again.folder / "adapter_config.json").read_text()) == expected[2]
