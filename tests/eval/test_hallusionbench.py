"""HallusionBench: the numbers of its evaluation.py from a judge's replies, our reading without a judge, and broken files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import DataError
from sightline.eval.hallusionbench import HallusionBench, published
from sightline.eval.scoring import score
from tests.eval.conftest import measured, scored

GOLDEN = json.loads((Path(__file__).parent / "golden" / "hallusionbench.json").read_text(encoding="utf-8"))
"""45 questions with a judge's replies, and what HallusionBench's evaluation.py made of them (repository and commit are there)."""
ROWS = GOLDEN["rows"]
NAMES = {"aAcc": "aAcc", "fAcc": "fAcc", "qAcc": "qAcc", "easy": "easy aAcc", "hard": "hard aAcc"}
JUDGED = ("reply", "check", "model_prediction")


def name(row: dict[str, Any]) -> str:
    return "_".join(row[key] for key in ("category", "subcategory", "set_id", "figure_id", "question_id"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    questions = [{key: value for key, value in row.items() if key not in JUDGED} for row in ROWS]
    (tmp_path / "HallusionBench.json").write_text(json.dumps(questions))
    return tmp_path


def benchmark(data: Path, rule: str = "published") -> HallusionBench:
    return HallusionBench.model_validate({"kind": "hallusionbench", "data": str(data), "rule": rule})


def values(data: Path, answers: Path, rule: str = "published") -> dict[str, float | None]:
    (outcome,) = score(benchmark(data, rule), answers, draws=100).benchmarks
    return {
        f"{line.metric} ({line.split})" if line.split else line.metric: line.numbers["answers"].value for line in outcome.lines
    }


def as_original(found: dict[str, float | None]) -> None:
    for theirs, ours in NAMES.items():
        assert found[ours] == pytest.approx(GOLDEN["numbers"]["all"][theirs], abs=5e-5)  # it prints four decimals
        for part in ("VD", "VS"):
            assert found[f"{ours} ({part})"] == pytest.approx(GOLDEN["numbers"][part][theirs], abs=1e-9)
    assert found["yes bias"] == pytest.approx(100 * GOLDEN["numbers"]["all"]["yes bias"], abs=1e-9)
    assert found["false yes"] == pytest.approx(100 * GOLDEN["numbers"]["all"]["false positives"], abs=1e-9)


def test_a_judges_replies_give_the_original_scripts_numbers(data: Path, tmp_path: Path) -> None:
    replies = tmp_path / "replies.jsonl"
    replies.write_text("".join(json.dumps({"id": name(row), "reply": row["reply"]}) + "\n" for row in reversed(ROWS)))
    as_original(values(data, replies))


def test_what_the_original_script_saved_gives_them_too(data: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    saved.mkdir()
    for category in ("VD", "VS"):
        rows = [{**row, "gpt4v_output_gpt_check": row["check"]} for row in ROWS if row["category"] == category]
        (saved / f"hallusion_output_{category.lower()}_model.json").write_text(json.dumps(rows))
    as_original(values(data, saved))


@pytest.mark.parametrize("row", ROWS, ids=name)
def test_each_reply_is_read_as_the_original_does(row: dict[str, Any]) -> None:
    assert published(row["reply"])[0] == {"0": "incorrect", "1": "correct", "2": "unclear"}[row["check"]]


@pytest.mark.parametrize(
    ("reply", "guessed"),
    [("Unclear.", False), ("not correct", False), ("INCORRECT", False), ("I cannot judge that", True), ("", True)],
)
def test_a_judge_that_refuses_is_unclear_and_counted(reply: str, guessed: bool) -> None:
    assert published(reply)[1] is guessed


def test_perfect_answers_are_perfect_by_both_rules_and_have_no_false_yes(data: Path) -> None:
    texts = ["Yes, it is." if row["gt_answer"] == "1" else "No." for row in ROWS]
    for rule, said in (("clean", texts), ("published", ["correct"] * len(ROWS))):
        found = measured(benchmark(data, rule), data, said)
        assert {found[ours].value for ours in NAMES.values()} == {100}
        assert found["yes bias"].value == 0
        assert (found["false yes"].value, found["false yes"].reason) == (None, "no answer is wrong")


def test_not_knowing_is_right_without_a_picture_and_silence_is_not(data: Path) -> None:
    by_name = dict(zip(map(name, ROWS), range(len(ROWS)), strict=True))
    texts = ["Yes" if row["gt_answer"] == "1" else "No" for row in ROWS]
    for question, text in (("VS_map_1_0_0", "That depends"), ("VS_map_1_1_0", "Hard to say"), ("VS_map_1_0_1", " ")):
        texts[by_name[question]] = text
    scores = scored(benchmark(data, "clean"), data, texts)
    right = {question: scores[place].counts["all right"] for question, place in by_name.items()}
    assert right["VS_map_1_0_0"] == 1
    assert right["VS_map_1_1_0"] == right["VS_map_1_0_1"] == 0
    # by hand: of 45 questions two are wrong; their pairs, one figure's questions, and the easy parts of those pairs, go with them
    found = measured(benchmark(data, "clean"), data, texts)
    assert found["aAcc"].value == pytest.approx(100 * 43 / 45)
    assert found["qAcc"].value == pytest.approx(100 * 20 / 22)
    assert found["fAcc"].value == pytest.approx(100 * 13 / 14)
    assert found["hard aAcc"].value == 100


def test_one_question_without_a_figure_has_no_figure_accuracy(data: Path) -> None:
    rows = json.loads((data / "HallusionBench.json").read_text())
    (data / "HallusionBench.json").write_text(json.dumps(rows[:1]))
    found = measured(benchmark(data, "clean"), data, ["Both yes and no"])
    assert (found["aAcc"].value, found["qAcc"].value, found["fAcc"].value) == (100, 100, None)
    (data / "HallusionBench.json").write_text("")
    assert benchmark(data).questions(data) == []


def test_edited_figures_are_drawn_with_their_original(data: Path) -> None:
    questions = benchmark(data).questions(data)
    assert len({question.group for question in questions}) == 8
    by_id = {question.id: question for question in questions}
    assert by_id["VD_illusion_1_0_0"].group == by_id["VD_illusion_1_2_1"].group
    assert by_id["VS_chart_0_0_0"].picture is None
    assert by_id["VS_chart_0_2_0"].picture == data / "pictures" / "VS" / "chart" / "0_2.png"


def test_answers_for_the_other_rule_are_refused(data: Path, tmp_path: Path) -> None:
    own = tmp_path / "HallusionBench_result.json"
    own.write_text(json.dumps([{**row, "model_prediction": "Yes"} for row in ROWS]))
    assert values(data, own, "clean")["aAcc"] is not None
    with pytest.raises(DataError, match="no ..._gpt_check of 0, 1 or 2"):
        values(data, own)
    texts = tmp_path / "texts.json"
    for rule, text in (("published", "Yes, it is"), ("clean", "correct")):
        # one of them could be an answer for either rule
        texts.write_text(json.dumps({name(row): text if number else "Yes, correct" for number, row in enumerate(ROWS)}))
        with pytest.raises(DataError, match=f"rule {rule} can read 1 of these 45 answers, the other rule 45"):
            values(data, texts, rule)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"visual_input": "3"}, "visual_input '3'"),
        ({"category": "VX"}, "category 'VX'"),
        ({"gt_answer": "yes"}, "gt_answer 'yes'"),
        ({"filename": None, "visual_input": "1"}, "filename None"),
        ({"set_id": "0", "subcategory": "table"}, "VS_table_0_0_0 is asked a second time"),
    ],
)
def test_data_of_another_form_are_refused_by_place(data: Path, change: dict[str, Any], problem: str) -> None:
    rows = json.loads((data / "HallusionBench.json").read_text())
    (data / "HallusionBench.json").write_text(json.dumps([{**rows[0], **change}, *rows[1:]]))
    with pytest.raises(DataError, match=problem) as caught:
        benchmark(data).questions(data)
    assert "record" in caught.value.where


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda rows: rows[1:], "1 questions have no answer, the first 'VS_chart_0_0_0'"),
        (lambda rows: [*rows, rows[0]], "VS_chart_0_0_0 is answered a second time"),
        (lambda rows: [{key: value for key, value in rows[0].items() if key != "set_id"}], "no set_id"),
        (lambda rows: [{**rows[0], "set_id": "77"}, *rows[1:]], "no question is called 'VS_chart_77_0_0'"),
        (lambda rows: [{**rows[0], "model_prediction": None}, *rows[1:]], "no model_prediction"),
        (lambda rows: [], "no answers"),
    ],
)
def test_missing_doubled_and_unknown_answers_are_refused(data: Path, tmp_path: Path, change: Any, problem: str) -> None:
    own = tmp_path / "HallusionBench_result.json"
    own.write_text(json.dumps(change(ROWS)))
    with pytest.raises(DataError, match=problem):
        values(data, own, "clean")
