"""POPE: its published reading to the letter, our clean one, and the numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sightline.errors import DataError
from sightline.eval.compare import Comparison, Counts
from sightline.eval.pope import Pope, clean, published
from sightline.miniature import heldout

from .conftest import scored

# measured by running POPE's own evaluate.py on these answers
READ_AS_YES = [
    "",
    "NO",
    "nope",
    "None",
    "Not visible",
    "isn't",
    "No!",
    "No\n",
    ".No",
    "0",
    "A.No",
    "Yes",
    "yes, there is",
    "maybe",
]
READ_AS_NO = [
    "No",
    "no",
    "No.",
    "No, there is not",
    "Yes and no",
    "Yes, but not sure",
    "There is no cup. Yes",
    "I do not see one",
]


@pytest.mark.parametrize("answer", READ_AS_YES)
def test_published_rule_reads_yes_where_the_original_script_does(answer: str) -> None:
    assert published(answer)[0] == "yes"


@pytest.mark.parametrize("answer", READ_AS_NO)
def test_published_rule_reads_no_where_the_original_script_does(answer: str) -> None:
    assert published(answer)[0] == "no"


@pytest.mark.parametrize(
    ("answer", "guessed"),
    [
        ("", True),
        ("NO", True),
        ("maybe", True),
        ("Not visible", True),
        ("Yes!", False),
        ("YES", False),
        ("no", False),
        ("A cup. No", True),
    ],
)
def test_published_rule_says_where_it_guessed(answer: str, guessed: bool) -> None:
    assert published(answer)[1] is guessed


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("NO", "no"), ("nope", "no"), ("Not visible", "no"), ("No!", "no"), ("No\n", "no"),
        ("It isn’t there.", "no"), ("None", "no"),
        ("yes", "yes"), ("YES!", "yes"), ("Yes, but not sure", "yes"), ("The answer is yes.", "yes"),
        ("", None), ("0", None), ("maybe", None), ("There is a cup.", None), ("It may be yes and no", None),
    ],
)  # fmt: skip
def test_clean_rule_reads_any_spelling_and_refuses_to_guess(answer: str, verdict: str | None) -> None:
    assert clean(answer) == (verdict, verdict is None)


def write_split(folder: Path, split: str, rows: list[tuple[str, str, str]]) -> None:
    lines = [json.dumps({"question_id": n, "image": i, "text": t, "label": label}) for n, (i, t, label) in enumerate(rows, 1)]
    (folder / f"coco_pope_{split}.json").write_text("\n".join(lines))


def scores(pope: Pope, place: Path, replies: dict[tuple[str, str], str]) -> Counts:
    return Counts.of(scored(pope, place, [replies[question.group, question.text] for question in pope.questions(place)]))


@pytest.fixture
def three_splits(tmp_path: Path) -> Path:
    """Two pictures. The present thing is asked in every split, the absent one differs."""
    for split, absent in (("random", "boat"), ("popular", "cup"), ("adversarial", "tree")):
        present = [("1.jpg", "Is there a cat?", "yes"), ("2.jpg", "Is there a car?", "yes")]
        write_split(
            tmp_path, split, [*present, ("1.jpg", f"Is there a {absent}?", "no"), ("2.jpg", f"Is there a {absent}?", "no")]
        )
    return tmp_path


def measured(pope: Pope, counts: Counts) -> dict[tuple[str, str | None], float | None]:
    comparison = Comparison({"base": counts}, draws=100, seed=0)
    return {(metric.name, metric.split): comparison.number(metric, "base").value for metric in pope.metrics()}


def test_numbers_equal_hand_arithmetic_and_shared_questions_are_asked_once(three_splits: Path) -> None:
    pope = Pope(kind="pope", data=str(three_splits))
    assert len(pope.questions(three_splits)) == 2 + 6
    replies = {(q.group, q.text): "No." for q in pope.questions(three_splits)}
    replies["1.jpg", "Is there a cat?"] = "Yes."
    replies["1.jpg", "Is there a tree?"] = "Yes."
    numbers = measured(pope, scores(pope, three_splits, replies))
    # random, popular: TP 1, FN 1, TN 2; adversarial: TP 1, FN 1, TN 1, FP 1
    assert numbers["accuracy", "random"] == 75
    assert numbers["precision", "random"] == 100
    assert numbers["recall", "random"] == 50
    assert numbers["F1", "random"] == pytest.approx(100 * 2 / 3)
    assert numbers["yes ratio", "random"] == 25
    assert numbers["accuracy", "adversarial"] == 50
    assert numbers["F1", "adversarial"] == 50
    # all: TP 3, FN 3, TN 5, FP 1
    assert numbers["accuracy", None] == pytest.approx(100 * 8 / 12)
    assert numbers["precision", None] == 75
    assert numbers["F1", None] == 60
    assert numbers["mean F1", "of splits"] == pytest.approx((200 / 3 + 200 / 3 + 50) / 3)


def test_without_any_yes_precision_and_f1_have_no_value_but_a_reason(three_splits: Path) -> None:
    pope = Pope(kind="pope", data=str(three_splits))
    counts = scores(pope, three_splits, {(q.group, q.text): "No." for q in pope.questions(three_splits)})
    comparison = Comparison({"base": counts}, draws=100, seed=0)
    numbers = {metric.name: comparison.number(metric, "base") for metric in pope.metrics() if metric.split is None}
    assert numbers["accuracy"].value == 50
    assert numbers["recall"].value == 0
    assert (numbers["precision"].value, numbers["precision"].reason) == (None, "no answer was read as yes")
    assert numbers["F1"].value is None


def test_all_yes_wrong_gives_f1_zero_where_the_original_divides_by_zero(three_splits: Path) -> None:
    pope = Pope(kind="pope", data=str(three_splits))
    replies = {
        (q.group, q.text): "No" if q.text in ("Is there a cat?", "Is there a car?") else "Yes"
        for q in pope.questions(three_splits)
    }
    assert measured(pope, scores(pope, three_splits, replies))["F1", None] == 0


def test_clean_rule_counts_an_unreadable_answer_as_wrong_but_not_as_a_yes(three_splits: Path) -> None:
    replies = {(q.group, q.text): "Hm." for q in Pope(kind="pope", data=str(three_splits)).questions(three_splits)}
    replies["1.jpg", "Is there a cat?"] = "Yes."
    published_rule = Pope(kind="pope", data=str(three_splits))
    clean_rule = Pope(kind="pope", data=str(three_splits), rule="clean")
    assert measured(published_rule, scores(published_rule, three_splits, replies))["yes ratio", "random"] == 100
    numbers = measured(clean_rule, scores(clean_rule, three_splits, replies))
    assert (numbers["yes ratio", "random"], numbers["accuracy", "random"]) == (25, 25)


def test_suffix_follows_every_question(three_splits: Path) -> None:
    pope = Pope(kind="pope", data=str(three_splits), suffix="\nAnswer in one word.")
    assert all(question.text.endswith("?\nAnswer in one word.") for question in pope.questions(three_splits))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "no JSON"),
        ("[]", "no image"),
        ('{"image": "1.jpg", "text": "?"}', "no label"),
        ('{"image": "1.jpg", "text": "?", "label": "Yes"}', "label 'Yes'"),
    ],
)
def test_a_line_that_is_no_question_is_named_by_its_number(three_splits: Path, line: str, problem: str) -> None:
    path = three_splits / "coco_pope_random.json"
    path.write_text(path.read_text() + "\n" + line)
    with pytest.raises(DataError, match=problem) as caught:
        Pope(kind="pope", data=str(three_splits)).questions(three_splits)
    assert caught.value.where == f"{path}:5"


def test_a_missing_split_is_named(three_splits: Path) -> None:
    (three_splits / "coco_pope_popular.json").unlink()
    with pytest.raises(DataError, match="pope_popular"):
        Pope(kind="pope", data=str(three_splits)).questions(three_splits)


def test_files_of_other_names_can_be_given_as_splits(three_splits: Path) -> None:
    (three_splits / "coco_pope_random.json").rename(three_splits / "mine.jsonl")
    pope = Pope(kind="pope", data=str(three_splits), files={"mine": "mine.jsonl"})
    assert len(pope.questions(three_splits)) == 4
    assert {metric.split for metric in pope.metrics()} == {None, "of splits", "mine"}


def test_heldout_questions_are_read_whole() -> None:
    questions = Pope(kind="pope", data="miniature/heldout").questions(heldout.FOLDER)
    asked = [use for question in questions for use in question.target]
    assert len(asked) == 3 * 2734
    assert sum(label == "yes" for _, label in asked) == len(asked) / 2
