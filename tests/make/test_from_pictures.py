"""Runs that start from pictures of the user's own, on the miniature models."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import sightline
from sightline.engines import ENGINES, Engines
from sightline.errors import DataError, RecipeError
from sightline.execute import Execution, Executor, Silent, Tally
from sightline.files import pictures as decoding
from sightline.make import Make, check, make
from sightline.recipe import parse
from sightline.rows import Instruction, Response
from sightline.show import show
from sightline.store.shards import Store
from tests.make.own import TABLE, lay_out, png, questions

ENGINE_SECTIONS = {
    "policy": {"kind": "transformers", "model": "miniature/policy"},
    "taste": {"kind": "armorm", "model": "miniature/answer-reward"},
}
ANSWERED = {
    "annotations": {"taste": {"kind": "reward", "scorer": "taste"}},
    "pairs": {"kind": "best_worst", "weights": {"taste": 1.0}, "allow_cut": True},
}
SAMPLED = {"engine": "policy", "name": "sampled", "samples": 2, "decoding": {"temperature": 1.0}}
ASKED = {"responses": {"decoding": {"max_tokens": 20}, "pool": [{"engine": "policy"}, SAMPLED]}, **ANSWERED}


def carry_out(folder: Path, section: dict[str, Any]) -> tuple[dict[str, Tally], Executor]:
    engines = {name: ENGINES.read(engine) for name, engine in ENGINE_SECTIONS.items()}
    hands = Executor(Store(folder / "store"), Engines(engines), 0, Execution(shard_size=2, threads=1))
    with hands.working():
        return make(Make.model_validate(section), hands, folder, lambda tally: None), hands


def rows(tallies: dict[str, Tally], hands: Executor, step: str) -> list[Any]:
    return sorted((row for shard in tallies[step].shards for row in hands.store.read(shard)), key=lambda row: row.key)


def files(folder: Path) -> dict[str, bytes]:
    stored = (path for path in (folder / "store").rglob("*") if path.is_file() and path.suffix != ".json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in stored}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a run from a table was carried out."""
    folder = lay_out(tmp_path_factory.mktemp("whole"), questions())
    carry_out(folder, {"pictures": TABLE, **ASKED})
    return folder


def test_a_folder_and_a_table_become_pairs(whole):
    tallies, hands = carry_out(whole, {"pictures": TABLE, **ASKED})
    assert list(tallies) == [
        *("pictures", "instructions", "responses/policy", "responses/sampled"),
        *("judgements/taste", "annotations/taste", "pairs"),
    ]
    assert [tallies[step].rows for step in ("pictures", "instructions", "responses/sampled")] == [4, 4, 8]
    pairs = rows(tallies, hands, "pairs")
    assert pairs
    for pair in pairs:
        number = pair.key.removeprefix("q")
        assert (pair.instruction, pair.topic) == (f"What is in picture {number}?", "art")
        assert [hands.store.picture(name).read_bytes() for name in pair.pictures] == [png(int(number))]


def test_what_is_stored_is_not_made_again_and_no_picture_is_decoded_twice(whole, monkeypatch):
    before = files(whole)
    monkeypatch.setattr(decoding, "sound", lambda content, name: pytest.fail(f"{name} was decoded again"))
    tallies, _ = carry_out(whole, {"pictures": TABLE, **ASKED})
    assert all(tally.reused == len(tally.shards) for name, tally in tallies.items() if name != "pictures")
    assert files(whole) == before


def test_a_start_that_broke_off_goes_on_and_ends_with_the_same_bytes(whole, tmp_path):
    lay_out(tmp_path, questions())
    table = (tmp_path / "questions.jsonl").read_text()
    (tmp_path / "questions.jsonl").write_text(table[: len(table) - 9])
    with pytest.raises(DataError, match=r"questions\.jsonl, line 4"):
        carry_out(tmp_path, {"pictures": TABLE, **ASKED})
    assert len(list(tmp_path.glob("store/pictures/*/*"))) == 3
    (tmp_path / "questions.jsonl").write_text(table)
    carry_out(tmp_path, {"pictures": TABLE, **ASKED})
    assert files(tmp_path) == files(whole)


def test_templates_ask_about_pictures_alone(tmp_path):
    lay_out(tmp_path)
    (tmp_path / "photos" / "deep").mkdir()
    (tmp_path / "photos" / "deep" / "again.png").write_bytes(png(0))
    (tmp_path / "photos" / "notes.txt").write_text("not a picture")
    (tmp_path / "photos" / ".hidden").write_text("nobody's business")
    asking = {"instructions": {"templates": ["Describe the picture.", "What is there?"], "all": True}}
    tallies, hands = carry_out(tmp_path, {"pictures": {"folder": "photos"}, **asking, **ASKED})
    assert tallies["pictures"].dropped == {"duplicate picture": 1, "picture does not decode": 1}
    assert tallies["instructions"].rows == 8 and tallies["pairs"].rows + sum(tallies["pairs"].dropped.values()) >= 8
    asked = rows(tallies, hands, "instructions")
    assert {row.text for row in asked} == {"Describe the picture.", "What is there?"}
    sources = {row.id: row for row in rows(tallies, hands, "pictures")}
    assert sorted(sources[row.image_id].files[0] for row in asked) == sorted(2 * ["0.png", "1.png", "2.png", "3.png"])


def test_answers_of_ones_own_need_no_model_that_sees(tmp_path):
    answered = [
        {**record, "mine": "A red cup in the kitchen.", "theirs": ["A tree.", "A blue bird and a tree in the park."]}
        for record in questions()
    ]
    answered[3]["theirs"] = None
    lay_out(tmp_path, answered)
    source = {**TABLE, "answers": {"mine": "mine", "llava-1.5": "theirs"}}
    tallies, hands = carry_out(tmp_path, {"pictures": source, **ANSWERED})
    assert [tallies[f"responses/{name}"].rows for name in ("mine", "llava-1.5")] == [4, 6]
    assert tallies["responses/llava-1.5"].dropped == {"no answer in the table": 1}
    answers = rows(tallies, hands, "responses/llava-1.5")
    assert isinstance(answers[0], Response) and [(row.key, row.index, row.text) for row in answers[:2]] == [
        ("q0", 0, "A tree."), ("q0", 1, "A blue bird and a tree in the park."),
    ]  # fmt: skip
    assert {row.origin.model for row in answers} == {"llava-1.5"}
    assert tallies["pairs"].rows == 3 and tallies["pairs"].dropped == {"no pair: fewer than two answers left": 1}


def test_own_answers_stand_beside_those_of_a_pool(tmp_path):
    lay_out(tmp_path, [{**record, "answer": "A red cup."} for record in questions()])
    tallies, _ = carry_out(tmp_path, {"pictures": {**TABLE, "answers": {"human": "answer"}}, **ASKED})
    assert tallies["responses/human"].rows == tallies["responses/policy"].rows == 4
    assert tallies["annotations/taste"].rows == 16


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"pictures": TABLE, "images": {"engine": "policy"}}, "make.images: this recipe starts from pictures of your own"),
        ({"pictures": TABLE, "prompts": {"kind": "file", "path": "p.txt"}}, "make.prompts: this recipe starts from pictures"),
        ({"pictures": {"folder": "photos"}, **ASKED}, "make.responses: this step needs 'instructions'"),
        ({"pictures": TABLE, **ANSWERED}, "make.annotations: this step needs 'responses'"),
        ({"pictures": {"folder": "photos"}, "instructions": {"templates": ["{prompt}?"]}}, "pictures of your own have none"),
        (
            {"pictures": TABLE, "instructions": {"kind": "file", "path": "i.txt"}},
            "make.instructions: instructions of kind 'file' go by prompts",
        ),
        ({"pictures": {**TABLE, "answers": {"policy": "a"}}, **ASKED}, "'policy' answers in make.responses, too"),
        (
            {"pictures": {**TABLE, "answers": {"a": "a"}}, "instructions": {"templates": ["What?"]}, **ANSWERED},
            "make.pictures.answers: these answers are to instructions of the table",
        ),
        ({"pictures": {}}, "neither a folder nor a table"),
        ({"pictures": {"folder": "photos", "answers": {"a": "a"}}}, "answers stand in a table"),
        ({"pictures": {**TABLE, "answers": {"a/b": "a"}}}, "make.pictures.answers.*match"),
        ({"pictures": {**TABLE, "column": {}}}, "unknown key 'column'"),
    ],
)
def test_a_section_that_cannot_work_is_refused(section, said):
    with pytest.raises(RecipeError, match=said):
        parse({"name": "own", "engines": ENGINE_SECTIONS, "make": section})


def test_a_template_that_asks_for_a_topic_leaves_out_what_has_none(tmp_path):
    lay_out(tmp_path, [{"image": "0.png", "topic": "art"}, {"image": "1.png"}])
    tallies, hands = carry_out(tmp_path, {"pictures": TABLE, "instructions": {"templates": ["What {topic} is it?"]}})
    assert [row.text for row in rows(tallies, hands, "instructions")] == ["What art is it?"]
    assert tallies["instructions"].dropped == {"picture has no topic": 1}
    assert isinstance(rows(tallies, hands, "instructions")[0], Instruction)


def test_a_check_names_what_would_be_left_out_and_stores_nothing(tmp_path):
    lay_out(tmp_path, [*questions(), {"image": "gone.png", "instruction": "What?"}])
    said, refused = check(Make.model_validate({"pictures": TABLE, **ASKED}), {}, tmp_path, Silent())
    assert said == "pictures questions.jsonl: 4 rows about 4 pictures, 1 left out"
    assert [(row.key, row.reason) for row in refused] == [("row 5", "picture is missing")]
    assert not (tmp_path / "store").exists()


def test_a_recipe_of_ones_own_pictures_is_checked_made_and_leads_back_to_a_file(tmp_path):
    lay_out(tmp_path, [*questions(), {"image": "gone.png", "instruction": "What?"}])
    tree = {"name": "own", "engines": ENGINE_SECTIONS, "make": {"pictures": TABLE, **ASKED}}
    (tmp_path / "own.yaml").write_text(json.dumps(tree))
    assert "  row 5: picture is missing (gone.png)" in list(sightline.check(str(tmp_path / "own.yaml")).lines())
    run = sightline.make(str(tmp_path / "own.yaml"), tmp_path / "runs" / "own")
    again = sightline.make(
        str(run.folder / "recipe.yaml"),
        tmp_path / "runs" / "again",
        [f"make.pictures.folder={tmp_path}/photos", f"make.pictures.table={tmp_path}/questions.jsonl"],
    )
    assert again.shards("pairs") == run.shards("pairs")
    pair = run.rows("pairs")[0]
    console = Console(width=200, record=True, file=io.StringIO())
    for part in show(run.folder, pair.id, 10):
        console.print(part)
    assert re.search(rf"pictures .*(\n.*)*files \['{pair.key.removeprefix('q')}\.png'\]", console.export_text())
    assert run.manifest["steps"]["pictures"]["dropped"] == {"picture is missing": 1}
    assert "picture is missing" in (run.folder / "report.html").read_text()
