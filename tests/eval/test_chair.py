"""CHAIR on written captions: the clean rule counted by hand, the published one by the original script."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import DataError
from sightline.eval.chair import Chair
from sightline.eval.chair_words import ListedWords, singular
from sightline.eval.scoring import score
from sightline.miniature import heldout

from .conftest import GOLDEN_ROWS, measured, scored, write_coco

GOLDEN = json.loads((GOLDEN_ROWS / "chair.json").read_text(encoding="utf-8"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three pictures: a cat and a cup; a car (a boat, too, by its caption); a tree."""
    images = [{"id": number, "file_name": f"{number}.jpg"} for number in (1, 2, 3)]
    kinds = ["cat", "cup", "car", "boat", "tree"]
    seen = [(1, "cat"), (1, "cup"), (2, "car"), (3, "tree"), (3, "tree")]
    instances = {
        "images": images,
        "categories": [{"id": number, "name": kind} for number, kind in enumerate(kinds)],
        "annotations": [{"id": n, "image_id": image, "category_id": kinds.index(kind)} for n, (image, kind) in enumerate(seen)],
    }
    said = {1: "A cat near a cup", 2: "A car passes two ships", 3: "Trees"}
    captions = {"annotations": [{"id": number, "image_id": number, "caption": text} for number, text in said.items()]}
    (tmp_path / "instances_val2014.json").write_text(json.dumps(instances))
    (tmp_path / "captions_val2014.json").write_text(json.dumps(captions))
    (tmp_path / "synonyms.txt").write_text("cat, kitten\ncup, mug\ncar\nboat, ship\ntree\n")
    return tmp_path


def chair(place: Path) -> Chair:
    return Chair(kind="chair", data=str(place), rule="clean")


def test_truth_is_the_union_of_instances_and_captions(data: Path) -> None:
    questions = Chair(kind="chair", data=str(data), rule="clean").questions(data)
    assert [question.target["truth"] for question in questions] == [["cat", "cup"], ["boat", "car"], ["tree"]]


def test_numbers_equal_hand_counts(data: Path) -> None:
    texts = ["Two kittens, a mug, a mug and a boat.", "A car with a car behind a tree, a tree.", "A park."]
    numbers = measured(chair(data), data, texts)
    # mentions 4 + 4 + 0, hallucinated 1 + 2 + 0; found 2 of 2, 1 of 2, 0 of 1
    assert numbers["CHAIR_i"].value == pytest.approx(100 * 3 / 8)
    assert numbers["CHAIR_s"].value == pytest.approx(100 * 2 / 3)
    assert numbers["coverage"].value == pytest.approx(100 * 3 / 5)
    assert numbers["mentions"].value == pytest.approx(8 / 3)
    assert numbers["words"].value == pytest.approx((9 + 10 + 2) / 3)
    assert numbers["length_ratio"].value == pytest.approx(100 * 21 / (5 + 5 + 1))
    assert numbers["CHAIR_s"].interval == "wilson"
    assert numbers["CHAIR_i"].interval == "bootstrap"


def test_hallucinated_words_are_kept_as_written_once_each(data: Path) -> None:
    first, second, _ = scored(chair(data), data, ["Ships, ships and a kitten", "a Tree", ""])
    assert first.hallucinated == ("Ships", "ships")
    assert second.hallucinated == ("Tree",)
    assert first.truth == ("cat", "cup")


def test_a_model_that_says_nothing_has_no_chair_and_no_coverage(data: Path) -> None:
    numbers = measured(chair(data), data, ["", "", ""])
    assert (numbers["CHAIR_i"].value, numbers["CHAIR_s"].value) == (None, None)
    assert numbers["CHAIR_s"].reason == "no answer mentions an object"
    assert numbers["coverage"].value == 0
    assert numbers["words"].value == 0


def test_several_captions_a_picture_are_no_measure_of_length(data: Path) -> None:
    path = data / "captions_val2014.json"
    captions = json.loads(path.read_text())
    captions["annotations"].append({"id": 9, "image_id": 1, "caption": "A kitten"})
    path.write_text(json.dumps(captions))
    numbers = measured(chair(data), data, ["a cat", "a car", "a tree"])
    assert numbers["length_ratio"].n == 0
    assert numbers["coverage"].n == 3


def test_the_files_of_several_years_are_joined(data: Path) -> None:
    more = {"images": [{"id": 4, "file_name": "4.jpg"}], "categories": [{"id": 7, "name": "cup"}]}
    (data / "instances_train2014.json").write_text(
        json.dumps({**more, "annotations": [{"id": 1, "image_id": 4, "category_id": 7}]})
    )
    assert [question.target["truth"] for question in Chair(kind="chair", data=str(data), rule="clean").questions(data)][3] == [
        "cup"
    ]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("instances_val2014.json", "{", "no JSON"),
        ("instances_val2014.json", "[]", "no annotations"),
        ("captions_val2014.json", "{}", "no annotations"),
        ("synonyms.txt", "cat, kitten\n", "lacks the category 'cup'"),
    ],
)
def test_other_files_are_refused_with_what_they_lack(data: Path, name: str, content: str, problem: str) -> None:
    (data / name).write_text(content)
    with pytest.raises(DataError, match=problem):
        Chair(kind="chair", data=str(data), rule="clean").questions(data)


def test_the_true_descriptions_of_the_heldout_scenes_are_without_fault() -> None:
    captions = json.loads((heldout.FOLDER / "captions.json").read_text())["annotations"]
    numbers = measured(chair(heldout.FOLDER), heldout.FOLDER, [entry["caption"] for entry in captions])
    assert (numbers["CHAIR_i"].value, numbers["coverage"].value, numbers["length_ratio"].value) == (0, 100, 100)
    # what 600 clean captions can rule out: Wilson's upper end of 0 of 600
    assert numbers["CHAIR_i"].high == pytest.approx(0.636, abs=0.001)


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    write_coco(tmp_path, GOLDEN["rows"], [line.split(", ")[0] for line in GOLDEN["synonyms"]])
    (tmp_path / "synonyms.txt").write_text("\n".join(GOLDEN["synonyms"]))
    return tmp_path


def test_the_published_rule_gives_the_original_scripts_numbers(golden: Path) -> None:
    texts = [row["caption"] for row in GOLDEN["rows"]]
    numbers = measured(Chair(kind="chair", data=str(golden)), golden, texts)
    assert numbers["CHAIR_i"].value == pytest.approx(100 * GOLDEN["CHAIRi"], rel=1e-12)
    assert numbers["CHAIR_s"].value == pytest.approx(100 * GOLDEN["CHAIRs"], rel=1e-12)
    assert numbers["coverage"].value == pytest.approx(100 * GOLDEN["found"] / GOLDEN["truth"], rel=1e-12)


def test_the_published_rule_finds_the_original_scripts_objects_in_each_caption(golden: Path) -> None:
    words = ListedWords.read(golden / "synonyms.txt", singular)
    found = [[mention.name for mention in words.mentions(row["caption"])] for row in GOLDEN["rows"]]
    assert found == [row["objects"] for row in GOLDEN["rows"]]
    texts = [row["caption"] for row in GOLDEN["rows"]]
    scores = scored(Chair(kind="chair", data=str(golden)), golden, texts)
    assert [score.counts["hallucinated"] for score in scores] == [row["wrong"] for row in GOLDEN["rows"]]
    assert [score.guessed for score in scores] == [not row["objects"] for row in GOLDEN["rows"]]


def test_answers_in_chairs_form_are_scored_for_their_pictures_alone(data: Path) -> None:
    answers = data / "answers.json"
    answers.write_text(json.dumps([{"image_id": 3, "caption": "A tree"}, {"image_id": 1, "caption": "A kitten and a boat"}]))
    chair = Chair(kind="chair", data=str(data), images=str(answers))
    (line, *_) = score(chair, answers).benchmarks[0].lines
    assert (line.metric, line.n, line.numbers["answers"].value) == ("CHAIR_i", 2, pytest.approx(100 / 3))


@pytest.mark.parametrize(
    ("record", "told"), [({"image_id": 8}, "no picture 8"), ({"image_id": "x"}, "a number"), ({}, "a number")]
)
def test_pictures_that_are_not_cocos_are_refused(data: Path, record: dict[str, Any], told: str) -> None:
    (data / "chosen.jsonl").write_text(json.dumps(record))
    with pytest.raises(DataError, match=told):
        Chair(kind="chair", data=str(data), images=str(data / "chosen.jsonl")).questions(data)
