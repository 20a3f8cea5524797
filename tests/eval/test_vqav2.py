"""VQAv2: the toolkit's own numbers, our clean ones, and files that are not the benchmark's."""

import json
from pathlib import Path

import pytest

from sightline.errors import DataError
from sightline.eval.scoring import score
from sightline.eval.vqav2 import VqaV2

from .conftest import measured, scored

GOLDEN = json.loads((Path(__file__).parent / "golden" / "vqav2.json").read_text(encoding="utf-8"))
ROWS = GOLDEN["rows"]
TEXTS = [row["reply"] for row in ROWS]


def write(folder: Path, rows: list[dict]) -> Path:
    asked = [{"question_id": row["question_id"], "image_id": row["image_id"], "question": "What is it?"} for row in rows]
    annotated = [
        {
            **{name: row[name] for name in ("question_id", "image_id", "question_type", "answer_type")},
            "answers": [{"answer": answer, "answer_id": number} for number, answer in enumerate(row["answers"], 1)],
        }
        for row in rows
    ]
    questions = {"data_subtype": "val2014", "questions": asked}
    (folder / "v2_OpenEnded_mscoco_val2014_questions.json").write_text(json.dumps(questions))
    (folder / "v2_mscoco_val2014_annotations.json").write_text(json.dumps({"annotations": annotated[::-1]}))
    return folder


def vqav2(folder: Path, **settings) -> VqaV2:
    return VqaV2(kind="vqav2", data=str(folder), **settings)


@pytest.mark.parametrize("place", range(len(ROWS)))
def test_each_answer_is_worth_what_the_toolkit_says(tmp_path, place):
    (found,) = scored(vqav2(tmp_path), write(tmp_path, [ROWS[place]]), [TEXTS[place]])
    assert found.counts["all worth"] == pytest.approx(ROWS[place]["accuracy"], abs=1e-9)


def test_numbers_equal_the_toolkits_after_its_rounding(tmp_path):
    numbers = measured(vqav2(tmp_path), write(tmp_path, ROWS), TEXTS)
    assert round(numbers["accuracy"].value, 2) == GOLDEN["numbers"]["overall"]
    assert {kind: round(numbers[f"accuracy ({kind})"].value, 2) for kind in ("yes/no", "number", "other")} == (
        GOLDEN["numbers"]["perAnswerType"]
    )


def test_where_ten_people_agree_the_published_rule_does_not_see_that_yes_is_yes(tmp_path):
    row = {**ROWS[0], "answers": ["yes"] * 10}
    place = write(tmp_path, [row])
    for text, published, guessed in (("Yes", 0, True), ("yes\n", 1, False), ("no", 0, False)):
        (found,) = scored(vqav2(tmp_path), place, [text])
        assert (found.counts["all worth"], found.guessed) == (published, guessed)
    (clean,) = scored(vqav2(tmp_path, rule="clean"), place, ["Yes."])
    assert (clean.counts["all worth"], clean.guessed) == (1, False)


def test_clean_and_published_differ_where_and_only_where_the_published_rule_guessed(tmp_path):
    place = write(tmp_path, ROWS)
    published, clean = scored(vqav2(tmp_path), place, TEXTS), scored(vqav2(tmp_path, rule="clean"), place, TEXTS)
    differing = [ours.counts != theirs.counts for ours, theirs in zip(clean, published, strict=True)]
    assert differing == [theirs.guessed for theirs in published]
    assert sum(differing) == 3


def test_questions_name_the_picture_as_coco_does_and_carry_the_suffix(tmp_path):
    question = vqav2(tmp_path, suffix="\nShort.").questions(write(tmp_path, ROWS))[0]
    assert (question.id, question.group, question.text) == ("1000", "COCO_val2014_000000000010.jpg", "What is it?\nShort.")
    assert question.picture == tmp_path / "pictures" / "COCO_val2014_000000000010.jpg"


def test_a_result_file_in_vqas_form_is_scored_in_any_order(tmp_path):
    place = write(tmp_path, ROWS)
    answers = [{"question_id": row["question_id"], "answer": row["reply"]} for row in ROWS]
    (tmp_path / "results.json").write_text(json.dumps(answers[::-1]))
    told = score(vqav2(place), tmp_path / "results.json").to_json()["benchmarks"][0]
    assert round(told["metrics"][0]["answers"]["value"], 2) == GOLDEN["numbers"]["overall"]
    assert (told["rule"], told["n"], told["guesses"]) == ("published", len(ROWS), {"answers": 3})


def test_a_type_of_answer_that_is_not_asked_has_no_line(tmp_path):
    row = {**ROWS[0], "answer_type": "number"}
    (tmp_path / "results.json").write_text(json.dumps([{"question_id": row["question_id"], "answer": "yes"}]))
    lines = score(vqav2(write(tmp_path, [row])), tmp_path / "results.json").benchmarks[0].lines
    assert [(line.metric, line.split, line.n) for line in lines] == [("accuracy", None, 1), ("accuracy", "number", 1)]


def broken(folder: Path, name: str, change) -> None:
    path = folder / name
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("file", "change", "told"),
    [
        ("questions", lambda content: content.pop("data_subtype"), "no data_subtype"),
        ("questions", lambda content: content.pop("questions"), "no questions"),
        ("questions", lambda content: content["questions"][3].pop("image_id"), "question 4: no image_id"),
        ("questions", lambda content: content["questions"].pop(), "1 of its questions are not in"),
        ("questions", lambda content: content["questions"].append(content["questions"][0]), "or it comes twice"),
        ("annotations", lambda content: content["annotations"].pop(), "has no answers to 1000"),
        ("annotations", lambda content: content["annotations"].append(content["annotations"][5]), "comes a second time"),
        ("annotations", lambda content: content["annotations"][0].pop("answers"), "no answers"),
        ("annotations", lambda content: content["annotations"][0].update(answers=[]), "has no answers"),
        ("annotations", lambda content: content["annotations"][0].update(answer_type="colour"), "answer_type 'colour'"),
        ("annotations", lambda content: content["annotations"][0]["answers"][2].update(answer=3), "answer is 3"),
    ],
)
def test_files_that_are_not_the_benchmarks_are_refused_with_the_place(tmp_path, file, change, told):
    place = write(tmp_path, ROWS)
    prefix = "v2_OpenEnded_mscoco" if file == "questions" else "v2_mscoco"
    broken(place, f"{prefix}_val2014_{file}.json", change)
    with pytest.raises(DataError, match=told):
        vqav2(place).questions(place)


def test_files_of_two_splits_none_or_a_single_one_are_refused(tmp_path):
    place = write(tmp_path, ROWS)
    with pytest.raises(DataError, match="VQAv2 is two files"):
        vqav2(place).questions(place / "v2_mscoco_val2014_annotations.json")
    (place / "v2_mscoco_train2014_annotations.json").write_text("{}")
    with pytest.raises(DataError, match="2 files"):
        vqav2(place).questions(place)
    (place / "v2_mscoco_train2014_annotations.json").unlink()
    (place / "v2_mscoco_val2014_annotations.json").write_text("")
    with pytest.raises(DataError, match="no JSON"):
        vqav2(place).questions(place)
