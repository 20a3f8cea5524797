import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from sightline.errors import DataError, RunError, UserError
from sightline.files import records
from sightline.formats import Imported, export_rows, import_rows
from sightline.rows import Pair
from sightline.store.folders import RowFolder
from sightline.store.shards import Store

from .conftest import picture


def row(**changes: Any) -> dict[str, Any]:
    """A sound RLAIF-V row."""
    texts = {"question": "What is there?", "chosen": "A dog.", "rejected": "A cat."}
    return {"idx": 1, "image": {"path": "a.png"}, **texts, **changes}


def talk(**changes: Any) -> dict[str, Any]:
    """A sound LLaVA record."""
    sides = {
        side: [{"from": "human", "value": "<image>\nWhat is there?"}, {"from": "gpt", "value": answer}]
        for side, answer in (("conversations", "A dog."), ("rejected_conversations", "A cat."))
    }
    return {"id": "one", "image": "a.png", **sides, **changes}


def bring(folder: Path, content: Any, format: str = "rlaif_v", name: str = "rows.json") -> Imported:
    """Import rows from a file beside the picture a.png."""
    (folder / "a.png").write_bytes(picture())
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / name).write_bytes(text)
    return import_rows(folder / name, format, None, folder / "out")


def refused(folder: Path, content: Any, format: str = "rlaif_v") -> UserError:
    with pytest.raises(UserError) as caught:
        bring(folder, content, format)
    return caught.value


def pairs(done: Imported) -> list[Pair]:
    return [pair for shard in done.folder.shards for pair in Store(done.folder.root).read(shard)]


def the_drop(done: Imported) -> tuple[str, str, str]:
    (only,) = done.dropped
    return only.key, only.reason, only.detail


def test_a_rlaif_v_row_becomes_a_pair(tmp_path):
    (pair,) = pairs(bring(tmp_path, [row()]))
    assert (pair.key, pair.instruction, pair.chosen, pair.rejected) == ("1", "What is there?", "A dog.", "A cat.")
    assert Store(tmp_path / "out").picture(pair.pictures[0]).read_bytes() == picture()


def test_csv_and_a_saved_dataset_are_read_as_well(tmp_path):
    header, line = "idx,image,question,chosen,rejected", '1,a.png,What is there?,"A dog, asleep.",A cat.'
    by_lines = pairs(bring(tmp_path, f"{header}\n{line}\n".encode(), name="rows.csv"))
    record = {"idx": [1], "image": [str(tmp_path / "a.png")], "question": ["What is there?"]}
    saved = datasets.Dataset.from_dict({**record, "chosen": ["A dog, asleep."], "rejected": ["A cat."]})
    saved.cast_column("image", datasets.Image()).save_to_disk(str(tmp_path / "saved"))
    by_dataset = pairs(import_rows(tmp_path / "saved", "rlaif_v", None, tmp_path / "again"))
    for (pair,) in (by_lines, by_dataset):
        assert (pair.key, pair.instruction, pair.chosen, pair.rejected) == ("1", "What is there?", "A dog, asleep.", "A cat.")
        assert Store(tmp_path / "again").picture(pair.pictures[0]).read_bytes() == picture()


def test_a_llava_record_becomes_a_pair_without_the_image_placeholder(tmp_path):
    (pair,) = pairs(bring(tmp_path, [talk()], "llava"))
    assert (pair.key, pair.instruction, pair.chosen, pair.rejected) == ("one", "What is there?", "A dog.", "A cat.")


@pytest.mark.parametrize("question", ["<image> Why?", "<image>\n<image>\nWhy?", "Why?\n<image>", "Why?"])
def test_the_placeholder_goes_from_either_end(tmp_path, question):
    record = talk()
    for side in ("conversations", "rejected_conversations"):
        record[side][0]["value"] = question
    assert pairs(bring(tmp_path, [record], "llava"))[0].instruction == "Why?"


def test_texts_may_stand_in_the_column_text_alone(tmp_path):
    text = json.dumps({name: row()[name] for name in ("question", "chosen", "rejected")})
    (pair,) = pairs(bring(tmp_path, [{"idx": 7, "image": {"path": "a.png"}, "text": text}]))
    assert (pair.key, pair.chosen) == ("7", "A dog.")


def test_a_row_whose_text_and_columns_disagree_is_dropped(tmp_path):
    text = json.dumps({"question": "What is there?", "chosen": "A cow.", "rejected": "A cat."})
    done = bring(tmp_path, [row(), row(idx=2, text=text)])
    assert the_drop(done) == ("2", "column 'chosen' and column 'text' disagree", "text has 'A cow.'")


def test_json_lines_and_parquet_and_arrays_give_the_same_pairs(tmp_path):
    rows = [row(), row(idx=2, chosen="Zwei Hunde \u2028 im Bild.")]
    folders = [tmp_path / name for name in ("array", "lines", "parquet")]
    for folder in folders:
        folder.mkdir()
    lines = "\n".join(json.dumps(entry, ensure_ascii=False) for entry in rows).encode()
    stream = io.BytesIO()
    embedded = [{**entry, "image": {"bytes": picture(), "path": "a.png"}} for entry in rows]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(embedded), stream)
    contents = [json.dumps(rows).encode(), lines, stream.getvalue()]
    array, jsonl, parquet = (pairs(bring(folder, content)) for folder, content in zip(folders, contents, strict=True))
    assert [pair.id for pair in array] == [pair.id for pair in jsonl] == [pair.id for pair in parquet]
    assert array[1].chosen == "Zwei Hunde \u2028 im Bild."


@pytest.mark.parametrize("piece", [1, 2, 7, 64, 1000])
def test_an_array_read_in_pieces_is_the_array(tmp_path, monkeypatch, piece):
    monkeypatch.setattr(records, "PIECE", piece)
    value = [12345, 1.5e-3, -0.25, 'a " ] [ , \u2028 ü', [], {}, [[1, {"b": [None, True]}]], {"key": "x" * 300}, 678]
    for text in (json.dumps(value), json.dumps(value, indent=3, ensure_ascii=False), f" \n{json.dumps(value)} \n\n"):
        (tmp_path / "rows.json").write_text(text, encoding="utf-8-sig")
        assert list(records.read_records(tmp_path / "rows.json")) == value


@pytest.mark.parametrize("piece", [3, 1000])
@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('[{"a": 1},\n {"b" 2}]', "line 2, column 7"),
        ('[{"a": 1},\n {"b": 2}', "line 2, column 10"),
        ('[{"a": 1}\n {"b": 2}]', "line 2, column 2"),
        ('[{"a": 1}]\n{"b": 2}', "line 2, column 1"),
        ('[{"a": "1]', "line 1, column 8"),
    ],
)
def test_an_array_read_in_pieces_says_where_it_is_wrong(tmp_path, monkeypatch, text, where, piece):
    """Places as in a text editor, counted by hand."""
    monkeypatch.setattr(records, "PIECE", piece)
    (tmp_path / "rows.json").write_text(text)
    with pytest.raises(DataError) as caught:
        list(records.read_records(tmp_path / "rows.json"))
    assert caught.value.where.endswith(where)


@pytest.mark.parametrize("form", ["array", "lines"])
def test_a_large_file_is_not_read_whole(tmp_path, form):
    told = [json.dumps({"idx": at, "text": "word " * 200}) for at in range(12_000)]
    (tmp_path / "rows").write_text(f"[{','.join(told)}]" if form == "array" else "\n".join(told))
    tracemalloc.start()
    assert sum(record["idx"] for record in records.read_records(tmp_path / "rows")) == sum(range(12_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (tmp_path / "rows").stat().st_size / 2


def test_a_record_that_comes_twice_gives_two_pairs_of_different_ids(tmp_path):
    first, second = pairs(bring(tmp_path, [row(), row()]))
    assert first.id != second.id and first.key == second.key


def test_rows_without_an_id_are_named_by_their_place(tmp_path):
    nameless = {name: value for name, value in row().items() if name != "idx"}
    assert [pair.key for pair in pairs(bring(tmp_path, [nameless, nameless]))] == ["row-1", "row-2"]


def test_importing_again_changes_nothing(tmp_path):
    before = bring(tmp_path, [row(), row(idx=2)])
    files = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    after = bring(tmp_path, [row(), row(idx=2)])
    assert pairs(before) == pairs(after)
    assert files == {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("change", "reason", "detail"),
    [
        ({"image": {"path": "b.png"}}, "picture is missing", "b.png"),
        ({"image": {"path": "../secret.png"}}, "picture's path leaves the images folder", "../secret.png"),
        ({"image": {"path": "/etc/hostname"}}, "picture's path leaves the images folder", "/etc/hostname"),
        ({"image": {"path": "x/../../a.png"}}, "picture's path leaves the images folder", "x/../../a.png"),
        ({"image": {"path": "rows.json"}}, "picture does not decode", "rows.json"),
        ({"image": {"path": "cut.jpg"}}, "picture does not decode", "cut.jpg"),
        ({"image": {"path": "moving.gif"}}, "picture is animated", "moving.gif"),
        ({"image": {"path": "huge.png"}}, "picture is larger than 50 megapixels", "huge.png"),
        ({"image": {"path": "folder"}}, "picture is missing", "folder"),
        ({"image": {"path": "n" * 400}}, "picture cannot be read", "nnn"),
        ({"image": {}}, "row names no picture", ""),
        ({"image": 3}, "image path is not text", "int"),
        ({"chosen": None}, "chosen is not text", "null"),
        ({"chosen": ["A dog."]}, "chosen is not text", "list"),
        ({"chosen": "\ud800"}, "chosen is not valid Unicode", ""),
        ({"text": "{"}, "column 'text' is not JSON", ""),
    ],
)
def test_a_row_that_cannot_be_taken_is_dropped_with_its_reason(tmp_path, unfit, change, reason, detail):
    for path in unfit.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path.parent / "secret.png").write_bytes(picture())
    done = bring(tmp_path, [row(), row(idx=2, **change)])
    key, why, what = the_drop(done)
    assert (key, why) == ("2", reason) and detail in what
    assert len(pairs(done)) == 1


def test_a_row_that_is_no_record_is_dropped(tmp_path):
    assert the_drop(bring(tmp_path, [row(), ["A dog."]])) == ("row-2", "row is not a record of named values", "list")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"conversations": [{"from": "human", "value": "a"}]}, "conversations is not one human turn and one gpt turn"),
        ({"conversations": "A dog."}, "conversations is not a list of turns"),
        ({"rejected_conversations": [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "x"}]}, "the two sides ask"),
        ({"conversations": [{"from": "human", "text": "a"}, {"from": "gpt", "value": "x"}]}, "no key 'value'"),
        ({"image": []}, "row names no picture"),
    ],
)
def test_a_conversation_of_another_shape_is_dropped_with_its_reason(tmp_path, change, reason):
    assert the_drop(bring(tmp_path, [talk(), talk(id="two", **change)], "llava"))[1].startswith(reason)


def test_a_picture_that_is_neither_png_nor_jpeg_is_kept_as_png_of_the_same_pixels(tmp_path):
    (tmp_path / "b.webp").write_bytes(picture("WEBP", lossless=True))
    (pair,) = pairs(bring(tmp_path, [row(image={"path": "b.webp"})]))
    with Image.open(Store(tmp_path / "out").picture(pair.pictures[0])) as stored:
        assert stored.format == "PNG" and stored.getpixel((0, 0)) == (200, 10, 30)


def test_a_picture_linked_into_the_folder_is_taken(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "real").write_bytes(picture())
    (tmp_path / "link.png").symlink_to(tmp_path / "elsewhere" / "real")
    assert bring(tmp_path, [row(image={"path": "link.png"})]).rows == 1


@pytest.mark.parametrize(
    ("content", "format", "where", "problem", "fix"),
    [
        (b"", "rlaif_v", "rows.json", "empty", ""),
        (b" \n", "rlaif_v", "rows.json", "empty", ""),
        (b"[]", "rlaif_v", "rows.json", "empty", ""),
        (b'[\n{"idx": 1,\n"chosen" "x"}]', "rlaif_v", "rows.json, line 3, column 10", "not JSON", "mend"),
        (b'{"idx": 1}\n{"idx": \n', "rlaif_v", "rows.json, line 2", "not JSON", "mend"),
        (b'{\n"data": []}', "rlaif_v", "rows.json", "one object with the keys data", "array"),
        (b"\xff\xfe\x00", "rlaif_v", "rows.json, byte 1", "UTF-8", "JSON"),
        (b"PAR1 and then nothing", "rlaif_v", "rows.json", "Parquet", "fetch"),
        (b"version https://git-lfs.github.com/spec/v1\n", "rlaif_v", "rows.json", "Git LFS", "git lfs pull"),
        ([{**row(), "choosen": "x", "chosen": None}], "rlaif_v", "rows.json", "chosen is not text", "null"),
        ([{"idx": 1, "question": "?", "choosen": "x"}], "rlaif_v", "rows.json", "no key 'chosen'", "did you mean 'choosen'"),
        ([{"image": "a.png", "conversation": []}], "llava", "rows.json", "no key 'conversations'", "mean 'conversation'"),
        ([{**talk(), "image": "b.png"}], "llava", "rows.json", "picture is missing", "images folder"),
    ],
)
def test_a_file_that_is_wrong_as_a_whole_is_told_with_place_problem_and_fix(tmp_path, content, format, where, problem, fix):
    error = refused(tmp_path, content, format)
    assert isinstance(error, DataError)
    assert where in error.where and problem in error.problem and fix in error.fix


def test_a_deeply_nested_file_is_told(tmp_path):
    assert "nested too deep" in refused(tmp_path, b"[" * 100_000).problem


def test_a_file_that_is_not_there_is_told_with_the_nearest(tmp_path):
    (tmp_path / "preferences.json").write_text("[]")
    with pytest.raises(DataError, match="did you mean 'preferences.json'"):
        import_rows(tmp_path / "preference.json", "llava", None, tmp_path / "out")


def test_an_unknown_format_is_told_with_the_nearest(tmp_path):
    with pytest.raises(DataError, match="did you mean 'rlaif_v'"):
        import_rows(tmp_path / "x.json", "rlaifv", None, tmp_path / "out")


def test_a_folder_of_other_things_is_never_written_to(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    assert isinstance(error := refused(tmp_path, [row()]), RunError) and "thesis.tex" in error.problem
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_a_dataset_of_several_parquet_files_is_read_as_one(tmp_path):
    (tmp_path / "data").mkdir()
    for place in (1, 2):
        entry = row(idx=place, image={"bytes": picture(), "path": None})
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([entry]), tmp_path / "data" / f"part-{place}.parquet")
    assert [pair.key for pair in pairs(import_rows(tmp_path / "data", "rlaif_v", None, tmp_path / "out"))] == ["1", "2"]


def test_the_real_pds_pairs_come_back_to_the_byte(shared, tmp_path):
    source = shared / "data" / "pds_dpo"
    done = import_rows(source / "preferences.json", "llava", source, tmp_path / "in")
    assert (done.rows, done.pictures, done.dropped) == (10, 10, [])
    assert [pair.key for pair in pairs(done)] == [f"art-{place}" for place in range(1, 11)]
    export_rows(tmp_path / "in", "llava", tmp_path / "out" / "preferences.json")
    for name in ("preferences.json", *(f"images/art-{place}.jpg" for place in range(1, 11))):
        assert (tmp_path / "out" / name).read_bytes() == (source / name).read_bytes()


def test_the_real_pinterest_rows_come_back_but_for_the_one_without_a_picture(shared, tmp_path):
    source = shared / "data" / "mcm_dpo" / "pinterest"
    done = import_rows(source / "pinterest_train.json", "rlaif_v", None, tmp_path / "in")
    assert the_drop(done) == ("55", "picture is missing", "4ffaa1e71f50f27956d452ce288d5664.png")
    first = export_rows(done.folder, "rlaif_v", tmp_path / "out" / "rows.parquet")
    again = import_rows(first.file, "rlaif_v", None, tmp_path / "again")
    assert [pair.id for pair in pairs(again)] == [pair.id for pair in pairs(done)]
    last = export_rows(again.folder, "rlaif_v", tmp_path / "last")
    given = json.loads((source / "pinterest_train.json").read_text())
    assert json.loads(last.file.read_text()) == [entry for entry in given if entry["idx"] != 55]


def test_a_seam_of_the_table_finds_every_shipped_format():
    from sightline.formats import FORMATS, Format

    assert all(issubclass(FORMATS.find(name), Format) for name in FORMATS)


def test_imported_rows_open_as_pairs_and_as_nothing_else(tmp_path):
    done = bring(tmp_path, [row()])
    with pytest.raises(DataError, match="these rows are pairs, not images"):
        RowFolder.open(done.folder.root, "images")
