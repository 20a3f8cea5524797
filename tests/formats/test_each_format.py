"""What holds for every format: its documented record, files that are wrong, and notes of ours that were spoilt."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from sightline.errors import DataError
from sightline.store.shards import Store

from .conftest import coloured, pairs_in
from .sound import ASKS, BAD, FORMATS, GOOD, SOUND, bring, given_back, written


@pytest.mark.parametrize("format", FORMATS)
def test_the_documented_record_becomes_the_pair_and_comes_back(tmp_path, format):
    record, _ = SOUND[format]
    done = bring(tmp_path, [record], format)
    (pair,) = pairs_in(done)
    assert (pair.instruction, pair.chosen, pair.rejected) == (ASKS, GOOD, BAD)
    assert Store(tmp_path / "in").picture(pair.pictures[0]).read_bytes() == coloured("a.png")
    assert given_back(done, format, tmp_path) == [record]
    assert (tmp_path / "back" / "a.png").read_bytes() == coloured("a.png")


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../secret.png", "picture's path leaves the images folder"),
        ("gone.png", "picture is missing"),
        ("cut.jpg", "picture does not decode"),
        ("moving.gif", "picture is animated"),
        ("huge.png", "picture is larger than 50 megapixels"),
    ],
)
def test_a_picture_that_cannot_be_taken_is_a_named_drop(tmp_path, unfit, format, path, reason):
    for place in unfit.iterdir():
        (tmp_path / place.name).symlink_to(place)
    record, column = SOUND[format]
    other = [path] if isinstance(record[column], list) else path
    done = bring(tmp_path, [record, {**record, "id": "bad", column: other}], format)
    assert done.rows == 1
    assert [(row.key, row.reason, row.detail.partition(":")[0]) for row in done.dropped] == [("bad", reason, path)]


def without(record: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The record with each key that it needs misspelt in turn."""
    for name in record:
        if name not in ("id", "models", "img_path"):
            yield name, {f"{key}s" if key == name else key: value for key, value in record.items()}


@pytest.mark.parametrize(("format", "name"), [(format, name) for format in FORMATS for name, _ in without(SOUND[format][0])])
def test_a_key_that_is_missing_is_told_with_the_nearest(tmp_path, format, name):
    misspelt = dict(without(SOUND[format][0]))[name]
    with pytest.raises(DataError) as caught:
        bring(tmp_path, [misspelt], format)
    assert f"no key '{name}'" in caught.value.problem and f"did you mean '{name}s'" in caught.value.fix


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_that_is_not_utf_8_or_cut_off_is_told_with_the_place(tmp_path, format):
    with pytest.raises(DataError, match="rows.json, byte 4: this is not UTF-8 text"):
        bring(tmp_path, b'[{"\xff": 1}]', format)
    with pytest.raises(DataError, match="rows.json, line 1, column .*: this is not JSON"):
        bring(tmp_path, json.dumps([SOUND[format][0]]).encode()[:-9], format)


@pytest.mark.parametrize("format", FORMATS)
def test_a_record_that_comes_twice_gives_pairs_of_different_ids_and_comes_back_twice(tmp_path, format):
    record = {**SOUND[format][0], "id": "same"}
    done = bring(tmp_path, [record, record], format)
    first, second = pairs_in(done)
    assert first.key == second.key == "same" and first.id != second.id
    assert given_back(done, format, tmp_path) == [record, record]


@pytest.mark.parametrize(
    "noted",
    [
        *("{", "[]", '{"chosen_score": "high"}', '{"chosen_score": NaN}', '{"id": 3}', '{"record": "{}"}', '{"record": "["}'),
        json.dumps({"record": json.dumps({"format": "llava", "row": 2**63, "record": {}})}),
    ],
)
def test_a_note_of_ours_that_was_spoilt_is_a_named_drop(tmp_path, noted):
    record, _ = SOUND["swift"]
    (dropped,) = bring(tmp_path, [record, {**record, "sightline": noted}], "swift").dropped
    assert "sightline" in dropped.reason or dropped.reason == "id is not text"


@pytest.mark.parametrize("format", FORMATS)
def test_a_record_that_was_spoilt_on_its_way_is_told_with_its_row(tmp_path, format):
    spoilt = json.dumps({"format": format, "row": 1, "record": {"id": "k"}})
    with pytest.raises(DataError, match="pair k: the record that it was imported from is broken: .*"):
        written(tmp_path, format, record=spoilt, chosen_score=2.0, rejected_score=1.0)
