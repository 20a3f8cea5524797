"""MME: its calculation.py's numbers, its odd reading, its pairs, and files that are broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from sightline.errors import DataError
from sightline.eval.compare import Counts
from sightline.eval.mme import COGNITION, PERCEPTION, Mme, published
from sightline.eval.scoring import score
from tests.eval.conftest import measured, scored

GOLDEN = json.loads((Path(__file__).parent / "golden" / "mme.json").read_text(encoding="utf-8"))
"""56 odd answers, and what MME's calculation.py made of them (its repository and commit are in the file)."""
TEXTS = [row["answer"] for rows in GOLDEN["files"].values() for row in rows]


def write(folder: Path, *columns: str) -> Path:
    folder.mkdir(exist_ok=True)
    for subtask, rows in GOLDEN["files"].items():
        lines = ["\t".join(row[column] for column in columns) + "\n" for row in rows]
        (folder / f"{subtask}.txt").write_text("".join(lines), encoding="utf-8", newline="")
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write(tmp_path / "data", "image", "question", "truth")


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    return write(tmp_path / "answers", "image", "question", "truth", "answer")


def mme(data: Path, rule: str = "published") -> Mme:
    return Mme.model_validate({"kind": "mme", "data": str(data), "rule": rule})


def values(data: Path, answers: Path) -> dict[str, float | None]:
    (outcome,) = score(mme(data), answers, draws=100).benchmarks
    return {
        f"{line.metric} ({line.split})" if line.split else line.metric: line.numbers["answers"].value for line in outcome.lines
    }


def test_sums_and_subtasks_have_the_original_scripts_numbers(data: Path, answers: Path) -> None:
    found = values(data, answers)
    for subtask, number in GOLDEN["numbers"]["scores"].items():
        assert found[f"score ({subtask})"] == pytest.approx(number, abs=1e-9)
        parts = found[f"accuracy ({subtask})"], found[f"accuracy+ ({subtask})"]
        assert sum(parts) == pytest.approx(number, abs=1e-9)
    totals = GOLDEN["numbers"]["totals"]
    assert found["perception"] == pytest.approx(totals["Perception"], abs=1e-9)
    assert found["cognition"] == pytest.approx(totals["Cognition"], abs=1e-9)


def test_lines_of_an_answers_file_may_stand_in_another_order(data: Path, answers: Path) -> None:
    before = values(data, answers)
    for path in answers.iterdir():
        lines = path.read_text(encoding="utf-8").split("\n")
        path.write_text("\n".join(reversed(lines)), encoding="utf-8")
    assert values(data, answers) == before


def test_numbers_do_not_depend_on_the_order_of_the_scores(data: Path) -> None:
    benchmark = mme(data)
    scores = scored(benchmark, data, TEXTS)
    forwards, backwards = Counts.of(scores), Counts.of(scores[::-1])
    assert [forwards.total(metric) for metric in benchmark.metrics()] == [
        backwards.total(metric) for metric in benchmark.metrics()
    ]


def test_perfect_answers_score_2000_and_800(data: Path) -> None:
    texts = [row["truth"] for rows in GOLDEN["files"].values() for row in rows]
    for rule in ("published", "clean"):
        found = measured(mme(data, rule), data, texts)
        assert (found["perception"].value, found["cognition"].value) == (2000, 800)


@pytest.mark.parametrize(
    ("text", "verdict", "guessed"),
    [
        ("Yes", "yes", False),
        ("NO.", "no", False),
        ('"yes"', "yes", False),
        ("not so", "no", True),
        ("know", "no", True),
        ("nope", "no", True),
        ("eyes", "yes", True),
        ("y", None, True),
        ("unknown", None, True),
        ("", None, True),
        ("The shoes are red, yes", None, True),
    ],
)
def test_published_rule_looks_at_four_characters(text: str, verdict: str | None, guessed: bool) -> None:
    assert published(text) == (verdict, guessed)


@given(some.text())
def test_published_rule_reads_any_text(text: str) -> None:
    assert published(text)[0] in ("yes", "no", None)


def test_clean_rule_reads_the_whole_first_sentence(data: Path) -> None:
    texts = [f"I would say {row['truth'].lower()}, it is" for rows in GOLDEN["files"].values() for row in rows]
    assert measured(mme(data, "clean"), data, texts)["perception"].value == 2000
    assert measured(mme(data), data, texts)["perception"].value == 0


def test_one_subtask_alone_has_a_score_but_no_sum(data: Path, answers: Path) -> None:
    (outcome,) = score(mme(data / "OCR.txt"), answers / "OCR.txt", draws=100).benchmarks
    numbers = {line.metric: line.numbers["answers"] for line in outcome.lines}
    assert numbers["score"].value == GOLDEN["numbers"]["scores"]["OCR"]
    assert numbers["perception"].value is None
    assert numbers["perception"].reason == "perception is the sum of 10 subtasks, and not all of them are here"
    assert "cognition" not in numbers


def test_pictures_of_one_name_are_one_only_where_subtasks_share_them(data: Path) -> None:
    groups = {question.id.split("/")[0]: question.group for question in mme(data).questions(data)}
    assert groups["existence"] == groups["color"] == "000000000002.jpg"
    assert groups["code_reasoning"] == "code_reasoning/0002.png"
    assert len({groups[subtask] for subtask in (*PERCEPTION, *COGNITION)}) == 11


def test_pictures_are_found_in_either_folder(data: Path) -> None:
    lower = data / "pictures" / "OCR" / "images"
    lower.mkdir(parents=True)
    (lower / "0001.png").touch()
    pictures = {question.id: question.picture for question in mme(data).questions(data)}
    assert pictures["OCR/0001.png: Is it OCR 1 yes? Please answer yes or no."] == lower / "0001.png"
    assert pictures["OCR/0002.png: Is it OCR 2 yes? Please answer yes or no."] == data / "pictures" / "OCR" / "0002.png"


def test_one_pair_has_a_score(tmp_path: Path) -> None:
    path = tmp_path / "count.txt"
    path.write_text("1.jpg\tTwo?\tYes\n1.jpg\tThree?\tNo\n")
    assert measured(mme(path), path, ["yes", "no"])["score (count)"].value == 200
    assert measured(mme(path), path, ["yes", "yes"])["score (count)"].value == 50
    path.write_text("")
    assert mme(path).questions(path) == []


Change = Callable[[list[str]], list[str]]


@pytest.mark.parametrize(
    ("change", "problem", "line"),
    [
        (lambda lines: [lines[0] + "\tmore", *lines[1:]], "5 columns: a tab inside the answer", ":1"),
        (lambda lines: [lines[0] + "\nmore", *lines[1:]], "1 columns: 'more'", ":2"),
        (lambda lines: [lines[0].rsplit("\t", 1)[0], *lines[1:]], "3 columns: no answer", ":1"),
        (lambda lines: lines[1:], "1 questions have no answer, the first 'OCR/0001.png", ""),
        (lambda lines: [*lines, lines[0]], "is answered a second time", ":5"),
        (lambda lines: [lines[0].replace("0001", "0003"), *lines[1:]], "no question is called 'OCR/0003.png", ":1"),
        (lambda lines: [lines[0].replace("\tYes\t", "\tNo\t"), *lines[1:]], "the truth is 'no', and the data's is another", ":1"),
        (lambda lines: [], "no answers", ""),
    ],
)
def test_broken_answers_are_refused_by_line(data: Path, answers: Path, change: Change, problem: str, line: str) -> None:
    path = answers / "OCR.txt"
    path.write_text("\n".join(change(path.read_text().strip("\n").split("\n"))))
    with pytest.raises(DataError, match=problem) as caught:
        values(data / "OCR.txt", path)
    assert caught.value.where == f"{path}{line}"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda lines: lines[1:], "the lines of a pair are about 0001.png and 0002.png"),
        (lambda lines: lines[:3], "3 lines: the last has no second of its pair"),
        (lambda lines: [lines[0].replace("\tYes", "\tMaybe"), *lines[1:]], "the truth is 'Maybe'"),
    ],
)
def test_data_that_are_no_pairs_of_questions_are_refused(data: Path, change: Change, problem: str) -> None:
    path = data / "OCR.txt"
    path.write_text("\n".join(change(path.read_text().strip("\n").split("\n"))))
    with pytest.raises(DataError, match=problem):
        mme(data).questions(data)


def test_a_folder_or_file_that_is_not_mmes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of MME's files"):
        mme(tmp_path).questions(tmp_path)
    (tmp_path / "other.txt").write_text("a\tb\tYes\n")
    with pytest.raises(DataError, match="none of MME's subtasks"):
        mme(tmp_path).questions(tmp_path / "other.txt")


def test_truths_of_mixed_case_are_read_as_the_original_does(data: Path) -> None:
    path = data / "OCR.txt"
    path.write_text(path.read_text().replace("\tYes", "\tYES").replace("\tNo", "\tno"))
    assert {question.target[1] for question in mme(data).questions(path)} == {"yes", "no"}
