"""Training by objectives that ask for more than two answers: what they start from, store, and learn."""

from contextlib import nullcontext
from dataclasses import replace
from math import log

import pytest

from sightline.errors import TrainingError
from sightline.execute import Task
from sightline.train import train

from .conftest import draw_pairs, lines, section
from .test_start import spoil


def test_a_question_comes_from_the_next_shard_where_the_own_one_has_no_other(tiny, store, executor):
    rows = [replace(pair, instruction=f"{pair.instruction} {at}?") for at, pair in enumerate(draw_pairs(store, 2))]
    pairs = store.source("pairs", "test", rows, [], 1)
    assert len(pairs) == 2  # of one row each
    checkpoint = train(section(tiny, objective={"kind": "mcm_dpo"}, epochs=1), pairs, executor)
    assert checkpoint.num_pairs == 2 and not checkpoint.dropped


def test_kto_learns_from_rows_of_one_answer_and_from_pairs(tiny, store, executor):
    """The reference has no row of an answer that is not there, and is found again."""
    lacking = [{"rejected": None}, {"chosen": None}, {}, {"rejected": None}, {"chosen": None}, {}, {"rejected": None}]
    drawn = zip(draw_pairs(store, 8), [*lacking, {"chosen": None, "rejected": None}], strict=True)
    pairs, tallies = store.source("pairs", "test", [replace(pair, **changes) for pair, changes in drawn], [], 4), []
    checkpoint = train(section(tiny, objective={"kind": "kto"}, epochs=4), pairs, executor, tallies.append)
    assert checkpoint.num_pairs == 7 and checkpoint.dropped == {"both answers are missing": 1}
    assert checkpoint.first_loss == pytest.approx(0.5, abs=1e-4) and checkpoint.last_loss < 0.45
    terms = [row.term for shard in tallies[1].shards for row in store.read(shard)]
    assert (len(terms), terms.count("chosen"), terms.count("rejected"), terms.count("unrelated")) == (16, 5, 4, 7)
    last = lines(checkpoint)[-1]
    assert last["chosen_reward"] > last["rejected_reward"] and last["kl"] >= 0
    train(section(tiny, objective={"kind": "kto", "beta": 0.2}, epochs=1), pairs, executor, tallies.append)
    assert [tally.reused > 0 for tally in tallies] == [False, False, True, True]


def test_a_line_of_the_log_leaves_out_what_no_row_had(tiny, store, executor):
    rows = [replace(pair, chosen=None) for pair in draw_pairs(store, 4)]
    checkpoint = train(section(tiny, objective={"kind": "kto"}, epochs=1), store.source("pairs", "test", rows, [], 4), executor)
    [line] = lines(checkpoint)
    assert {"rejected_reward", "kl"} <= line.keys() and not {"chosen_reward", "margin", "accuracy", "nll"} & line.keys()


@pytest.mark.parametrize("reference", ["stored", "live"])
def test_povid_starts_at_log_two_with_either_reference_and_turns_from_its_guesses(tiny, executor, make_pairs, reference):
    povid = section(tiny, objective={"kind": "povid"}, negatives={"noise_step": 999}, reference=reference)
    checkpoint = train(povid, make_pairs(6), executor)
    first, last = lines(checkpoint)[0], lines(checkpoint)[-1]
    assert first["loss"] == pytest.approx(log(2), abs=1e-4) and first["guess_margin"] == pytest.approx(0, abs=1e-3)
    assert last["loss"] < log(2) and last["guess_margin"] > 0


def test_dense_dpo_finds_its_reference_again_whatever_gamma(tiny, store, executor):
    # an extra thing alone would only be added, and nothing changed
    rows = [replace(pair, rejected=pair.rejected.replace("The picture", "A photograph")) for pair in draw_pairs(store, 6)]
    pairs, tallies, losses = store.source("pairs", "test", rows, [], 4), [], []
    for gamma in (1.0, 5.0):
        checkpoint = train(section(tiny, objective={"kind": "ddpo", "gamma": gamma}), pairs, executor, tallies.append)
        assert checkpoint.first_loss == pytest.approx(log(2), abs=1e-4) and checkpoint.last_loss < 0.6
        losses.append([line["loss"] for line in lines(checkpoint)])
    assert [tally.reused for tally in tallies] == [0, len(pairs)]
    plain = [line["loss"] for line in lines(train(section(tiny), pairs, executor))]
    assert losses[0] == pytest.approx(plain, abs=1e-5) and losses[1][1:] != pytest.approx(plain[1:], abs=1e-3)


@pytest.mark.parametrize(("term", "stops"), [("chosen/guessed", False), ("chosen/picture", True)])
def test_a_guess_that_rounding_turned_does_not_stop_training(tiny, store, executor, make_pairs, term, stops):
    """What it was made of is compared as ever: the answer after either picture."""
    pairs, povid = make_pairs(3), section(tiny, objective={"kind": "povid"}, epochs=1)
    negatives = executor.run(Task("negatives", povid.negative_step(), ("pairs", "pairs")), [pairs, pairs]).shards
    executor.run(Task("reference", povid.reference_step(), ("pairs", "negatives")), [pairs, negatives])
    spoil(store, term, logprob=lambda value: value - 1)
    with pytest.raises(TrainingError, match="not this model's") if stops else nullcontext():
        assert lines(train(povid, pairs, executor))[0]["guess_margin"] == pytest.approx(-0.1, abs=1e-3)
