"""Policies whose rows hold one answer: rejection sampling and SteerLM."""

from dataclasses import replace

import pytest
from pydantic import ValidationError

from sightline.engines import Engines
from sightline.errors import RecipeError
from sightline.execute import Use
from sightline.make.pairs import PAIRS
from sightline.plugin import recipe_error
from sightline.rows import Dropped, Pair
from sightline.store.shards import Store
from tests.make.rows import annotation, instruction, response

ANSWERS = {"a": "a red cup", "b": "a red cup and a cat", "c": "a tree"}


def settle(tmp_path, policy: dict, answers: dict[str, str], given: list) -> tuple[dict[str, Pair], dict[str, str]]:
    """Rows by the answer they hold, and the reasons of what was dropped."""
    rows = [[instruction()], *([response(name, text)] for name, text in answers.items()), given]
    made = list(PAIRS.read(policy).make(Use(Engines({}), Store(tmp_path), 0), *rows))
    assert all(row.rejected is row.rejected_id is row.rejected_score is None for row in made if isinstance(row, Pair))
    held = {row.chosen_id: row for row in made if isinstance(row, Pair)}
    return held, {row.row_id: row.reason for row in made if isinstance(row, Dropped)}


def scored(**scores: float) -> list:
    return [annotation(name, "claims", score) for name, score in scores.items()]


def best(tmp_path, answers=ANSWERS, given=(), **fields):
    return settle(tmp_path, {"kind": "best_of_n", "weights": {"claims": 1.0}, **fields}, answers, list(given))


def test_the_best_answer_is_learned_by_itself(tmp_path):
    rows, dropped = best(tmp_path, given=scored(a=0.0, b=1.0, c=-2.0))
    (row,) = rows.values()
    assert (row.chosen, row.chosen_score, row.chosen_model, row.rule) == ("a red cup and a cat", 1.0, "model-b", "best_of_n")
    assert (row.key, row.topic, row.pictures, row.instruction_id) == ("key", "art", ["picture"], "ask")
    assert row.instruction == "What does the picture show?" and row.answers == {"chosen": "a red cup and a cat"}
    assert dropped == {}


def test_an_instruction_without_a_good_answer_gives_no_row(tmp_path):
    given = scored(a=0.0, b=1.0, c=-2.0)
    assert best(tmp_path, given=given, min_score=1.0)[0].keys() == {"b"}
    assert best(tmp_path, given=given, min_score=1.5) == ({}, {"ask": "no row: best score below min_score"})
    rows, dropped = best(tmp_path, answers={"a": " "}, given=scored(a=1.0))
    assert (rows, dropped) == ({}, {"a": "answer is empty", "ask": "no row: no answer left"})


def test_one_answer_is_enough(tmp_path):
    assert best(tmp_path, answers={"a": "a cup"}, given=scored(a=0.0))[0].keys() == {"a"}


def test_among_equals_a_second_annotator_decides_and_then_the_usual_length(tmp_path):
    answers = {"a": "one", "b": "one two three", "c": "one two three four five six"}  # 10 / 3 words on average
    given = scored(a=1.0, b=1.0, c=1.0)
    taste = [annotation(name, "taste", score) for name, score in {"a": 2.0, "b": 1.0, "c": 2.0}.items()]
    assert best(tmp_path, answers, given)[0].keys() == {"b"}
    assert best(tmp_path, answers, given + taste, tie_break={"taste": 1.0})[0].keys() == {"a"}  # 7/3 words away, c 8/3


FAITHFUL = {"name": "Faithfulness", "annotator": "claims", "aspect": "rejected", "cuts": [3, 2, 1, 0]}
LIKED = {"name": "Helpfulness", "annotator": "taste", "cuts": [1.0, 2.0, 3.0, 4.0]}


def steer(tmp_path, given, answers=ANSWERS, **fields):
    return settle(tmp_path, {"kind": "steerlm", "attributes": [FAITHFUL, LIKED], **fields}, answers, given)


def checked(name: str, rejected: float | None, score: float | None = 0.0):
    row = annotation(name, "claims", score, None if score is not None else "it names nothing")
    return row if rejected is None else replace(row, aspects={"claims": 3.0, "rejected": rejected})


def liked(**scores: float) -> list:
    return [annotation(name, "taste", score) for name, score in scores.items()]


def test_every_answer_is_learned_after_what_was_measured_of_it(tmp_path):
    given = [checked("a", 0.0), checked("b", 2.0), checked("c", 7.0), *liked(a=0.5, b=2.0, c=9.0)]
    rows, dropped = steer(tmp_path, given, request="Say it like this:")
    asked = "What does the picture show?\nSay it like this:\n"
    assert {name: row.instruction for name, row in rows.items()} == {
        "a": asked + "Faithfulness:4,Helpfulness:0",
        "b": asked + "Faithfulness:2,Helpfulness:2",
        "c": asked + "Faithfulness:0,Helpfulness:4",
    }
    assert {name: (row.chosen, row.chosen_score) for name, row in rows.items()} == {
        "a": ("a red cup", 4.0),
        "b": ("a red cup and a cat", 4.0),
        "c": ("a tree", 4.0),
    }
    assert dropped == {} and len({row.id for row in rows.values()}) == 3


def test_other_attributes_make_other_rows_of_the_same_answer(tmp_path):
    given = [checked("a", 0.0), *liked(a=0.5)]
    ids = {steer(tmp_path, given, {"a": "a red cup"}, attributes=some)[0]["a"].id for some in ([FAITHFUL, LIKED], [FAITHFUL])}
    assert len(ids) == 2


def test_what_is_asked_reads_as_what_was_measured(tmp_path):
    """Training's words and the evaluation's come from one place: those of an answer at these levels are those that ask for it."""
    policy = PAIRS.read({"kind": "steerlm", "attributes": [FAITHFUL, LIKED]})
    rows, _ = steer(tmp_path, [checked("a", 0.0), checked("b", 2.0), *liked(a=4.0, b=4.5)], {"a": "a cup", "b": "a cat"})
    assert rows["a"].instruction == "What does the picture show?" + policy.asking({})
    assert rows["b"].instruction == "What does the picture show?" + policy.asking({"Faithfulness": 2})


def test_answers_that_could_not_be_measured_take_no_part(tmp_path):
    given = [checked("a", 0.0), checked("b", None), checked("c", None, score=None), *liked(a=1.0, b=1.0, c=1.0)]
    rows, dropped = steer(tmp_path, given)
    assert rows.keys() == {"a"} and dropped == {"b": "answer has no score", "c": "answer has no score"}


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ([{**FAITHFUL, "cuts": [1, 2, 2, 3]}], "the cuts neither rise nor fall"),
        ([{**FAITHFUL, "cuts": [1, 2, 3]}], "at least 4 items"),
        ([{**FAITHFUL, "name": "a:4,b"}], "should match pattern"),
        ([FAITHFUL, FAITHFUL], "two attributes are named 'Faithfulness'"),
        ([], "at least 1 item"),
    ],
)
def test_attributes_that_cannot_be_are_refused(attributes, said):
    with pytest.raises(ValidationError) as caught:
        PAIRS.read({"kind": "steerlm", "attributes": attributes})
    assert said in str(recipe_error(caught.value))


def test_only_what_was_taught_can_be_asked():
    with pytest.raises(RecipeError, match="did you mean 'Helpfulness'"):
        PAIRS.read({"kind": "steerlm", "attributes": [LIKED]}).asking({"Helpfullness": 4})
    plain = PAIRS.read({"kind": "best_of_n", "weights": {"claims": 1.0}})
    assert plain.asking({}) == ""
    with pytest.raises(RecipeError, match="teach no attributes"):
        plain.asking({"Helpfulness": 4})
