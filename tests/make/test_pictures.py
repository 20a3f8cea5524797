"""Runs that start from pictures of the user's own."""

import csv
import io
import json
import re
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import sightline
from sightline.engines import ENGINES, Engines
from sightline.errors import DataError, RecipeError
from sightline.execute import Execution, Executor, Silent, Tally
from sightline.files import pictures as decoding
from sightline.make import Make, check, make
from sightline.make.pictures import Pictures
from sightline.miniature import world
from sightline.recipe import parse
from sightline.rows import Dropped, Instruction, Response, Sample
from sightline.show import show
from sightline.store.shards import Store

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
TABLE: dict[str, Any] = {"folder": "photos", "table": "questions.jsonl"}


def png(seed: int) -> bytes:
    """A scene of the miniature world."""
    stream = io.BytesIO()
    rng = np.random.default_rng(seed)
    world.draw(world.sample(rng), rng).save(stream, format="PNG")
    return stream.getvalue()


def lay_out(folder: Path, records: Sequence[Any] = (), table: str = "questions.jsonl", count: int = 4) -> Path:
    """Pictures 0.png, 1.png and so on in photos, and a table beside it."""
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / "photos" / f"{number}.png").write_bytes(png(number))
    if records:
        (folder / table).write_text("\n".join(json.dumps(record) for record in records))
    return folder


def questions(count: int = 4) -> list[dict[str, Any]]:
    return [{"id": f"q{n}", "image": f"{n}.png", "instruction": f"What is in picture {n}?", "topic": "art"} for n in range(count)]


def read(place: Path, asked: bool = True, **section: Any) -> tuple[list[Sample], list[tuple[str, str, str]]]:
    """Samples, and drops as key, reason and detail."""
    made = list(Pictures.model_validate({**TABLE, **section}).read(place, Store(place / "store"), asked))
    dropped = [(row.key, row.reason, row.detail) for row in made if isinstance(row, Dropped)]
    return [row for row in made if isinstance(row, Sample)], dropped


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


def test_csv_json_and_lines_of_json_give_the_same_rows(tmp_path):
    expected, _ = read(lay_out(tmp_path, questions()))
    (tmp_path / "questions.json").write_text(json.dumps(questions()))
    with (tmp_path / "questions.csv").open("w", newline="", encoding="utf-8-sig") as stream:
        writer = csv.DictWriter(stream, list(questions()[0]))
        writer.writeheader()
        writer.writerows(questions())
    assert [row.files for row in expected] == [["0.png"], ["1.png"], ["2.png"], ["3.png"]]
    assert read(tmp_path, table="questions.json")[0] == read(tmp_path, table="questions.csv")[0] == expected


@pytest.mark.parametrize("place", ["saved", "split/train", "rows.parquet"])
def test_a_dataset_that_holds_its_pictures_gives_the_same_rows_but_for_their_names(tmp_path, place):
    expected, _ = read(lay_out(tmp_path, questions()))
    columns = {key: [record[key] for record in questions()] for key in questions()[0]}
    columns["image"] = [str(tmp_path / "photos" / name) for name in columns["image"]]
    data = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    data.save_to_disk(str(tmp_path / "saved"))
    datasets.DatasetDict({"train": data}).save_to_disk(str(tmp_path / "split"))
    data.to_parquet(str(tmp_path / "rows.parquet"))
    found, dropped = read(tmp_path, folder=None, table=place)
    assert not dropped
    assert [(row.id, row.key, row.pictures, row.instruction, row.topic) for row in found] == [
        (row.id, row.key, row.pictures, row.instruction, row.topic) for row in expected
    ]


def test_several_pictures_and_other_names_of_columns(tmp_path):
    record = {"photos": ["0.png", "1.png"], "question": "<image>\n<image>\nWhat differs?"}
    (found,), _ = read(lay_out(tmp_path, [record]), columns={"picture": "photos", "instruction": "question"})
    assert found.files == ["0.png", "1.png"] and len(set(found.pictures)) == 2
    assert (found.instruction, found.topic) == ("What differs?", None)


def test_rows_without_an_id_keep_their_key_wherever_they_stand(tmp_path):
    unnamed = [{key: record[key] for key in ("image", "instruction")} for record in questions()]
    first, _ = read(lay_out(tmp_path, unnamed))
    last, _ = read(lay_out(tmp_path, unnamed[::-1]))
    assert first == last[::-1]


def unfit(folder: Path) -> None:
    """Pictures that nobody can use, in photos."""
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(whole, format="JPEG", quality=95)
    (folder / "photos" / "cut.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(folder / "photos" / "moving.gif", save_all=True, append_images=frames[1:])
    Image.new("1", (10_000, 5_001)).save(folder / "photos" / "huge.png")
    (folder / "outside.png").write_bytes(png(9))


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"image": "gone.png"}, "picture is missing"),
        ({"image": "cut.jpg"}, "picture does not decode"),
        ({"image": "moving.gif"}, "picture is animated"),
        ({"image": "huge.png"}, "picture is larger than 50 megapixels"),
        ({"image": "../outside.png"}, "picture's path leaves the images folder"),
        ({"image": "/etc/passwd"}, "picture's path leaves the images folder"),
        ({"image": None}, "row names no picture"),
        ({"image": []}, "row names no picture"),
        ({"image": ["0.png", ""]}, "row names no picture"),
        ({"image": 7}, "image path is not text"),
        ({"instruction": " \n"}, "instruction is empty"),
        ({"instruction": "<image>\n"}, "instruction is empty"),
        ({"instruction": None}, "instruction is not text"),
        ({"instruction": "Is <image> the same?"}, "image token in the instruction"),
        ({"topic": 3}, "topic is not text"),
        ({"mine": 3}, "answer of mine is not text"),
    ],
)
def test_a_row_that_cannot_be_used_is_dropped_with_its_reason(tmp_path, record, reason):
    sound = {**questions()[0], "mine": "A cup."}
    unfit(lay_out(tmp_path, [sound, {**sound, "id": "bad", **record}]))
    found, dropped = read(tmp_path, answers={"mine": "mine"})
    assert [row.key for row in found] == ["q0"]
    assert [(key, said) for key, said, _ in dropped] == [("row 2", reason)]


def test_lines_that_are_no_records_are_dropped(tmp_path):
    lay_out(tmp_path)
    (tmp_path / "q.csv").write_text("image,instruction\n0.png,What?\n1.png,Who, and why?\n")
    found, dropped = read(tmp_path, table="q.csv")
    assert len(found) == 1 and dropped[0][:2] == ("row 2", "row is not a record of named values")
    lay_out(tmp_path, [questions()[0], ["1.png", "Who?"], {"image": "1.png"}])
    _, dropped = read(tmp_path)
    assert [drop[1:] for drop in dropped] == [
        ("row is not a record of named values", "list: ['1.png', 'Who?']"),
        ("no key 'instruction'", "known: image"),
    ]


def test_the_same_question_about_the_same_picture_is_asked_once_whatever_the_file_is_called(tmp_path):
    lay_out(
        tmp_path, [*questions(2), {"image": "copy.png", "instruction": "What is in picture 0?"}, {**questions()[3], "id": "q1"}]
    )
    (tmp_path / "photos" / "copy.png").write_bytes(png(0))
    found, dropped = read(tmp_path)
    assert [row.key for row in found] == ["q0", "q1"]
    assert dropped == [("row 3", "duplicate instruction", "copy.png"), ("row 4", "duplicate id", "q1")]


def test_of_many_questions_about_a_picture_the_first_are_kept(tmp_path):
    many = [{"image": image, "instruction": f"What is at {n}?"} for n in range(3) for image in ("0.png", "1.png", "copy.png")]
    lay_out(tmp_path, [*many, {"image": ["0.png", "2.png"], "instruction": "What differs?"}])
    (tmp_path / "photos" / "copy.png").write_bytes(png(0))
    found, dropped = read(tmp_path, per_picture=2)
    kept = [(row.files, row.instruction) for row in found]
    assert kept == [([image], f"What is at {n}?") for n in range(2) for image in ("0.png", "1.png")]
    assert [reason for _, reason, _ in dropped].count("duplicate picture") == 4
    assert dropped[-1] == ("row 10", "duplicate picture", "0.png, 2.png: 2 rows are about it")


@pytest.mark.parametrize(
    ("content", "section", "said"),
    [
        (b"", {}, r"questions\.jsonl: this file is empty"),
        (b"\n" * 100, {}, r"this (table|file).*(empty|no rows)"),
        (b"[]", {}, "the list in this file is empty"),
        (b'{"image": "0.png", "instruction": "\xff"}', {}, "this is not UTF-8"),
        (b"image,instruction\n0.png,caf\xe9\n", {"table": "q.csv"}, "this is not UTF-8"),
        (b"image,instruction\n", {"table": "q.csv"}, "this table holds no rows"),
        (b'image,instruction\n0.png,"What?\n', {"table": "q.csv"}, r"q\.csv, line 2: this is not CSV"),
        (b"image,image\n0.png,What?\n", {"table": "q.csv"}, "two columns are called 'image'"),
        (b'{"images": "0.png", "instruction": "?"}', {}, r"no column 'image' \(make.pictures.columns.picture\)\n.*'images'"),
        (b'{"image": "0.png", "instructions": "?"}', {}, r"no column 'instruction' .*\n.*did you mean 'instructions'"),
        (b'{"image": "0.png", "instruction": "?"}', {"columns": {"id": "key"}}, r"no column 'key' \(make.pictures.columns.id\)"),
        (b'{"image": "0.png", "instruction": "?", "mime": ""}', {"answers": {"a": "mine"}}, r"answers.a\)\n.*mean 'mime'"),
        (b"{}", {"table": "qestions.jsonl"}, r"no such file\n.*did you mean 'questions.jsonl'"),
        (b"{}", {"folder": "foto"}, r"no such folder of pictures\n.*photos"),
        (b'{"image": "9.png", "instruction": "?"}', {}, r"no row could be taken; 1 of 1: picture is missing\n.*photos"),
    ],
)
def test_a_table_that_is_wrong_is_told_with_what_to_do(tmp_path, content, section, said):
    lay_out(tmp_path)
    (tmp_path / section.get("table", "questions.jsonl").replace("qest", "quest")).write_bytes(content)
    with pytest.raises(DataError, match=said):
        read(tmp_path, **section)


def test_an_empty_folder_is_told(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match="photos: no pictures are in this folder"):
        read(tmp_path, asked=False, table=None)


def test_a_dataset_of_splits_wants_one_of_them(tmp_path):
    data = datasets.Dataset.from_dict({"image": ["a"]})
    datasets.DatasetDict({"train": data, "test": data}).save_to_disk(str(tmp_path / "split"))
    with pytest.raises(DataError, match="has splits: test, train\n.*split/test"):
        read(tmp_path, folder=None, table="split")
    (tmp_path / "split" / "test" / "data-00000-of-00001.arrow").write_bytes(b"cut off")
    with pytest.raises(DataError, match="this saved dataset cannot be read"):
        read(tmp_path, folder=None, table="split/test")


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"pictures": TABLE, "images": {"engine": "policy"}}, "make.images: this recipe starts from pictures of your own"),
        ({"pictures": TABLE, "prompts": {"kind": "file", "path": "p.txt"}}, "make.prompts: this recipe starts from pictures"),
        ({"pictures": {"folder": "photos"}, **ASKED}, "make.responses: this step needs 'instructions'"),
        ({"pictures": TABLE, **ANSWERED}, "make.annotations: this step needs 'responses'"),
        ({"pictures": {"folder": "photos"}, "instructions": {"templates": ["{prompt}?"]}}, "pictures of your own have none"),
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


def test_pictures_of_any_number_need_the_memory_of_a_few(tmp_path):
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for number in range(100):
        Image.fromarray(rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)).save(tmp_path / "photos" / f"{number}.png")
    lay_out(tmp_path, [{"image": f"{n}.png", "instruction": "What?"} for n in range(100)], count=0)
    assert sum(path.stat().st_size for path in (tmp_path / "photos").iterdir()) > 18e6
    tracemalloc.start()
    Store(tmp_path / "store").sort_in(
        "pictures", "pictures", Pictures.model_validate(TABLE).read(tmp_path, Store(tmp_path / "store"), True), 16
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6e6


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
