"""ScienceQA: LLaVA's numbers and those of the paper's script, our clean reading, and files that are not the benchmark's."""

import json
import re
from pathlib import Path

import pytest

from sightline.errors import DataError
from sightline.eval.choices import LETTERS, llava
from sightline.eval.scienceqa import ScienceQa
from sightline.eval.scoring import score

from .conftest import measured

GOLDEN = json.loads((Path(__file__).parent / "golden" / "scienceqa.json").read_text(encoding="utf-8"))
ROWS = GOLDEN["rows"]
TEXTS = [row["reply"] for row in ROWS]
PAPER = {
    "natural": "NAT", "social": "SOC", "language": "LAN", "has_text": "TXT", "has_image": "IMG", "no_context": "NO",
    "grade_1_6": "G1-6", "grade_7_12": "G7-12",
}  # fmt: skip


def write(folder: Path, rows: list[dict]) -> Path:
    problems = {
        row["id"]: {name: value for name, value in row.items() if name not in ("reply", "parsed", "right")} for row in rows
    }
    (folder / "problems.json").write_text(json.dumps(problems))
    (folder / "pid_splits.json").write_text(json.dumps({"test": list(problems), "train": []}))
    return folder


def scienceqa(folder: Path, **settings) -> ScienceQa:
    return ScienceQa(kind="scienceqa", data=str(folder), **settings)


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
def test_each_reply_is_read_as_llava_reads_it(row):
    choices = dict(zip(LETTERS, row["choices"], strict=False))
    # the original parses a letter first, and then finds that the question has no such choice
    parsed = row["parsed"] if row["parsed"] in choices else None
    assert llava(row["reply"], choices)[0] == parsed
    assert (parsed == LETTERS[row["answer"]]) is row["right"]


def test_numbers_equal_both_scripts_after_their_rounding(tmp_path):
    numbers = measured(scienceqa(tmp_path), write(tmp_path, ROWS), TEXTS)
    assert numbers["accuracy"].value == pytest.approx(GOLDEN["numbers"]["accuracy"], abs=1e-9)
    printed = re.search(r"Accuracy: ([\d.]+)%, IMG-Accuracy: ([\d.]+)%", GOLDEN["numbers"]["printed"])
    assert [f"{numbers[name].value:.2f}" for name in ("accuracy", "accuracy (IMG)")] == [printed[1], printed[2]]
    for theirs, ours in PAPER.items():
        assert round(numbers[f"accuracy ({ours})"].value, 2) == GOLDEN["numbers"][theirs]


def test_the_subset_with_pictures_is_a_benchmark_of_its_own(tmp_path):
    place = write(tmp_path, ROWS)
    texts = [row["reply"] for row in ROWS if row["image"]]
    numbers = measured(scienceqa(place, subset="images"), place, texts)
    assert round(numbers["accuracy"].value, 2) == GOLDEN["numbers"]["has_image"]
    assert numbers["accuracy"].n == numbers["accuracy (IMG)"].n == len(texts)
    assert numbers["accuracy (NO)"].value is None and numbers["accuracy (NO)"].n == 0


def test_the_clean_rule_reads_what_llavas_fails_on_and_counts_what_it_cannot(tmp_path):
    row = {**ROWS[0], "choices": ["cat", "dog"], "answer": 1, "image": None}
    place = write(tmp_path, [{**row, "id": str(number)} for number in range(4)])
    texts = ["B.", "(b)", "It is a dog", "A or B"]
    published, clean = (measured(scienceqa(place, rule=rule), place, texts) for rule in ("published", "clean"))
    assert (published["accuracy"].value, published["no choice found"].value) == (0, 100)
    assert (clean["accuracy"].value, clean["no choice found"].value) == (75, 25)


def test_a_question_has_its_context_choices_and_picture(tmp_path):
    first, second = scienceqa(tmp_path, suffix="\nLetter.").questions(write(tmp_path, ROWS))[:2]
    assert first.text == "Some context.\nInvented question 0?\nA. cat 0\nB. dog 0\nLetter."
    assert first.picture == tmp_path / "pictures" / "test" / "500" / "image.png"
    assert (second.id, second.group, second.picture) == ("501", "501", None)


def test_answers_as_llava_writes_them_are_scored(tmp_path):
    place = write(tmp_path, ROWS)
    lines = [json.dumps({"question_id": row["id"], "prompt": "?", "text": row["reply"]}) for row in ROWS]
    (tmp_path / "answers.jsonl").write_text("\n".join(lines))
    told = score(scienceqa(place), tmp_path / "answers.jsonl").to_json()["benchmarks"][0]
    assert told["metrics"][0]["answers"]["value"] == GOLDEN["numbers"]["accuracy"]
    assert told["guesses"]["answers"] > told["n"] / 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda problems: problems.pop("503"), "no 503"),
        (lambda problems: problems["503"].update(answer=5), "answer 5 of 5 choices"),
        (lambda problems: problems["503"].update(choices=["x"] * 6), "of 6 choices"),
        (lambda problems: problems["503"].update(subject="art"), "subject 'art'"),
        (lambda problems: problems["503"].update(grade="first"), "grade 'first'"),
        (lambda problems: problems["503"].pop("question"), "503: no question"),
    ],
)
def test_a_problem_that_is_not_scienceqas_is_named(tmp_path, change, told):
    place = write(tmp_path, ROWS)
    problems = json.loads((place / "problems.json").read_text())
    change(problems)
    (place / "problems.json").write_text(json.dumps(problems))
    with pytest.raises(DataError, match=told):
        scienceqa(place).questions(place)


def test_an_unknown_or_empty_split_is_told(tmp_path):
    place = write(tmp_path, ROWS)
    with pytest.raises(DataError, match="no minival"):
        scienceqa(place, split="minival").questions(place)
    with pytest.raises(DataError, match="asks nothing"):
        score(scienceqa(place, split="train"), place / "problems.json")
