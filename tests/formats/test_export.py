import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sightline.errors import DataError, RunError
from sightline.files.records import read_records, write_records
from sightline.formats import FORMATS, export_rows, import_rows
from sightline.rows import Pair
from sightline.store.folders import RowFolder
from sightline.store.runs import Run
from sightline.store.shards import Store


def stored(root: Path, colour: str) -> str:
    path = root / f"{colour}.png"
    root.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (3, 3), colour).save(path)
    name = Store(root).put_picture(path.read_bytes())
    path.unlink()
    return name


def made(root: Path) -> list[Pair]:
    """Pairs as a run makes them, two of one key."""
    first = Pair(
        id="p1",
        key="the/key: 1",
        instruction="What is there?",
        pictures=[stored(root, "red")],
        chosen="A dog.",
        rejected="",
        chosen_score=1.5,
        rejected_score=-0.25,
        chosen_id="r1",
        rejected_id="r2",
        chosen_model="policy",
        rejected_model="careful",
        instruction_id="i1",
        topic="food",
        rule="best_worst",
    )
    return [first, replace(first, id="p2", pictures=[stored(root, "blue")], topic=None)]


def folder_of(root: Path) -> RowFolder:
    return RowFolder.write(root, "pairs", made(root), {"format": "none"})


def read_back(folder: RowFolder) -> list[Pair]:
    return sorted((pair for shard in folder.shards for pair in Store(folder.root).read(shard)), key=lambda pair: pair.id)


@pytest.mark.parametrize(
    ("format", "name"), [("llava", ""), ("llava", "p.jsonl"), ("rlaif_v", ""), ("rlaif_v", "p.jsonl"), ("rlaif_v", "p.parquet")]
)
def test_pairs_of_a_run_come_back_whole_through_either_format(tmp_path, format, name):
    folder = folder_of(tmp_path / "here")
    done = export_rows(folder, format, tmp_path / "out" / name)
    assert (done.rows, done.pictures) == (2, 2)
    assert read_back(import_rows(done.file, format, None, tmp_path / "back").folder) == made(tmp_path / "here")


def test_a_llava_record_is_what_llavas_trainer_reads(tmp_path):
    done = export_rows(folder_of(tmp_path / "here"), "llava", tmp_path / "out")
    record = json.loads(done.file.read_text())[0]
    assert record["id"] == "the/key: 1"
    assert record["conversations"] == [{"from": "human", "value": "<image>\nWhat is there?"}, {"from": "gpt", "value": "A dog."}]
    assert record["rejected_conversations"][1] == {"from": "gpt", "value": ""}
    with Image.open(done.file.parent / record["image"]) as picture:
        assert picture.getpixel((0, 0)) == (255, 0, 0)


def test_a_rlaif_v_row_says_the_same_in_its_columns_and_in_text(tmp_path):
    done = export_rows(folder_of(tmp_path / "here"), "rlaif_v", tmp_path / "out")
    record = json.loads(done.file.read_text())[1]
    texts = {"question": "What is there?", "chosen": "A dog.", "rejected": ""}
    assert {name: record[name] for name in texts} == texts == json.loads(record["text"])
    with Image.open(done.file.parent / record["image"]["path"]) as picture:
        assert picture.getpixel((0, 0)) == (0, 0, 255)
    assert record["image_path"] == record["image"]["path"]


def test_parquet_opens_as_a_dataset_with_pictures(tmp_path):
    import datasets

    done = export_rows(folder_of(tmp_path / "here"), "rlaif_v", tmp_path / "out" / "pairs.parquet")
    data = datasets.Dataset.from_parquet(str(done.file), cache_dir=str(tmp_path / "cache")).cast_column("image", datasets.Image())
    assert data[0]["image"].getpixel((0, 0)) == (255, 0, 0)


def test_the_pairs_of_a_run_are_written(tmp_path):
    store = Store(tmp_path / "store")
    rows = made(store.root)
    (tmp_path / "run").mkdir()
    run = Run.create(tmp_path / "run", "name: here\n", store.root)
    shards = store.source("pairs", "test", rows, [], shard_size=16)
    run.note_step("pairs", {"shards": [[shard.bucket, shard.address] for shard in shards]})
    assert export_rows(tmp_path / "run", "llava", tmp_path / "out").rows == 2


def test_what_changed_since_the_import_is_what_is_written(tmp_path):
    (tmp_path / "a.png").write_bytes(Store(tmp_path / "s").picture(stored(tmp_path / "s", "red")).read_bytes())
    texts = {"question": "What?", "chosen": "A dog.", "rejected": "A cat."}
    given = {"idx": 1, "image": {"path": "a.png"}, **texts, "text": json.dumps(texts), "ds_name": "mine"}
    (tmp_path / "rows.json").write_text(json.dumps([given]))
    done = import_rows(tmp_path / "rows.json", "rlaif_v", None, tmp_path / "in")
    changed = replace(read_back(done.folder)[0], chosen="Two dogs.")
    folder = RowFolder.write(tmp_path / "in", "pairs", [changed], {"format": "none"})
    (record,) = json.loads(export_rows(folder, "rlaif_v", tmp_path / "out").file.read_text())
    assert record["chosen"] == json.loads(record["text"])["chosen"] == "Two dogs."
    assert record["ds_name"] == "mine"


def test_a_pair_of_two_pictures_is_written_by_llava_and_refused_by_rlaif_v(tmp_path):
    root = tmp_path / "here"
    pair = replace(made(root)[0], pictures=[stored(root, "red"), stored(root, "blue")])
    folder = RowFolder.write(root, "pairs", [pair], {"format": "none"})
    done = export_rows(folder, "llava", tmp_path / "out")
    assert read_back(import_rows(done.file, "llava", None, tmp_path / "back").folder) == [pair]
    with pytest.raises(DataError, match="2 pictures"):
        export_rows(folder, "rlaif_v", tmp_path / "other")


def test_rows_that_a_format_does_not_hold_are_refused(tmp_path):
    with pytest.raises(DataError, match="it holds pairs, not images"):
        export_rows(folder_of(tmp_path / "here"), "llava", tmp_path / "out", step="images")


def test_a_container_that_a_format_is_not_written_in_is_refused(tmp_path):
    with pytest.raises(DataError, match="not written as .parquet"):
        export_rows(folder_of(tmp_path / "here"), "llava", tmp_path / "out.parquet")


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="no run is here"):
        export_rows(tmp_path, "llava", tmp_path / "out")


def test_no_picture_is_written_outside_the_folder(tmp_path):
    root = tmp_path / "here"
    turns = [{"from": "human", "value": ""}, {"from": "gpt", "value": ""}]
    record = {"image": "../../gone.png", "conversations": turns, "rejected_conversations": turns}
    pair = replace(made(root)[0], record=json.dumps({"format": "llava", "row": 1, "record": record}))
    done = export_rows(RowFolder.write(root, "pairs", [pair], {"format": "none"}), "llava", tmp_path / "deep" / "er" / "out")
    assert json.loads(done.file.read_text())[0]["image"] == "images/gone.png"
    assert not (tmp_path / "deep" / "gone.png").exists()


def test_imported_rows_are_written_in_the_order_of_their_file_whichever_shards_hold_them(tmp_path):
    Image.new("RGB", (3, 3)).save(tmp_path / "a.png")
    given = [{"idx": at, "image": "a.png", "question": "?", "chosen": "a", "rejected": "b"} for at in range(40)]
    (tmp_path / "rows.json").write_text(json.dumps(given))
    store, pairs = Store(tmp_path / "in"), read_back(import_rows(tmp_path / "rows.json", "rlaif_v", None, tmp_path / "in").folder)
    (tmp_path / "run").mkdir()
    run = Run.create(tmp_path / "run", "name: here\n", store.root)
    shards = store.source("pairs", "test", pairs, [], shard_size=4)
    run.note_step("pairs", {"shards": [[shard.bucket, shard.address] for shard in shards]})
    assert len(shards) > 4
    assert json.loads(export_rows(run, "rlaif_v", tmp_path / "out").file.read_text()) == given


def long_records(count: int) -> Iterator[dict[str, Any]]:
    """The column `late` comes with the last record only."""
    for at in range(count):
        yield {"idx": at, "text": f"{at} " * 300, **({"late": "now"} if at == count - 1 else {})}


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "rows.parquet"])
def test_a_large_file_is_written_without_being_held(tmp_path, name):
    write_records(tmp_path / "warm.parquet", long_records(1))  # what is imported stays
    tracemalloc.start()
    write_records(tmp_path / name, long_records(8000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < sum(len(record["text"]) for record in long_records(8000)) / 4
    found = list(read_records(tmp_path / name))
    assert [record["idx"] for record in found] == list(range(8000)) and found[-1]["late"] == "now"


def test_a_json_array_is_laid_out_as_json_does(tmp_path):
    records = [{"a": "two\nlines", "b": [1, {"c": None}]}, {}]
    write_records(tmp_path / "rows.json", iter(records))
    assert (tmp_path / "rows.json").read_text() == json.dumps(records, indent=2)


@pytest.mark.parametrize("values", [[1, "one"], [{}], [2**70]])
def test_values_that_no_column_holds_are_told_and_no_file_is_left(tmp_path, values):
    with pytest.raises(DataError, match="do not fit into columns"):
        write_records(tmp_path / "rows.parquet", ({"value": value} for value in values))
    assert list(tmp_path.iterdir()) == []


def test_the_help_names_every_format(sightline):
    for verb in ("import", "export"):
        shown = " ".join(sightline(verb, "--help", COLUMNS="400").stdout.split())
        assert all(name in shown for name in FORMATS), verb


def test_pictures_of_one_name_keep_apart_and_a_shared_one_is_written_once(tmp_path):
    root = tmp_path / "here"
    pair = made(root)[0]
    red, blue = pair.pictures[0], stored(root, "blue")
    pairs = [replace(pair, id=str(at), pictures=[name]) for at, name in enumerate((red, blue, red, blue))]
    done = export_rows(RowFolder.write(root, "pairs", pairs, {"format": "none"}), "llava", tmp_path / "out")
    paths = [record["image"] for record in json.loads(done.file.read_text())]
    assert paths[0] == paths[2] != paths[1] == paths[3] and done.pictures == 2
    written = [Store(root).picture(name).read_bytes() for name in (red, blue)]
    assert [(done.file.parent / path).read_bytes() for path in paths[:2]] == written
