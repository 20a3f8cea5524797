"""A folder for `datasets` and the Hub, and its card."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import yaml

from sightline.errors import DataError
from sightline.formats import export_rows, import_rows
from sightline.rows import Dropped, Image, Origin, Pair, Response
from sightline.store.runs import Run
from sightline.store.shards import Store

from .conftest import coloured, folder_of, lay_out, pairs_in

PAINTER = Origin(engine="painter", model="stabilityai/sd | turbo", revision="abc123", seed=7)
POLICY = Origin(engine="policy", model="llava-hf/llava-1.5-7b-hf", revision="def456")


def a_run(root: Path) -> Run:
    """A run with two pairs, one of them of one answer, and rows that were dropped."""
    store = Store(root / "store")
    red, blue = (store.put_picture(coloured(name)) for name in ("a.png", "b.png"))
    pair = Pair(
        id="p1", key="k1", instruction="What is there?", pictures=[red], chosen="A dog.", rejected="", chosen_score=1.5,
        rejected_score=-0.25, chosen_id="r1", rejected_id="r2", chosen_model="policy", rejected_model="careful",
        instruction_id="i1", topic="food", rule="best_worst",
    )  # fmt: skip
    image = {"prompt_id": "q", "prompt": "a dog", "topic": "food", "guidance": 7.0, "index": 0, "origin": PAINTER}
    said = {"instruction_id": "i1", "instruction": "What?", "pictures": [red], "text": "A dog.", "model": "policy", "index": 0}
    rows: dict[str, tuple[list[Any], list[Dropped]]] = {
        "images": ([Image(id="m1", key="k1", picture=red, **image)], []),
        "responses/policy": ([Response(id="r1", key="k1", finish="stop", num_tokens=3, origin=POLICY, **said)], []),
        "pairs": (
            [pair, replace(pair, id="p2", key="k2", pictures=[blue, red], rejected=None, rejected_score=None, rule="best_of_n")],
            [Dropped(key="k3", reason="no pair: answers tie"), Dropped(key="k4", reason="no pair: answers tie")],
        ),
    }
    (root / "run").mkdir()
    run = Run.create(root / "run", "name: here\nseed: 3\n", store.root)
    for step, (held, dropped) in rows.items():
        shards = store.source(step, "test", held, dropped, shard_size=16)
        entry = {"shards": [[shard.bucket, shard.address] for shard in shards], "rows": len(held)}
        run.note_step(step, {**entry, "dropped": {"no pair: answers tie": 2} if dropped else {}, "wall_seconds": 1.0})
    return run


def read_card(folder: Path) -> tuple[dict[str, Any], str]:
    """Front matter and text."""
    _, front, text = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), text


def test_the_folder_opens_as_a_dataset_whose_pictures_are_decoded(tmp_path):
    import datasets

    done = export_rows(a_run(tmp_path), "datasets", tmp_path / "out")
    assert (done.rows, done.pictures) == (2, 2)
    rows = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))["train"].sort("id")
    assert rows.features["images"] == datasets.List(datasets.Image())
    assert [len(images) for images in rows["images"]] == [1, 2]
    assert rows[0]["images"][0].getpixel((0, 0)) == (255, 0, 0)
    assert rows[0]["chosen"] == [{"role": "assistant", "content": [{"type": "text", "text": "A dog."}]}]
    assert rows["rejected"][1] is None
    assert (rows[0]["chosen_score"], rows[0]["rejected_model"], rows[0]["rule"]) == (1.5, "careful", "best_worst")


def test_the_folder_comes_back_as_the_runs_rows(tmp_path):
    run = a_run(tmp_path)
    export_rows(run, "datasets", tmp_path / "out")
    back = import_rows(tmp_path / "out", "datasets", None, tmp_path / "back")
    assert pairs_in(back) == sorted(run.rows("pairs"), key=lambda pair: pair.id)


def test_the_card_says_who_made_what_by_which_rule_and_what_was_dropped(tmp_path):
    from huggingface_hub import DatasetCard

    done = export_rows(a_run(tmp_path), "datasets", tmp_path / "dogs")
    front, text = read_card(tmp_path / "dogs")
    assert front["configs"] == [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}]
    assert front["size_categories"] == ["n<1K"] and front["pretty_name"] == "dogs"
    assert DatasetCard.load(tmp_path / "dogs" / "README.md").data.to_dict() == front
    for line in (
        "2 rows with 2 pictures",
        "- name: `here`",
        "- seed: `3`",
        "| images | painter | stabilityai/sd \\| turbo | abc123 |",
        "| responses/policy | policy | llava-hf/llava-1.5-7b-hf | def456 |",
        "| best_worst | 1 |",
        "| best_of_n | 1 |",
        "| policy | 2 | 0 |",
        "| careful | 0 | 2 |",
        "| pairs | 2 | 2 no pair: answers tie |",
        "| images | 1 | none |",
    ):
        assert line in text, line
    assert any("license:" in line and "hf upload" in line for line in done.lines())


def test_the_licence_is_left_to_the_user(tmp_path):
    export_rows(a_run(tmp_path), "datasets", tmp_path / "out")
    front, _ = read_card(tmp_path / "out")
    assert "license" not in front and "\n# license: fill in" in (tmp_path / "out" / "README.md").read_text()


def test_the_card_of_imported_rows_names_their_file_and_what_was_refused(tmp_path):
    record = {"images": ["a.png"], "prompt": "What?", "chosen": "A.", "rejected": "B."}
    (lay_out(tmp_path) / "mine.json").write_text(json.dumps([record, {**record, "images": ["gone.png"]}]))
    done = import_rows(tmp_path / "mine.json", "trl", None, tmp_path / "in")
    export_rows(done.folder, "datasets", tmp_path / "out")
    _, text = read_card(tmp_path / "out")
    for line in (
        "- source: `mine.json`",
        "- format: `trl`",
        "| imported from trl | 1 |",
        "| import | 1 | 1 picture is missing |",
    ):
        assert line in text, line


def test_a_file_is_no_folder(tmp_path):
    run = a_run(tmp_path)
    with pytest.raises(DataError, match="is a folder, not a file"):
        export_rows(run, "datasets", tmp_path / "out.parquet")


def test_a_row_of_no_answer_is_dropped(tmp_path):
    export_rows(folder_of(tmp_path / "s", [one(tmp_path)]), "datasets", tmp_path / "out")
    (file,) = (tmp_path / "out" / "data").iterdir()
    table = pyarrow.parquet.read_table(file).to_pylist()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([*table, {**table[0], "chosen": None, "rejected": None}]), file)
    done = import_rows(tmp_path / "out", "datasets", None, tmp_path / "back")
    assert [row.reason for row in done.dropped] == ["row has neither a chosen nor a rejected answer"]


def one(folder: Path) -> Pair:
    name = Store(folder / "s").put_picture(coloured("a.png"))
    return Pair(id="p", key="k", instruction="What?", pictures=[name], chosen="A.", rejected="B.", rule="r")
