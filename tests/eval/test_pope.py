"""POPE: its published reading to the letter, our clean one, and the numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import DataError
from sightline.eval.compare import Comparison, Counts
from sightline.eval.pope import Pope, published
from sightline.eval.scoring import score
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
    assert numbers["mean F1 (of splits)", None] == pytest.approx((200 / 3 + 200 / 3 + 50) / 3)


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
    assert {metric.split for metric in pope.metrics()} == {None, "mine"}


def test_heldout_questions_are_read_whole() -> None:
    questions = Pope(kind="pope", data="miniature/heldout").questions(heldout.FOLDER)
    asked = [use for question in questions for use in question.target]
    assert len(asked) == 3 * 2734
    assert sum(label == "yes" for _, label in asked) == len(asked) / 2


GOLDEN = json.loads((Path(__file__).parent / "golden" / "pope.json").read_text(encoding="utf-8"))
"""54 odd answers, and what POPE's evaluate.py made of each split (its repository and commit are in the file)."""
NAMES = {"Accuracy": "accuracy", "Precision": "precision", "Recall": "recall", "F1 score": "F1", "Yes ratio": "yes ratio"}


def write_golden(folder: Path) -> tuple[Path, Path]:
    """The golden splits, and the answers to them in the form that POPE publishes."""
    data, answers = folder / "data", folder / "answers"
    data.mkdir()
    answers.mkdir()
    for split, rows in GOLDEN["files"].items():
        write_split(data, split, [(row["image"], row["text"], row["label"]) for row in rows])
        write_lines(answers / f"my_{split}.json", [{"question": row["text"], "answer": row["answer"]} for row in rows])
    return data, answers


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def values(data: Path, answers: Path) -> dict[str, float | None]:
    (outcome,) = score(Pope(kind="pope", data=str(data)), answers, draws=100).benchmarks
    return {f"{line.metric} ({line.split})": line.numbers["answers"].value for line in outcome.lines}


def test_every_split_has_the_original_scripts_numbers(tmp_path: Path) -> None:
    found = values(*write_golden(tmp_path))
    for split, numbers in GOLDEN["numbers"].items():
        for theirs, ours in NAMES.items():
            assert found[f"{ours} ({split})"] == pytest.approx(100 * numbers[theirs], abs=1e-9), (split, ours)
    mean = sum(numbers["F1 score"] for numbers in GOLDEN["numbers"].values()) / 3
    assert found["mean F1 (of splits) (None)"] == pytest.approx(100 * mean, abs=1e-9)


def test_one_split_is_scored_from_answers_by_question_id_in_any_order(tmp_path: Path) -> None:
    data, _ = write_golden(tmp_path)
    rows = GOLDEN["files"]["popular"]
    answers = tmp_path / "answers.jsonl"
    write_lines(answers, [{"question_id": number, "text": row["answer"]} for number, row in enumerate(rows, 1)][::-1])
    found = values(data / "coco_pope_popular.json", answers)
    assert found["accuracy (popular)"] == pytest.approx(100 * GOLDEN["numbers"]["popular"]["Accuracy"], abs=1e-9)
    assert not any("random" in name for name in found)


def test_a_file_of_another_name_is_no_split_but_has_numbers(tmp_path: Path) -> None:
    data, answers = write_golden(tmp_path)
    (data / "coco_pope_random.json").rename(data / "gqa.json")
    found = values(data / "gqa.json", answers / "my_random.json")
    assert found["F1 (None)"] == pytest.approx(100 * GOLDEN["numbers"]["random"]["F1 score"], abs=1e-9)
    assert not any("random" in name for name in found)


@pytest.mark.parametrize(
    ("change", "problem", "line"),
    [
        (lambda rows: rows[1::-1] + rows[2:], "an answer to 'Is there a zebra in the image\\?', where the data asks", ":1"),
        (lambda rows: rows[:-1], "17 answers to 18 questions", ""),
        (lambda rows: [*rows, rows[-1]], "19 answers to 18 questions", ""),
        (lambda rows: [{**rows[0], "answer": None}, *rows[1:]], "the answer is None", ":1"),
        (lambda rows: [{"question_id": 1, "text": "Yes"}] * 2, "question 1 is answered a second time", ":2"),
        (
            lambda rows: [{"question_id": n, "text": "Yes"} for n in range(1, 18)],
            "1 questions have no answer, the first '18'",
            "",
        ),
        (lambda rows: [{"question_id": n, "text": "Yes"} for n in range(1, 20)], "no question is called '19'", ":19"),
        (lambda rows: [], "0 answers to 18 questions|no answers", ""),
    ],
)
def test_answers_in_another_order_or_number_are_refused_by_place(tmp_path: Path, change: Any, problem: str, line: str) -> None:
    data, answers = write_golden(tmp_path)
    path = answers / "my_random.json"
    write_lines(path, change([json.loads(text) for text in path.read_text().split("\n") if text]))
    with pytest.raises(DataError, match=problem) as caught:
        values(data / "coco_pope_random.json", path)
    assert caught.value.where == f"{path}{line}"


def test_a_split_of_one_question_has_an_accuracy_and_says_why_it_has_no_f1(tmp_path: Path) -> None:
    write_split(tmp_path, "random", [("a.jpg", "Is there a cat?", "no")])
    write_lines(tmp_path / "answers.jsonl", [{"question": "Is there a cat?", "answer": "No."}])
    (outcome,) = score(Pope(kind="pope", data=str(tmp_path / "coco_pope_random.json")), tmp_path / "answers.jsonl").benchmarks
    numbers = {line.metric: line.numbers["answers"] for line in outcome.lines if line.split == "random"}
    assert numbers["accuracy"].value == 100
    assert (numbers["F1"].value, numbers["F1"].reason) == (
        None,
        "no answer was read as yes, or no question has yes for its answer",
    )


def test_a_question_answered_differently_in_two_splits_is_refused(tmp_path: Path) -> None:
    data, answers = write_golden(tmp_path)
    rows = GOLDEN["files"]["popular"]
    said = [{"question": row["text"], "answer": row["answer"]} for row in rows]
    write_lines(answers / "my_popular.json", [{**said[0], "answer": "Hardly"}, *said[1:]])
    with pytest.raises(DataError, match="another answer to 'a.jpg: Is there a cat"):
        values(data, answers)
    (answers / "my_popular.json").unlink()
    with pytest.raises(DataError, match="0 files"):
        values(data, answers)


def test_questions_of_one_id_cannot_be_told_apart_by_it(tmp_path: Path) -> None:
    data, _ = write_golden(tmp_path)
    path = data / "coco_pope_random.json"
    path.write_text(path.read_text().replace('"question_id": 1,', '"question_id": 2,'))
    write_lines(tmp_path / "answers.jsonl", [{"question_id": 2, "text": "Yes"}])
    with pytest.raises(DataError, match="2 questions of question_id 2"):
        values(path, tmp_path / "answers.jsonl")


@pytest.mark.parametrize(
    ("section", "has_mean"),
    [
        ({"data": "coco"}, True),
        ({"data": "coco/coco_pope_random.json"}, False),
        ({"data": "coco", "files": {"one": "a.json"}}, False),
    ],
)
def test_only_several_splits_have_a_mean(section: dict[str, Any], has_mean: bool) -> None:
    names = {metric.name for metric in Pope.model_validate({"kind": "pope", **section}).metrics()}
    assert ("mean F1 (of splits)" in names) == has_mean
