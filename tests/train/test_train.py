"""Training as a whole: it starts from log 2, learns, is stored, is never done twice, and goes on where it was killed."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from math import log
from pathlib import Path

import pytest

from sightline.engines import Engines
from sightline.errors import TrainingError
from sightline.execute import Execution, Executor
from sightline.store.shards import Shard, Store
from sightline.train import Train, train
from sightline.train.log import TIMED

from .conftest import draw_pairs, lines, section


def untimed(checkpoint) -> list[dict]:
    return [{name: value for name, value in line.items() if name not in TIMED} for line in lines(checkpoint)]


def weights(folder: Path) -> bytes:
    return (folder / "adapter_model.safetensors").read_bytes()


@pytest.fixture
def trained(tiny, executor, make_pairs):
    return train(section(tiny), make_pairs(6), executor)


def test_the_first_loss_is_log_two_and_it_falls(trained):
    assert trained.first_loss == pytest.approx(log(2), abs=1e-5)
    assert trained.last_loss < 0.5
    assert (trained.num_pairs, trained.num_steps) == (6, 4)
    first, last = lines(trained)[0], lines(trained)[-1]
    assert first["margin"] == pytest.approx(0, abs=1e-4)
    assert last["margin"] > 0
    assert last["accuracy"] == 1
    told = """
        epoch loss preference_loss nll margin accuracy chosen_reward rejected_reward log_ratio/chosen log_ratio/rejected kl
        chosen_tokens rejected_tokens num_pairs num_tokens pairs_per_second tokens_per_second grad_norm learning_rate seconds
    """
    assert set(first) == {"step", *told.split()}
    assert [line["step"] for line in lines(trained)] == [1, 2, 3, 4]


def test_plain_peft_loads_the_adapter_and_it_prefers_the_chosen_answers(trained, tiny, executor, make_pairs):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from sightline.train.examples import Encoder
    from sightline.train.logprobs import TreeScorer, pack

    base = AutoModelForImageTextToText.from_pretrained(tiny)
    encoder = Encoder(AutoProcessor.from_pretrained(trained.folder, backend="pil"), 256, executor.use.picture)
    terms = Train.model_validate({"model": "x", "objective": {"kind": "dpo"}}).objective.terms
    rows = [row for shard in make_pairs(6) for row in executor.store.read(shard)]
    batch = pack([encoder.tree(row, terms) for row in rows], terms, encoder.pictures, encoder.pad)
    with torch.no_grad():
        before = TreeScorer(base)(batch)
        after = TreeScorer(PeftModel.from_pretrained(base, trained.folder))(batch)
    gap = (after - before)[:, 0] - (after - before)[:, 1]
    assert (gap > 0).all()


def test_a_finished_training_is_returned_without_torch(trained, tiny, store, make_pairs):
    again = section(tiny, threads=2, log_every=3)  # neither decides anything
    made = subprocess.run(command(store, again, make_pairs(6)), capture_output=True, text=True, check=True, env=environment())
    assert made.stdout.split() == [str(trained.folder), "False"]


RUN = """
import sys
from pathlib import Path
from sightline.engines import Engines
from sightline.execute import Execution, Executor
from sightline.store.shards import Shard, Store
from sightline.train import Train, train

root, section, *shards = sys.argv[1:]
executor = Executor(Store(Path(root)), Engines({}), 0, Execution(workers=1, threads=1))
pairs = [Shard("pairs", int(bucket), address) for bucket, address in (word.split(":") for word in shards)]
print(train(Train.model_validate_json(section), pairs, executor).folder, "torch" in sys.modules)
"""


def command(store: Store, train_section: Train, pairs: list[Shard]) -> list[str]:
    """Training in a process of its own, which prints the checkpoint's folder and whether it needed torch."""
    shards = [f"{shard.bucket}:{shard.address}" for shard in pairs]
    return [sys.executable, "-c", RUN, str(store.root), train_section.model_dump_json(), *shards]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def test_what_decides_the_result_is_in_its_address(tiny, make_pairs):
    pairs = make_pairs(6)
    before = section(tiny).address("w", pairs, pairs)
    assert section(tiny, threads=2, log_every=7, checkpoint_every=3, pairs="x").address("w", pairs, pairs) == before
    assert section(tiny, trainer_args={"report_to": "wandb"}).address("w", pairs, pairs) == before
    others = [
        section(tiny, objective={"kind": "dpo", "beta": 0.2}).address("w", pairs, pairs),
        section(tiny, seed=1).address("w", pairs, pairs),
        section(tiny, trainer_args={"adam_beta2": 0.95}).address("w", pairs, pairs),
        section(tiny).address("v", pairs, pairs),
        section(tiny).address("w", pairs[:1], pairs),
        section(tiny).address("w", pairs, pairs[:1]),
    ]
    assert len({before, *others}) == 7


def test_another_beta_and_seed_reuse_the_reference(tiny, store, executor, make_pairs):
    pairs, tallies = make_pairs(3), []
    train(section(tiny, epochs=1), pairs, executor, tallies.append)
    other = Executor(store, Engines({}), 5, Execution(workers=1, threads=1))
    train(section(tiny, epochs=1, objective={"kind": "dpo", "beta": 0.5}), pairs, other, tallies.append)
    assert [(tally.name, tally.reused) for tally in tallies] == [("reference", 0), ("reference", len(pairs))]


@pytest.mark.parametrize("kind", ["dpo", "sft"])
def test_split_steps_train_as_whole_ones(tiny, executor, make_pairs, kind):
    """Seven pairs in steps of four: the second step's parts are smaller than the first's, and one of three would weigh too much.
    SFT counts tokens, not pairs."""
    from safetensors.torch import load

    pairs, changes = make_pairs(7), {"objective": {"kind": kind}, "learning_rate": 1e-3}
    folders = [train(section(tiny, accumulation=parts, **changes), pairs, executor).folder for parts in (1, 2)]
    whole, split = (load(weights(folder)) for folder in folders)
    assert all((whole[name] - split[name]).abs().max() < 1e-5 for name in whole)


def test_an_objective_without_a_reference_asks_no_model_for_one(tiny, store, executor, make_pairs):
    pairs, tallies = make_pairs(6), []
    checkpoint = train(section(tiny, objective={"kind": "simpo"}), pairs, executor, tallies.append)
    rows = [row for shard in tallies[0].shards for row in store.read(shard)]
    assert {row.logprob for row in rows} == {None} and len(rows) == 12
    assert checkpoint.last_loss < checkpoint.first_loss
    first = lines(checkpoint)[0]
    assert first["chosen_reward"] - first["rejected_reward"] == pytest.approx(first["margin"], abs=1e-5)
    assert first["margin"] != 0


def test_a_live_reference_trains_as_a_stored_one(tiny, store, executor, make_pairs):
    from safetensors.torch import load

    pairs, tallies = make_pairs(6), []
    made = [
        train(section(tiny, reference=kind, learning_rate=1e-3), pairs, executor, tallies.append) for kind in ("stored", "live")
    ]
    stored, live = (load(weights(checkpoint.folder)) for checkpoint in made)
    assert all((stored[name] - live[name]).abs().max() < 1e-5 for name in stored)
    assert made[1].first_loss == pytest.approx(log(2), abs=1e-6)
    assert {row.logprob for shard in tallies[1].shards for row in store.read(shard)} == {None}


def test_sft_needs_no_rejected_answer(tiny, store, executor):
    good, empty = draw_pairs(store, 2)
    pairs = store.source("pairs", "test", [good, replace(empty, rejected="")], [], 4)
    checkpoint = train(section(tiny, objective={"kind": "sft"}), pairs, executor)
    assert checkpoint.num_pairs == 2 and not checkpoint.dropped
    assert checkpoint.last_loss < checkpoint.first_loss


@pytest.mark.parametrize(("tower", "passes"), [("frozen", 6), ("full", 6 + 2 * 6)])
def test_a_frozen_tower_sees_each_picture_once_in_all(tiny, store, executor, make_pairs, monkeypatch, tower, passes):
    """Reference and two epochs; a tower that trains sees a picture once a step."""
    from transformers import CLIPVisionModel

    seen, own = [], CLIPVisionModel.forward

    def counting(self, pixels, **rest):
        seen.append(len(pixels))
        return own(self, pixels, **rest)

    monkeypatch.setattr(CLIPVisionModel, "forward", counting)
    parts = {"vision_tower": tower, "language_model": "full" if tower == "full" else "lora"}
    assert train(section(tiny, **parts), make_pairs(6), executor).num_steps == 4
    assert sum(seen) == passes


def test_pairs_of_one_instruction_come_together_in_another_order_each_epoch():
    from sightline.train.dataset import Together

    groups = [[0, 3], [1], [2, 4, 5], [6], [7, 8]]
    sampler, orders = Together(groups, seed=1), []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
        assert sorted(orders[-1]) == list(range(9)) and len(sampler) == 9
        assert all(orders[-1][(at := orders[-1].index(group[0])) : at + len(group)] == group for group in groups)
    assert orders[0] != orders[1] and list(Together(groups, seed=1)) == orders[0]


def test_killed_and_resumed_training_on_several_pairs_an_instruction_ends_in_the_same_weights(tiny, store, executor):
    """The order of the groups must be found again: stopped after an epoch and a half, and gone on with."""
    rows = [
        replace(pair, id=f"{pair.id}-{at}", rejected=f"{pair.rejected} {at}") for pair in draw_pairs(store, 5) for at in range(3)
    ]
    pairs = store.source("pairs", "test", rows, [], 4)
    long = section(tiny, epochs=3, checkpoint_every=2, learning_rate=1e-3)
    whole = train(long, pairs, executor)
    expected, working = weights(whole.folder), whole.folder.with_name(f".{whole.folder.name}.working")
    os.rename(whole.folder, whole.folder.with_name("whole"))
    process = subprocess.Popen(command(store, long, pairs), env=environment(), stdout=subprocess.PIPE)
    while process.poll() is None and not (working / "checkpoint-6" / "whole").exists():
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not whole.folder.exists()
    assert weights(train(long, pairs, executor).folder) == expected


@pytest.mark.parametrize(("kind", "start"), [("mdpo", 3 * log(2)), ("mcm_dpo", log(2))])
def test_objectives_with_negatives_start_where_they_should_and_learn_to_look(tiny, store, executor, kind, start):
    rows = [replace(pair, instruction=f"{pair.instruction} {at}?") for at, pair in enumerate(draw_pairs(store, 6))]
    pairs, tallies = store.source("pairs", "test", rows, [], 4), []
    checkpoint = train(section(tiny, objective={"kind": kind}), pairs, executor, tallies.append)
    assert checkpoint.first_loss == pytest.approx(start, abs=1e-4) and checkpoint.last_loss < start
    name = "picture_margin" if kind == "mdpo" else "margin/chosen/picture"
    assert lines(checkpoint)[0][name] == pytest.approx(0, abs=1e-4) and lines(checkpoint)[-1][name] > 0
    assert [tally.name for tally in tallies] == ["negatives", "reference"]
    train(section(tiny, objective={"kind": kind, "beta": 0.2}), pairs, executor, tallies.append)
    train(section(tiny, objective={"kind": kind}, negatives={"noise_step": 500}), pairs, executor, tallies.append)
    assert [tally.reused > 0 for tally in tallies] == [False, False, True, True, False, False]


def test_pairs_without_a_negative_are_counted(tiny, store, executor):
    """One question for all: there is no other to hold a pair against."""
    pairs = store.source("pairs", "test", draw_pairs(store, 3), [], 4)
    with pytest.raises(TrainingError, match="3 no other question"):
        train(section(tiny, objective={"kind": "mcm_dpo"}), pairs, executor)


def test_pairs_that_cannot_be_trained_on_are_counted(tiny, store, executor):
    good, empty, long = draw_pairs(store, 3)
    rows = [good, replace(empty, rejected=""), replace(long, chosen="a cat " * 300)]
    checkpoint = train(section(tiny, epochs=1, max_length=256), store.source("pairs", "test", rows, [], 4), executor)
    assert checkpoint.num_pairs == 1
    assert checkpoint.dropped == {"rejected answer is empty": 1, "too long": 1}


def test_no_pair_left_is_an_error_that_says_why(tiny, store, executor):
    rows = [replace(pair, rejected="") for pair in draw_pairs(store, 2)]
    with pytest.raises(TrainingError, match="2 rejected answer is empty"):
        train(section(tiny), store.source("pairs", "test", rows, [], 4), executor)


def test_a_loss_that_is_no_number_stops_training(tiny, executor, make_pairs):
    with pytest.raises(TrainingError, match="finite|nan|inf"):
        train(section(tiny, learning_rate=1e30, max_grad_norm=1e30), make_pairs(6), executor)


def test_real_pairs_of_long_answers_train(tiny, store, executor, shared, tmp_path):
    """PDS-DPO's published sample: ten pictures of 1024 pixels, two empty rejected answers, one answer past the context."""
    from sightline.formats import import_rows
    from sightline.store.folders import RowFolder

    import_rows(shared / "data" / "pds_dpo" / "preferences.json", "llava", shared / "data" / "pds_dpo", tmp_path / "pds")
    pairs = RowFolder.open(tmp_path / "pds", "pairs").adopt(store, 16)
    checkpoint = train(section(tiny, objective={"kind": "dpo", "nll": 0.2}, learning_rate=1e-3), pairs, executor)
    assert checkpoint.dropped == {"rejected answer is empty": 2, "too long": 1}
    first, last = lines(checkpoint)[0], lines(checkpoint)[-1]
    assert first["preference_loss"] == pytest.approx(log(2), abs=1e-4)
    assert last["loss"] < first["loss"]


def test_a_whole_model_trains_and_reloads(tiny, executor, make_pairs):
    from transformers import AutoModelForImageTextToText

    checkpoint = train(section(tiny, language_model="full", projector="full", learning_rate=1e-3), make_pairs(6), executor)
    assert checkpoint.adapter is None
    assert checkpoint.first_loss == pytest.approx(log(2), abs=1e-5)
    assert checkpoint.last_loss < checkpoint.first_loss
    before, after = (AutoModelForImageTextToText.from_pretrained(folder) for folder in (tiny, checkpoint.folder))
    changed = {name for (name, one), two in zip(before.named_parameters(), after.parameters(), strict=True) if not one.equal(two)}
    assert {"lm_head.weight", "model.multi_modal_projector.linear_1.weight"} <= changed
    assert not any("vision_tower" in name for name in changed)


@pytest.mark.parametrize("kind", ["dpo", "mpo"])
def test_killed_and_resumed_training_ends_in_the_same_bytes(tiny, store, executor, make_pairs, tmp_path, kind):
    """Killed by SIGKILL in the middle of an epoch, with dropout, so that order and random numbers must be restored too, and what
    the objective remembers."""
    pairs = make_pairs(10)
    changes = {"epochs": 8, "checkpoint_every": 4, "lora": {"rank": 4, "dropout": 0.1}, "learning_rate": 1e-3}
    long = section(tiny, objective={"kind": kind}, **changes)
    whole = train(long, pairs, executor)
    expected = weights(whole.folder)
    expected_lines = untimed(whole)
    os.rename(whole.folder, tmp_path / "whole")

    process = subprocess.Popen(command(store, long, pairs), env=environment(), stdout=subprocess.PIPE)
    working = whole.folder.with_name(f".{whole.folder.name}.working")
    while process.poll() is None and not (working / "checkpoint-8" / "whole").exists():
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not whole.folder.exists()
    (working / "checkpoint-12").mkdir(exist_ok=True)  # what a kill in the middle of saving leaves: no whole state

    resumed = train(long, pairs, executor)
    assert weights(resumed.folder) == expected
    assert untimed(resumed) == expected_lines
    assert not working.exists()


def test_features_kept_on_disk_change_nothing(tiny, executor, make_pairs):
    pairs = make_pairs(6)
    kept = train(section(tiny, feature_cache_gb=0.1), pairs, executor)
    assert len(list(executor.store.root.glob("features/*/float32/*.safetensors"))) == 6
    before = weights(kept.folder)
    shutil.rmtree(kept.folder)
    again = train(section(tiny), pairs, executor)
    assert (again.folder, weights(again.folder)) == (kept.folder, before)
