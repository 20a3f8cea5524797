"""MMHal-Bench: the original script's numbers on replies that we wrote, and the clean rule by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import DataError
from sightline.eval.mmhal import TYPES, MMHal
from sightline.eval.scoring import score

from .conftest import measured, scored

GOLDEN = json.loads((Path(__file__).parent / "golden" / "mmhal.json").read_text())


def mmhal(place: Path, **settings: Any) -> MMHal:
    return MMHal(kind="mmhal", data=str(place), **settings)


def row(number: int) -> dict[str, Any]:
    return {
        "question_type": TYPES[number % 8],
        "image_id": f"id{number}",
        "image_src": f"https://somewhere/a/{number}_o.jpg",
        "image_content": ["Cup", "Table"],
        "question": f"What stands there, in picture {number}?",
        "gt_answer": "A cup {of tea}.",
    }


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "response_template.json").write_text(json.dumps([row(number) for number in range(96)]))
    return tmp_path


def test_the_published_rule_gives_the_original_scripts_numbers(place: Path) -> None:
    found = measured(mmhal(place), place, GOLDEN["replies"])
    assert round(found["rating"].value, 2) == GOLDEN["rating"]
    assert round(found["hallucination"].value / 100, 2) == GOLDEN["hallucination"]
    assert found["informativeness"].value == pytest.approx(GOLDEN["informativeness"], abs=1e-9)
    assert [round(found[f"rating ({kind})"].value, 2) for kind in TYPES] == GOLDEN["by_type"]
    assert found["rating"].n == 96


@pytest.mark.parametrize(
    ("reply", "published", "clean"),
    [
        ("Fine. Rating: 6", 6, 6),
        ("**Rating:** 3", None, 3),
        ("**Rating: 3**", 3, 3),
        ("Rating:5", None, 5),
        ("rating : 4", None, 4),
        ("My rating is 3.", None, 3),
        ("Rating: 10", 1, None),
        ("Rating: 2.5", 2, None),
        ("Rating: 6/6", 6, 6),
        ("Rating: 4/10", 4, None),
        ("Rating: 3-4", 3, None),
        ("Grating: 4", 4, None),
        ("Rating: -1", None, None),
        ("Rating: 4.0", 4, 4),
        ("Rating: 5 or Rating: 4", None, None),
        ("Rating: 4. I repeat, rating: 4.", 4, 4),
        ("Rating: 7", None, None),
        ("Score: 4", None, None),
        ("", None, None),
    ],
)
def test_what_each_rule_reads(reply: str, published: int | None, clean: int | None) -> None:
    bench = mmhal(Path())
    assert (bench.published(reply), bench.clean(reply)) == (published, clean)


def test_an_unreadable_reply_is_0_by_the_published_rule_and_left_out_by_the_clean_one(place: Path) -> None:
    replies = ["Rating: 4"] * 94 + ["Rating:5", "what?"]
    published, clean = scored(mmhal(place), place, replies), scored(mmhal(place, rule="clean"), place, replies)
    assert [score.counts["rating"] for score in published[-2:]] == [0, 0]
    assert [score.guessed for score in published] == [False] * 94 + [True, True]
    assert (clean[-2].counts["rating"], clean[-1].counts) == (5, {"unreadable": True})
    found = measured(mmhal(place, rule="clean"), place, replies)
    assert (found["rating"].value, found["rating"].n) == (pytest.approx((94 * 4 + 5) / 95), 95)
    assert sum(score.counts["unreadable"] for score in published) == 2


def test_a_rate_of_a_quarter_has_wilsons_interval(place: Path) -> None:
    found = measured(mmhal(place), place, ["Rating: 1"] * 24 + ["Rating: 5"] * 72)["hallucination"]
    assert (found.interval, found.value) == ("wilson", 25)
    assert (round(found.low), round(found.high)) == (17, 35)


def test_the_clean_rule_takes_the_type_that_the_file_states(place: Path) -> None:
    rows = [row(number) for number in range(8)]
    (place / "response_template.json").write_text(json.dumps(rows[::-1]))
    replies = [f"Rating: {number % 7}" for number in range(8)]
    clean = measured(mmhal(place, rule="clean"), place, replies)
    assert clean["rating (other)"].value == 0 and clean["rating (adversarial)"].value == 6
    assert measured(mmhal(place), place, replies)["rating (other)"].value == 0 % 7  # the eighth of the list


def test_the_judge_is_told_what_the_picture_shows_and_nothing_is_left_blank(place: Path) -> None:
    bench = mmhal(place)
    items = [question.item([]) for question in bench.questions(place)]
    asked = bench.prompts(items, ["{odd} answer"] * 96)
    assert len(set(asked)) == 96
    ending = (
        "The picture shows: Cup, Table\n\nQuestion: What stands there, in picture 5?\n\nA person's answer: A cup {of tea}.\n\n"
    )
    assert asked[5].endswith(ending + "The model's answer: {odd} answer\n")


def test_replies_come_as_records_or_as_the_scripts_completions(place: Path) -> None:
    replies = [f"Rating: {number % 7}" for number in range(96)]
    forms = {
        "merged.json": [{**row(number), "gpt4_review": reply} for number, reply in enumerate(replies)][::-1],
        "evaluation.json": [{"choices": [{"message": {"content": reply}}]} for reply in replies],
    }
    bench = mmhal(place)
    for name, content in forms.items():
        (place / name).write_text(json.dumps(content))
        assert bench.read_answers(place / name, bench.questions(place)) == replies
    assert score(bench, place / "merged.json", draws=200).benchmarks[0].n == 96


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([{"choices": [{"message": {"content": "Rating: 1"}}]}] * 95, "95 replies to 96 questions"),
        ([{"choices": [{"message": {"content": None}}]}] * 96, "no text in choices"),
        ([{"choices": []}] * 96, "no text in choices"),
        ([{"image_id": "id0", "reply": "Rating: 1"}], "95 questions have no answer, the first 'id1'"),
        ([], "no answers"),
    ],
)
def test_replies_to_other_questions_are_refused(place: Path, content: Any, told: str) -> None:
    (place / "replies.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=told):
        score(mmhal(place), place / "replies.json")


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], "no questions"),
        ([row(0), row(0)], "question id0 stands here 2 times"),
        ([{**row(0), "image_content": "Cup"}], "'image_content' is 'Cup', not a list"),
        ([{"question": "?"}], "'image_id' is missing"),
    ],
)
def test_a_file_of_another_form_is_named(place: Path, rows: list[dict[str, Any]], told: str) -> None:
    (place / "response_template.json").write_text(json.dumps(rows))
    with pytest.raises(DataError, match=told):
        mmhal(place).questions(place)


def test_data_that_is_not_there_is_asked_for_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no response_template.json or"):
        mmhal(tmp_path).questions(tmp_path)
