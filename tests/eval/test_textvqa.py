"""TextVQA: the numbers of the processor that LLaVA runs, our clean ones, and LLaVA's answers."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from sightline.errors import DataError
from sightline.eval.scoring import score
from sightline.eval.textvqa import TextVqa

from .conftest import measured, scored

GOLDEN = json.loads((Path(__file__).parent / "golden" / "textvqa.json").read_text(encoding="utf-8"))
ROWS = GOLDEN["rows"]
TEXTS = [row["reply"] for row in ROWS]
TOKENS = "\nRead there: {tokens}"


def write(folder: Path, rows: list[dict]) -> Path:
    """The rows as TextVQA's file; picture k's questions are "What says it, 0?", "What says it, 1?" and so on."""
    data = [
        {**{name: row[name] for name in ("question_id", "image_id", "answers")}, "question": f"What says it, {number}?"}
        for number, row in enumerate(rows)
    ]
    (folder / "TextVQA_0.5.1_val.json").write_text(json.dumps({"data": data}))
    tokens = [{"image_id": image, "ocr_tokens": ["EXIT", "to"]} for image in {row["image_id"] for row in rows}]
    (folder / "TextVQA_Rosetta_OCR_v0.2_val.json").write_text(json.dumps({"data": tokens}))
    return folder


def textvqa(folder: Path, **settings) -> TextVqa:
    return TextVqa(kind="textvqa", data=str(folder), **settings)


def test_each_answer_and_all_are_worth_what_the_original_says(tmp_path):
    place = write(tmp_path, ROWS)
    worth = [found.counts["worth"] for found in scored(textvqa(place), place, TEXTS)]
    assert worth == pytest.approx([row["accuracy"] for row in ROWS], abs=1e-9)
    assert measured(textvqa(place), place, TEXTS)["accuracy"].value == pytest.approx(
        100 * GOLDEN["numbers"]["accuracy"], abs=1e-9
    )


def test_the_clean_rule_makes_answers_alike_as_vqas_toolkit_does(tmp_path):
    place = write(tmp_path, [{**ROWS[0], "answers": ["red white"] * 10}])
    assert scored(textvqa(place), place, ["red,white"])[0].counts["worth"] == 0  # the processor deletes the comma
    assert scored(textvqa(place, rule="clean"), place, ["red,white"])[0].counts["worth"] == 1


def test_ocr_tokens_are_in_the_prompt_and_in_the_numbers_name_where_they_are_asked_for(tmp_path):
    place = write(tmp_path, ROWS)
    plain, told = textvqa(place, suffix="\nShort."), textvqa(place, suffix="\nShort.", ocr=TOKENS)
    assert plain.questions(place)[0].text == "What says it, 0?\nShort."
    assert told.questions(place)[0].text == "What says it, 0?\nRead there: EXIT, to\nShort."
    names = [metric.name for metric in (*plain.metrics(), *told.metrics())]
    assert names == ["accuracy", "accuracy (OCR tokens in the prompt)"]
    with pytest.raises(ValidationError):
        textvqa(place, ocr="\nRead there:")


def test_a_picture_without_ocr_tokens_is_named(tmp_path):
    place = write(tmp_path, ROWS)
    (place / "TextVQA_Rosetta_OCR_v0.2_val.json").write_text('{"data": []}')
    with pytest.raises(DataError, match=f"no OCR tokens of picture {ROWS[0]['image_id']}"):
        textvqa(place, ocr=TOKENS).questions(place)


def value(place: Path, answers: Path) -> float:
    return score(textvqa(place), answers).to_json()["benchmarks"][0]["metrics"][0]["answers"]["value"]


def llava(rows: list[dict]) -> list[dict]:
    prompts = ["What says it, {}?\nAnswer.", "Reference OCR token: EXIT\nWhat says it, {}?\nAnswer.",
               "OCR tokens: EXIT. Question: What says it, {}? Short answer:"]  # fmt: skip
    return [
        {"question_id": row["image_id"], "prompt": prompts[number % 3].format(number), "text": row["reply"]}
        for number, row in enumerate(rows)
    ]


def test_answers_by_question_id_and_llavas_by_picture_and_prompt_give_the_same(tmp_path):
    place = write(tmp_path, ROWS)
    plain = [{"question_id": row["question_id"], "answer": row["reply"]} for row in ROWS]
    (tmp_path / "submission.json").write_text(json.dumps(plain[::-1]))
    (tmp_path / "llava.jsonl").write_text("\n".join(json.dumps(row) for row in reversed(llava(ROWS))))
    assert value(place, tmp_path / "submission.json") == pytest.approx(86.6071, abs=1e-4)  # 100 * the original's, six digits
    assert value(place, tmp_path / "llava.jsonl") == value(place, tmp_path / "submission.json")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda rows: rows.append(rows[0]), "not answered yet"),
        (lambda rows: rows[1].update(prompt="What else?\nAnswer."), "not answered yet"),
        (lambda rows: rows[1].update(question_id="ffff"), "picture ffff"),
        (lambda rows: rows.pop(), "1 questions have no answer"),
        (lambda rows: rows[1].update(text=None), "text is None"),
    ],
)
def test_llavas_answers_that_are_not_to_all_questions_are_refused(tmp_path, change, told):
    place, rows = write(tmp_path, ROWS), llava(ROWS)
    change(rows)
    (tmp_path / "llava.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    with pytest.raises(DataError, match=told):
        value(place, tmp_path / "llava.jsonl")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda data: data[1].pop("answers"), "question 2: no answers"),
        (lambda data: data[1].update(answers=[]), "has no answers that are text"),
        (lambda data: data[1].update(question_id=data[0]["question_id"]), "comes a second time"),
        (lambda data: data.clear(), "asks nothing"),
    ],
)
def test_a_file_that_is_not_textvqas_is_refused_with_the_place(tmp_path, change, told):
    path = write(tmp_path, ROWS) / "TextVQA_0.5.1_val.json"
    content = json.loads(path.read_text())
    change(content["data"])
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=told):
        score(textvqa(path), path)
