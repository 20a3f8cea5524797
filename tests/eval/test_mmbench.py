"""MMBench: VLMEvalKit's reading and numbers, passes and pictures of its tables, our clean rule, and tables that are none."""

import base64
import json
from pathlib import Path

import pytest

from sightline.errors import DataError
from sightline.eval.choices import vlmevalkit
from sightline.eval.mmbench import PASS, MMBench
from sightline.eval.scoring import score

from .conftest import measured, scored

GOLDEN = json.loads((Path(__file__).parent / "golden" / "mmbench.json").read_text(encoding="utf-8"))
ROWS = GOLDEN["rows"]
TEXTS = [row["prediction"] for row in ROWS]
COLUMNS = ["index", "question", "hint", "A", "B", "C", "D", "answer", "category", "l2-category", "split", "image"]
SHORT = {"CP": "coarse_perception", "LR": "logic_reasoning", "RR": "relation_reasoning"}  # as VLMEvalKit abbreviates


def shown(number: int) -> str:
    """A picture's bytes, as a table has them."""
    return base64.b64encode(bytes([number]) * 60).decode()


def table(rows: list[dict]) -> list[dict]:
    """The rows with pictures: a question's own in its first row, whose index its other rows name."""
    return [{**row, "image": shown(row["index"]) if row["index"] < PASS else str(row["index"] % PASS)} for row in rows]


def write(folder: Path, rows: list[dict], columns: list[str] = COLUMNS) -> Path:
    lines = ["\t".join(columns), *("\t".join(str(row.get(column, "")) for column in columns) for row in rows)]
    (folder / "MMBench_DEV_EN.tsv").write_text("\n".join(lines) + "\n")
    return folder / "MMBench_DEV_EN.tsv"


def mmbench(place: Path, **settings) -> MMBench:
    return MMBench(kind="mmbench", data=str(place), **settings)


@pytest.mark.parametrize("row", ROWS, ids=[str(row["index"]) for row in ROWS])
def test_each_reply_is_read_as_vlmevalkit_reads_it(row):
    assert vlmevalkit(row["prediction"], {letter: row[letter] for letter in "ABCD" if row[letter]})[0] == row["read"]


def test_questions_are_hits_where_vlmevalkit_says_so(tmp_path):
    place = write(tmp_path, table(ROWS))
    found = scored(mmbench(place), place, TEXTS)
    assert [one.counts.get("all hits") for one in found] == [row.get("hit") for row in ROWS]
    assert sum(one.counts.get("all asked", 0) for one in found) == len({row["index"] % PASS for row in ROWS})


@pytest.mark.parametrize("split", ["", "dev", "test"])
def test_numbers_equal_vlmevalkits(tmp_path, split):
    place = write(tmp_path, table(ROWS))
    expected = GOLDEN["numbers"]["splits"][split] if split else GOLDEN["numbers"]["all"]
    texts = [row["prediction"] for row in ROWS if split in ("", row["split"])]
    numbers = measured(mmbench(place, split=split), place, texts)
    for theirs, value in expected.items():
        ours = numbers["accuracy" if theirs == "Overall" else f"accuracy ({SHORT.get(theirs, theirs)})"]
        assert ours.value == (None if value is None else pytest.approx(100 * value, abs=1e-9)), theirs


def test_single_passes_unread_replies_and_what_a_judge_could_change_are_counted(tmp_path):
    numbers = measured(mmbench(write(tmp_path, table(ROWS))), tmp_path, TEXTS)
    right, unread = sum(row["read"] == row["answer"] for row in ROWS), sum(row["read"] is None for row in ROWS)
    assert numbers["accuracy of single passes"].value == pytest.approx(100 * right / len(ROWS))
    assert numbers["no choice found"].value == pytest.approx(100 * unread / len(ROWS))
    bases = {row["index"] % PASS for row in ROWS}
    passes = {base: [row for row in ROWS if row["index"] % PASS == base] for base in bases}
    is_open = [
        any(row["read"] is None for row in rows) and all(row["read"] in (None, row["answer"]) for row in rows)
        for rows in passes.values()
    ]
    assert numbers["left to a judge"].value == pytest.approx(100 * sum(is_open) / len(bases))
    assert sum(is_open) == 9


def test_the_clean_rule_reads_what_vlmevalkits_does_not(tmp_path):
    rows = [row for row in ROWS if row["index"] % PASS in (2, 11)]
    place, texts = write(tmp_path, table(rows)), [row["prediction"] for row in rows]
    assert measured(mmbench(place), place, texts)["accuracy"].value == 0
    assert measured(mmbench(place, rule="clean"), place, texts)["accuracy"].value == 100


def test_a_table_of_first_rows_only_is_rotated_as_the_published_tables_are(tmp_path):
    whole = mmbench(tmp_path).questions(write(tmp_path, table(ROWS)))
    rotated = mmbench(tmp_path).questions(write(tmp_path, table([row for row in ROWS if row["index"] < PASS])))
    assert sorted(rotated, key=lambda question: int(question.id)) == sorted(whole, key=lambda question: int(question.id))


def test_questions_of_one_picture_share_its_name_and_bytes(tmp_path):
    rows = table([row for row in ROWS if row["index"] % PASS in (1, 2)])
    for row in rows:
        row["image"] = shown(7)  # as the legacy tables repeat it
    questions = mmbench(tmp_path, suffix="\nLetter.").questions(write(tmp_path, rows))
    assert {question.group for question in questions} == {"1"}
    assert {question.picture for question in questions} == {bytes([7]) * 60}
    assert questions[0].text == "Invented question 1?\nA. a cat\nB. a dog\nC. an owl\nD. a fox\nLetter."


def test_quoted_cells_with_line_breaks_and_large_pictures_are_read(tmp_path):
    row = {**ROWS[0], "question": '"Which ""one"",\nof these?"', "image": base64.b64encode(bytes(3_000_000)).decode()}
    questions = mmbench(tmp_path).questions(write(tmp_path, [row]))
    assert questions[0].text.startswith('Which "one",\nof these?\nA. a cat')
    assert len(questions[0].picture) == 3_000_000 and len(questions) == 4


@pytest.mark.parametrize("suffix", [".tsv", ".jsonl"])
def test_a_table_of_predictions_and_llavas_lines_are_scored(tmp_path, suffix):
    place, answers = write(tmp_path, table(ROWS)), tmp_path / f"answers{suffix}"
    if suffix == ".tsv":
        lines = [
            "index\tanswer\tprediction",
            *(f"{row['index']}\t{row['answer']}\t{row['prediction']}" for row in reversed(ROWS)),
        ]
    else:
        lines = [json.dumps({"question_id": row["index"], "text": row["prediction"]}) for row in ROWS]
    answers.write_text("\n".join(lines))
    told = score(mmbench(place), answers).to_json()["benchmarks"][0]
    assert told["metrics"][0]["answers"]["value"] == pytest.approx(100 * GOLDEN["numbers"]["all"]["Overall"], abs=1e-3)
    assert told["metrics"][0]["n"] == 18 and told["n"] == len(ROWS)


def test_a_spreadsheet_is_told_how_to_become_a_table(tmp_path):
    with pytest.raises(DataError, match="a spreadsheet is not read"):
        score(mmbench(write(tmp_path, table(ROWS))), tmp_path / "predictions.xlsx")


def without(*names: str) -> list[str]:
    return [column for column in COLUMNS if column not in names]


@pytest.mark.parametrize(
    ("rows", "columns", "told"),
    [
        (ROWS, without("index"), "index '' is no number"),
        (ROWS, without("answer"), "answer '' is none of its choices"),
        (ROWS, without("image"), "no picture in column image"),
        ([*ROWS, ROWS[0]], COLUMNS, "index 1 comes a second time"),
        (ROWS[1:], COLUMNS, "no picture in column image"),
        ([{**ROWS[0], "answer": "a"}], COLUMNS, "answer 'a' is none of its choices \\(A, B, C, D\\)"),
        ([{**ROWS[0], "category": "art"}], COLUMNS, "category 'art' is not among abilities"),
    ],
)
def test_a_table_that_is_not_mmbenchs_is_refused_with_the_place(tmp_path, rows, columns, told):
    place = write(tmp_path, table(rows), columns)
    with pytest.raises(DataError, match=told) as error:
        mmbench(place).questions(place)
    assert "MMBench_DEV_EN.tsv, " in error.value.where


def test_a_question_without_its_first_row_is_refused(tmp_path):
    rows = [{**row, "image": shown(1)} for row in ROWS[1:]]
    with pytest.raises(DataError, match="no row has index 1"):
        mmbench(tmp_path).questions(write(tmp_path, rows))


def test_an_empty_or_broken_table_is_refused(tmp_path):
    path = tmp_path / "MMBench_DEV_EN.tsv"
    for text, told in (
        ("", "asks nothing"),
        ("index\tA\n1\tx\ty\n", "tab-separated"),
        ("index\timage\n1\tno picture\n", "no picture"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=told):
            score(mmbench(path), path)
    write(tmp_path, [{**ROWS[0], "image": "!" * 80}])
    with pytest.raises(DataError, match="no base64"):
        mmbench(path).questions(path)


def test_other_tables_abilities_are_measured_where_they_are_named(tmp_path):
    rows = [{**row, "category": "calligraphy"} for row in ROWS[:4]]
    place = write(tmp_path, table(rows))
    numbers = measured(mmbench(place, abilities=["calligraphy", "coarse_perception"]), place, [row["answer"] for row in rows])
    assert (numbers["accuracy (calligraphy)"].value, numbers["accuracy (calligraphy)"].n) == (100, 1)


@pytest.mark.parametrize("rule", ["published", "clean"])
def test_right_letters_are_all_hits_and_the_order_of_the_rows_does_not_matter(tmp_path, rule):
    # but for question 9, one of whose choices reads nan: VLMEvalKit takes that cell for an empty one
    rows = [row for row in ROWS if row["index"] % PASS != 9]
    numbers = []
    for ordered in (rows, rows[::-1], rows[7:] + rows[:7]):
        place = write(tmp_path, table(ordered))
        assert measured(mmbench(place, rule=rule), place, [row["answer"] for row in ordered])["accuracy"].value == 100
        numbers.append(measured(mmbench(place, rule=rule), place, [row["prediction"] for row in ordered]))
    values = [{name: number.value for name, number in found.items()} for found in numbers]
    assert values[0] == values[1] == values[2] and values[0]["accuracy"] > 0
