"""LLaVA-Bench: the original scripts' numbers on reviews that we wrote, and the clean rule by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import DataError
from sightline.eval.llava_bench import LlavaBench
from sightline.eval.scoring import score

from .conftest import measured, scored

GOLDEN = json.loads((Path(__file__).parent / "golden" / "llava_bench.json").read_text())


def llava(place: Path, **settings: Any) -> LlavaBench:
    return LlavaBench(kind="llava_bench", data=str(place), **{"part": "in-the-wild", **settings})


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def questions(folder: Path, categories: list[str], name: str = "questions.jsonl") -> None:
    write(
        folder / name,
        [
            {"question_id": number, "image": f"{number // 3:03d}.jpg", "category": category, "text": f"Question {number}?"}
            for number, category in enumerate(categories)
        ],
    )


@pytest.fixture
def place(tmp_path: Path) -> Path:
    questions(tmp_path, [row["category"] for row in GOLDEN["rows"]])
    return tmp_path


def printed(place: Path, replies: list[str]) -> dict[str, list[float]]:
    """What the script prints: relative score, rating of GPT-4, rating of the model, by category."""
    found = measured(llava(place), place, replies)
    names = ("relative score", "rating of GPT-4", "rating")
    return {
        split: [round(found[name if split == "all" else f"{name} ({split})"].value, 1) for name in names]
        for split in ("all", "complex", "conv", "detail")
    }


def test_the_published_rule_gives_the_original_scripts_numbers(place: Path) -> None:
    replies = [row["content"] for row in GOLDEN["rows"]]
    assert printed(place, replies) == GOLDEN["printed"]
    questions(place, [row["category"] for row in GOLDEN["rows"][: GOLDEN["only"]]])
    assert printed(place, replies[: GOLDEN["only"]]) == GOLDEN["printed_of_only"]


@pytest.mark.parametrize(
    ("reply", "published", "clean"),
    [
        ("8 9\nBoth are good.", (8, 9), (8, 9)),
        ("8,9", (8, 9), (8, 9)),
        ("8, 9", None, (8, 9)),
        (" 8 9", None, (8, 9)),
        ("\n8 9", None, (8, 9)),
        ("8 and 9", None, (8, 9)),
        ("8/10 9/10", None, None),
        ("Assistant 1: 8, Assistant 2: 9", None, None),
        ("11 12", (11, 12), None),
        ("0 5", (0, 5), None),
        ("nan 5", None, None),
        ("1e999 5", None, None),
        ("", None, None),
    ],
)
def test_what_each_rule_reads(reply: str, published: tuple[float, float] | None, clean: tuple[float, float] | None) -> None:
    bench = llava(Path())
    assert (bench.published(reply), bench.clean(reply)) == (published, clean)


def test_an_unreadable_reply_spoils_the_published_mean_and_is_left_out_of_the_clean_one(place: Path) -> None:
    questions(place, ["conv"] * 3)
    replies = ["8 4", "10 8", "no idea"]
    published, clean = (measured(llava(place, rule=rule), place, replies) for rule in ("published", "clean"))
    # means of (8, 10, -1) and (4, 8, -1), rounded to 5.667 and 3.667
    assert published["relative score"].value == pytest.approx(100 * 3.667 / 5.667, abs=1e-9)
    assert (clean["relative score"].value, clean["relative score"].n) == (pytest.approx(100 * 6 / 9), 2)
    assert [score.counts["unreadable"] for score in scored(llava(place), place, replies)] == [0, 0, 1]


def test_only_unreadable_replies_are_a_defined_answer(place: Path) -> None:
    questions(place, ["conv"] * 2)
    published, clean = (measured(llava(place, rule=rule), place, ["x"] * 2) for rule in ("published", "clean"))
    assert published["relative score"].value == 100  # -1 of -1: the published rule
    assert (clean["relative score"].value, clean["relative score"].reason) == (None, "no reply of the judge could be read")


def test_the_judge_reads_captions_and_boxes_or_a_description(tmp_path: Path) -> None:
    questions(tmp_path, ["detail"])
    write(tmp_path / "context.jsonl", [{"id": 0, "image": "000.jpg", "caption": "A harbour {at dusk}."}])
    write(tmp_path / "answers_gpt4.jsonl", [{"question_id": 0, "text": "It is a harbour."}])
    (wild,) = llava(tmp_path).prompts([q.item([]) for q in llava(tmp_path).questions(tmp_path)], ["A lake."])
    assert "[What the picture shows]\nA harbour {at dusk}.\n\n[Question]\nQuestion 0?" in wild
    assert wild.index("It is a harbour.") < wild.index("[Assistant 2]\nA lake.")

    questions(tmp_path, ["detail"], "qa90_questions.jsonl")
    things = [{"category": "boat", "bbox": [0.1, 0.2, 0.3, 0.4]}]
    write(
        tmp_path / "caps_boxes_coco2014_val_80.jsonl",
        [{"image": "000.jpg", "captions": ["One.", "Two."], "instances": things}],
    )
    write(tmp_path / "qa90_gpt4_answer.jsonl", [{"question_id": 0, "text": "It is a harbour."}])
    coco = llava(tmp_path, part="coco")
    (asked,) = coco.prompts([q.item([]) for q in coco.questions(tmp_path)], ["A lake."])
    assert "[What the picture shows]\nOne.\nTwo.\n\nboat: [0.1, 0.2, 0.3, 0.4]\n\n[Question]" in asked


def test_cocos_pictures_are_found_by_either_name(tmp_path: Path) -> None:
    questions(tmp_path, ["conv"] * 6, "qa90_questions.jsonl")
    (tmp_path / "COCO_val2014_001.jpg").touch()
    asked = llava(tmp_path, part="coco", pictures=str(tmp_path)).questions(tmp_path)
    assert [question.picture for question in asked[2:4]] == [tmp_path / "000.jpg", tmp_path / "COCO_val2014_001.jpg"]


def test_what_the_judge_needs_and_the_folder_lacks_is_named(place: Path) -> None:
    items = [question.item([]) for question in llava(place).questions(place)]
    with pytest.raises(DataError, match="needs the context of question 0") as caught:
        llava(place).prompts(items, ["x"] * len(items))
    assert "context.jsonl" in caught.value.fix


def test_replies_come_as_the_scripts_reviews(place: Path) -> None:
    rows = [{"id": n + 1, "question_id": n, "content": row["content"]} for n, row in enumerate(GOLDEN["rows"])]
    write(place / "reviews.jsonl", rows[::-1])
    told = score(llava(place), place / "reviews.jsonl", draws=200).benchmarks[0]
    assert round(told.lines[0].numbers["answers"].value, 1) == GOLDEN["printed"]["all"][0]
    write(place / "reviews.jsonl", rows[1:])
    with pytest.raises(DataError, match="1 questions have no answer, the first '0'"):
        score(llava(place), place / "reviews.jsonl")


def test_another_category_is_named(place: Path) -> None:
    questions(place, ["convo"])
    with pytest.raises(DataError, match="its category is 'convo'"):
        llava(place).questions(place)
