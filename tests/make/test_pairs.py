import pytest

from sightline.engines import Engines
from sightline.execute import Use
from sightline.make.best_worst import BestWorst
from sightline.make.pairs import PAIRS
from sightline.rows import Dropped, Pair
from sightline.store.shards import Store
from tests.make.rows import annotation, instruction, response


def settle(tmp_path, answers: dict[str, str], scores: dict[str, float | None], others=None, finish=None, **fields: object):
    """The pair (or None) and the reasons of what was dropped. Scores are of annotator 'claims'; others of 'taste'."""
    policy = PAIRS.read({"kind": "best_worst", "weights": {"claims": 1.0}, **fields})
    given = [annotation(name, "claims", score, None if score is not None else "unreadable") for name, score in scores.items()]
    given += [annotation(name, "taste", score) for name, score in (others or {}).items()]
    rows = [[instruction()], *([response(name, text, (finish or {}).get(name, "stop"))] for name, text in answers.items()), given]
    made = list(policy.make(Use(Engines({}), Store(tmp_path), 0), *rows))
    pairs = [row for row in made if isinstance(row, Pair)]
    return (pairs or [None])[0], {row.row_id: row.reason for row in made if isinstance(row, Dropped)}


THREE = {"a": "a red cup", "b": "a red cup and a cat", "c": "a tree"}


def test_the_best_answer_is_chosen_over_the_worst(tmp_path):
    pair, dropped = settle(tmp_path, THREE, {"a": 0.0, "b": -1.0, "c": -2.0})
    assert (pair.chosen, pair.rejected, pair.chosen_score, pair.rejected_score) == ("a red cup", "a tree", 0.0, -2.0)
    assert (pair.chosen_model, pair.rejected_model, pair.chosen_id, pair.rejected_id) == ("model-a", "model-c", "a", "c")
    assert (pair.key, pair.topic, pair.pictures, pair.rule, pair.instruction_id) == (
        "key",
        "art",
        ["picture"],
        "best_worst",
        "ask",
    )
    assert dropped == {}


def test_several_annotators_count_by_their_weights_on_raw_scores(tmp_path):
    weights = {"claims": 1.0, "taste": 0.5}  # a: 0 + 0.5*1 = 0.5; b: -1 + 0.5*4 = 1; c: -2 + 0.5*4 = 0
    pair, _ = settle(tmp_path, THREE, {"a": 0.0, "b": -1.0, "c": -2.0}, {"a": 1.0, "b": 4.0, "c": 4.0}, weights=weights)
    assert (pair.chosen_id, pair.rejected_id, pair.chosen_score, pair.rejected_score) == ("b", "c", 1.0, 0.0)


@pytest.mark.parametrize(
    ("answers", "scores", "fields", "reasons"),
    [
        (THREE, {"a": 1.0, "b": 1.0, "c": 1.0}, {}, {"ask": "no pair: all answers score the same"}),
        (THREE, {"a": 0.5, "b": 0.2, "c": 0.0}, {"min_gap": 1.0}, {"ask": "no pair: gap below min_gap"}),
        (
            {"a": "a cup", "b": " "},
            {"a": 0.0, "b": -1.0},
            {},
            {"b": "answer is empty", "ask": "no pair: fewer than two answers left"},
        ),
        (
            {"a": "a cup", "b": "A  cup"},
            {"a": 0.0, "b": -1.0},
            {},
            {"b": "answer equals another", "ask": "no pair: fewer than two answers left"},
        ),
        (
            {"a": "a cup", "b": "what does the PICTURE show? a cat"},
            {"a": 0.0, "b": -1.0},
            {},
            {"b": "answer repeats the instruction", "ask": "no pair: fewer than two answers left"},
        ),
        (
            {"a": "a red cup", "b": "cup"},
            {"a": 0.0, "b": -1.0},
            {"min_words": 2},
            {"b": "answer is too short", "ask": "no pair: fewer than two answers left"},
        ),
        (
            {"a": "a red cup", "b": "a cat"},
            {"a": 0.0, "b": None},
            {},
            {"b": "answer has no score", "ask": "no pair: fewer than two answers left"},
        ),
        (
            {"a": "a cup", "b": "a cat"},
            {"a": 0.0},
            {},
            {"b": "answer has no score", "ask": "no pair: fewer than two answers left"},
        ),
        (
            {"a": "a cup", "b": "a cat and a tree and a car"},
            {"a": 0.0, "b": -1.0},
            {"max_length_ratio": 3.0},
            {"ask": "no pair: lengths too unlike"},
        ),
    ],
)
def test_what_makes_no_pair_leaves_with_its_reason(tmp_path, answers, scores, fields, reasons):
    assert settle(tmp_path, answers, scores, **fields) == (None, reasons)


def test_an_answer_that_was_cut_takes_part_only_where_that_is_allowed(tmp_path):
    scores = {"a": 0.0, "b": -1.0, "c": -2.0}
    pair, dropped = settle(tmp_path, THREE, scores, finish={"c": "length"})
    assert (pair.rejected_id, dropped) == ("b", {"c": "answer was cut at max_tokens"})
    assert settle(tmp_path, THREE, scores, finish={"c": "length"}, allow_cut=True)[0].rejected_id == "c"


def test_a_refused_answer_leaves_the_others_their_pair(tmp_path):
    pair, dropped = settle(tmp_path, {**THREE, "d": ""}, {"a": 0.0, "b": -1.0, "c": -2.0, "d": None})
    assert (pair.chosen_id, pair.rejected_id, dropped) == ("a", "c", {"d": "answer is empty"})


def test_among_equal_scores_the_answers_closest_in_length_are_taken(tmp_path):
    answers = {"a": "one two", "b": "one two three four", "c": "four three two one zero", "d": "one"}
    pair, _ = settle(tmp_path, answers, {"a": 0.0, "b": 0.0, "c": -1.0, "d": 1.0 - 2.0})
    assert (pair.chosen_id, pair.rejected_id) == ("a", "d")  # lengths 2 and 1 differ by 1; so do b and c (4, 5): ids decide


def test_a_second_annotator_decides_before_length_does(tmp_path):
    answers = {"a": "one two", "b": "one two three four", "c": "zero", "d": "zero one zero"}
    taste = {"a": 1.0, "b": 2.0, "c": 5.0, "d": 3.0}
    pair, _ = settle(tmp_path, answers, {"a": 0.0, "b": 0.0, "c": -1.0, "d": -1.0}, taste, tie_break={"taste": 1.0})
    assert (pair.chosen_id, pair.rejected_id) == ("b", "d")


def test_only_the_annotators_that_a_policy_names_are_waited_for():
    assert BestWorst(kind="best_worst", weights={"claims": 1.0}).annotators() == ["claims"]
    assert BestWorst(kind="best_worst", weights={"claims": 1.0}, tie_break={"taste": 1.0}).annotators() == ["claims", "taste"]
