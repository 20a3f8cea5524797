"""MT-Bench: the original scripts' numbers on judgements that we wrote, and conversations of two turns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import DataError
from sightline.eval.mt_bench import MTBench
from sightline.eval.scoring import score

from .conftest import measured

GOLDEN = json.loads((Path(__file__).parent / "golden" / "mt_bench.json").read_text())
FIRST = GOLDEN["rows"][0]["question_id"]
NUM_TASKS = len(GOLDEN["rows"]) // 2


def mt_bench(place: Path, **settings: Any) -> MTBench:
    return MTBench(kind="mt_bench", data=str(place), **settings)


def task(number: int, category: str = "writing") -> dict[str, Any]:
    return {"question_id": number, "category": category, "turns": [f"Do {number}.", f"Now do {number} again."]}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write(tmp_path / "question.jsonl", [task(FIRST + number) for number in range(NUM_TASKS)])
    return tmp_path


@pytest.mark.parametrize("order", [1, -1])
def test_the_published_rule_gives_the_original_scripts_numbers(place: Path, order: int) -> None:
    write(place / "judged.jsonl", GOLDEN["rows"][::order])
    told = score(mt_bench(place), place / "judged.jsonl", draws=200).benchmarks[0]
    found = {line.split or line.metric: line.numbers["answers"].value for line in told.lines}
    expected = {name: GOLDEN[name] for name in ("rating", "turn 1", "turn 2")}
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    assert found["writing"] == found["rating"]


@pytest.mark.parametrize(
    ("reply", "published", "clean"),
    [
        ("Good. Rating: [[8]]", 8, 8),
        ("[[8.]]", 8, 8),
        ("[1] says so. Rating: [[6]]", 6, 6),
        ("[[8]] and later [[3]]", 8, None),
        ("Rating: [7]", 7, None),
        ("see [2020]", 2020, None),
        ("[[11]]", 11, None),
        ("[[0]]", 0, None),
        (f"[[{9 * 10**400}]]", None, None),
        ("[[07]]", 7, 7),
        ("[[8/10]]", None, None),
        ("Rating: 7", None, None),
        ("", None, None),
    ],
)
def test_what_each_rule_reads(reply: str, published: float | None, clean: float | None) -> None:
    bench = mt_bench(Path())
    assert (bench.published(reply), bench.clean(reply)) == (published, clean)


def test_both_rules_leave_out_what_they_cannot_read(place: Path) -> None:
    replies = ["[[4]]"] * (NUM_TASKS * 2 - 1) + ["four"]
    for rule in ("published", "clean"):
        found = measured(mt_bench(place, rule=rule), place, replies)
        assert (found["rating"].value, found["rating"].n) == (4, NUM_TASKS * 2 - 1)
        assert found["rating (turn 2)"].n == NUM_TASKS - 1


def test_a_second_turn_comes_after_the_first_of_its_task(place: Path) -> None:
    first, second, *_ = mt_bench(place).questions(place)
    assert (first.id, first.after, second.after) == (f"{FIRST}, turn 1", None, f"{FIRST}, turn 1")
    assert first.group == second.group
    assert first.picture is second.picture is None


def test_the_judge_of_a_second_turn_reads_the_conversation_and_of_a_calculation_the_reference(tmp_path: Path) -> None:
    write(tmp_path / "question.jsonl", [task(1), task(2, "math")])
    reference = {"question_id": 2, "choices": [{"index": 0, "turns": ["two {2}", "four"]}]}
    write(tmp_path / "reference_answer" / "gpt-4.jsonl", [reference])
    bench = mt_bench(tmp_path)
    items = [question.item([]) for question in bench.questions(tmp_path)]
    plain, talk, sum_, sums = bench.prompts(items, ["A", "B", "C", "D"])
    assert plain.endswith("[Question]\nDo 1.\n\n[Answer]\nA\n[End of the answer]\n")
    assert talk.endswith(
        "[Conversation]\nUser: Do 1.\n\nAssistant: A\n\nUser: Now do 1 again.\n\nAssistant: B\n[End of the conversation]\n"
    )
    assert "two {2}" in sum_ and "four" not in sum_ and "reference" not in plain + talk
    assert "Reference answer: two {2}\n\nUser: Now do 2 again.\n\nReference answer: four" in sums and "Assistant: D" in sums
    assert "{" not in plain + talk


def test_a_missing_reference_is_named_where_a_judge_needs_it(tmp_path: Path) -> None:
    write(tmp_path / "question.jsonl", [task(7, "coding")])
    bench = mt_bench(tmp_path)
    items = [question.item([]) for question in bench.questions(tmp_path)]
    with pytest.raises(DataError, match="needs a reference answer to 7, turn 1"):
        bench.prompts(items, ["A", "B"])


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{**task(1), "turns": ["only one"]}], "it has 1 turns"),
        ([task(1, "cooking")], "its category is 'cooking'"),
        ([{"question_id": "1"}], "'question_id' is '1', not a number"),
        ([task(1), task(1)], "question 1, turn 1 stands here 2 times"),
        ([], "no questions"),
    ],
)
def test_a_file_of_another_form_is_named(tmp_path: Path, rows: list[dict[str, Any]], told: str) -> None:
    write(tmp_path / "question.jsonl", rows)
    with pytest.raises(DataError, match=told):
        mt_bench(tmp_path).questions(tmp_path)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (GOLDEN["rows"][1:], "1 questions have no answer"),
        ([*GOLDEN["rows"], GOLDEN["rows"][0]], "is answered a second time"),
        ([{"question_id": FIRST, "judgment": "[[1]]"}], "'turn' is missing"),
        ([{"question_id": FIRST, "turn": 1, "judgment": None}], "'judgment' is None, not text"),
        ([{**GOLDEN["rows"][0], "question_id": 9999}], "no question is called '9999, turn 1'"),
    ],
)
def test_judgements_of_something_else_are_refused(place: Path, rows: list[dict[str, Any]], told: str) -> None:
    write(place / "judged.jsonl", rows)
    with pytest.raises(DataError, match=told):
        score(mt_bench(place), place / "judged.jsonl")
