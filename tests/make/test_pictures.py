"""What is taken in of pictures of the user's own and of a table about them, and what is refused."""

import csv
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from sightline.errors import DataError
from sightline.make.pictures import Pictures
from sightline.rows import Dropped, Sample
from sightline.store.shards import Store
from tests.make.own import TABLE, lay_out, png, questions


def read(place: Path, asked: bool = True, **section: Any) -> tuple[list[Sample], list[tuple[str, str, str]]]:
    """Samples, and drops as key, reason and detail."""
    made = list(Pictures.model_validate({**TABLE, **section}).read(place, Store(place / "store"), asked))
    dropped = [(row.key, row.reason, row.detail) for row in made if isinstance(row, Dropped)]
    return [row for row in made if isinstance(row, Sample)], dropped


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
